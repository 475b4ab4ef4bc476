//go:build !linux

package proxy

import "net"

// descriptor is a conn whose descriptor is all there is; other systems have none.
type descriptor struct{ net.Conn }

func (c *conn) own() net.Conn { panic("proxy: a descriptor without a connection") }

func descriptorOf(net.Conn) int { return -1 }

func readNow(int, []byte) (int, error) { return 0, errAgain }

func writeNow(int, []byte) int { return 0 }

func writeSoon(int, []byte) int { return 0 }

func (s *Server) accepter(l net.Listener) func() (arrival, error) { return acceptConn(l) }

func bare(l net.Listener) (net.Listener, error) { return l, nil }
