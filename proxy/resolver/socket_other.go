//go:build !linux

package resolver

import "net"

// socket is a connected UDP socket.
type socket struct{ net.Conn }

func newSocket(conn net.Conn) *socket { return &socket{conn} }

// ask sends a question, unless that is nil, and reads one datagram.
func (s *socket) ask(question, reply []byte) (n int, err error) {
	if question != nil {
		if _, err := s.Write(question); err != nil {
			return 0, err
		}
	}
	return s.Read(reply)
}
