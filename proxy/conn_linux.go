package proxy

import (
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
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
	for {
		n, err := syscall.Read(fd, p)
		switch {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return 0, errAgain
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// writeNow writes as much as the socket's buffer takes. Errors are left for the write that waits to find.
func writeNow(fd int, p []byte) int {
	for {
		n, err := syscall.Write(fd, p)
		switch {
		case err == syscall.EINTR:
		case err != nil || n < 0:
			return 0
		default:
			return n
		}
	}
}
