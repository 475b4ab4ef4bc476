package proxy

import (
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"gatepost/proxy/nowait"
)

// newConn wraps a connection that was just accepted.
func newConn(c net.Conn, writeTimeout time.Duration, killed *atomic.Bool) *conn {
	wrapped := &conn{Conn: c, fd: -1, writeTimeout: writeTimeout, killed: killed}
	if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			raw.Control(func(fd uintptr) { wrapped.fd = int(fd) })
		}
	}
	return wrapped
}

// readNow reads what has arrived at a non-blocking socket.
func readNow(fd int, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, errno := nowait.Read(uintptr(fd), p)
	switch {
	case errno == syscall.EAGAIN:
		return 0, errAgain
	case errno != 0:
		return 0, os.NewSyscallError("read", errno)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// writeNow writes as much as the socket's buffer takes. Errors are left for the write that waits to find.
func writeNow(fd int, p []byte) int {
	if len(p) == 0 {
		return 0
	}
	n, _ := nowait.Write(uintptr(fd), p)
	return n
}
