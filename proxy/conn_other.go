//go:build !linux

package proxy

import (
	"net"
	"sync/atomic"
	"time"
)

// newConn wraps a connection that was just accepted. Without epoll a goroutine waits for input.
func newConn(c net.Conn, writeTimeout time.Duration, killed *atomic.Bool) *conn {
	return &conn{Conn: c, fd: -1, writeTimeout: writeTimeout, killed: killed}
}

func readNow(int, []byte) (int, error) { return 0, errAgain }

func writeNow(int, []byte) int { return 0 }
