package proxy

import (
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"gatepost/proxy/nowait"
)

// descriptor is a conn whose descriptor is all there is, as it waits: Go's net package knows nothing of it. A
// [net.Conn] of that takes 540 bytes more of each client, half of them outside of the heap. What waits, waits in the
// lot, as sessions do.
type descriptor conn

var _ net.Conn = (*descriptor)(nil)

// own is how a connection waits whose descriptor is all there is.
func (c *conn) own() net.Conn { return (*descriptor)(c) }

// Read waits for input until the deadline.
func (d *descriptor) Read(p []byte) (int, error) {
	for {
		if !d.dry {
			n, err := readNow(d.fd, p)
			if d.dry = n < len(p); err != errAgain {
				return n, err
			}
		}
		d.dry = false
		if !d.session.await(syscall.EPOLLIN|syscall.EPOLLRDHUP, d.readUntil) {
			return 0, os.ErrDeadlineExceeded
		}
	}
}

// Write waits for room until the deadline.
func (d *descriptor) Write(p []byte) (int, error) {
	for done := 0; ; {
		n, err := syscall.Write(d.fd, p[done:])
		switch done += max(n, 0); {
		case done == len(p):
			return done, nil
		case err == nil || err == syscall.EINTR:
			continue
		case err != syscall.EAGAIN:
			return done, os.NewSyscallError("write", err)
		case !d.session.await(syscall.EPOLLOUT, d.writeUntil):
			return done, os.ErrDeadlineExceeded
		}
	}
}

// await keeps its goroutine until the socket is ready; false: the deadline came first, or the proxy has lost patience.
func (s *session) await(events uint32, deadline moment) bool {
	limit := maxWait
	if deadline != 0 {
		limit = deadline.until()
	}
	l := s.server.lot.(*lot) // no other parker has own descriptors
	return limit > 0 && l.await(s, events, limit) == wakeInput
}

// maxWait bounds waits without a deadline; there are none but crypto/tls's last alert.
const maxWait = 5 * time.Second

// CloseWrite tells the client that nothing more comes.
func (d *descriptor) CloseWrite() error { return syscall.Shutdown(d.fd, syscall.SHUT_WR) }

// Close may be called once.
func (d *descriptor) Close() error {
	if errno := nowait.Close(d.fd); errno != 0 {
		return os.NewSyscallError("close", errno)
	}
	return nil
}

// LocalAddr implements [net.Conn].
func (d *descriptor) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(d.session.info.Local()) }

// RemoteAddr implements [net.Conn].
func (d *descriptor) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(d.session.info.Peer()) }

// SetDeadline implements [net.Conn], for later reads and writes only.
func (d *descriptor) SetDeadline(t time.Time) error {
	d.readUntil, d.writeUntil = deadlineAt(t), deadlineAt(t)
	return nil
}

// SetReadDeadline is as SetDeadline.
func (d *descriptor) SetReadDeadline(t time.Time) error { d.readUntil = deadlineAt(t); return nil }

// SetWriteDeadline is as SetDeadline.
func (d *descriptor) SetWriteDeadline(t time.Time) error { d.writeUntil = deadlineAt(t); return nil }

func deadlineAt(t time.Time) moment {
	if t.IsZero() {
		return 0
	}
	return momentOf(t)
}

// descriptorOf returns the descriptor of a connection of Go's, -1 if it has none.
func descriptorOf(c net.Conn) int {
	number := -1
	if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			raw.Control(func(fd uintptr) { number = int(fd) })
		}
	}
	return number
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

// writeSoon is writeNow for what may leave together with the next write.
func writeSoon(fd int, p []byte) int {
	n, _ := nowait.WriteMore(uintptr(fd), p)
	return n
}

// writeNow writes as much as the socket's buffer takes. Errors are left for the write that waits to find.
func writeNow(fd int, p []byte) int {
	if len(p) == 0 {
		return 0
	}
	n, _ := nowait.Write(uintptr(fd), p)
	return n
}
