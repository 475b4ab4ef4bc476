package backend

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"gatepost/proxy/nowait"
)

// socket is a TCP or UNIX connection that reads and writes past the scheduler's account (package nowait). The runtime
// still waits for it, and holds its descriptor meanwhile. One goroutine may read while another writes.
type socket struct {
	net.Conn
	raw    syscall.RawConn
	reads  transfer
	writes transfer
	behind []byte // goes with writes.p

	questions func(fd uintptr) bool // converse's, allocated once
	asked     bool
	looks     func(fd uintptr) // of look, allocated once
	seen      transfer
}

// transfer is a system call in the making, with the function that makes it as a value that is allocated once.
type transfer struct {
	p     []byte
	n     int
	errno syscall.Errno
	call  func(fd uintptr) bool
}

// plain makes reads and writes of a connection without TLS cheap.
func plain(nc net.Conn) net.Conn {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nc
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nc
	}
	s := &socket{Conn: nc, raw: raw}
	s.reads.call = func(fd uintptr) bool {
		s.reads.n, s.reads.errno = nowait.Read(fd, s.reads.p)
		return s.reads.errno != syscall.EAGAIN
	}
	s.writes.call = s.writeAll
	s.questions = func(fd uintptr) bool {
		if !s.asked {
			s.asked = true
			s.writes.n, s.writes.errno = nowait.Write(fd, s.writes.p)
			return s.writes.n < len(s.writes.p) // else wait
		}
		return s.reads.call(fd)
	}
	s.looks = func(fd uintptr) {
		var one [1]byte
		s.seen.n, s.seen.errno = nowait.Peek(fd, one[:])
	}
	return s
}

// converse implements converser. The runtime gets ready to wait before the question leaves, so the answer cannot come
// unnoticed in between.
func (s *socket) converse(question, answer []byte) (written, read int, err error) {
	s.asked, s.writes.p, s.reads.p = false, question, answer
	s.writes.n, s.reads.n, s.reads.errno = 0, 0, 0
	err = s.raw.Read(s.questions)
	s.writes.p, s.reads.p = nil, nil
	switch {
	case err != nil || s.writes.n < len(question):
		return s.writes.n, 0, err
	case s.reads.errno != 0:
		return s.writes.n, 0, os.NewSyscallError("read", s.reads.errno)
	case s.reads.n == 0:
		return s.writes.n, 0, io.EOF
	}
	return s.writes.n, s.reads.n, nil
}

// SyscallConn lets others look at the descriptor.
func (s *socket) SyscallConn() (syscall.RawConn, error) { return s.raw, nil }

func (s *socket) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.reads.p = p
	err := s.raw.Read(s.reads.call)
	s.reads.p = nil
	switch {
	case err != nil:
		return 0, err
	case s.reads.errno != 0:
		return 0, os.NewSyscallError("read", s.reads.errno)
	case s.reads.n == 0:
		return 0, io.EOF
	}
	return s.reads.n, nil
}

func (s *socket) Write(p []byte) (int, error) { return s.writeBoth(p, nil) }

// writeBoth writes p and what stands behind it, in one go if the socket's buffer takes that.
func (s *socket) writeBoth(p, behind []byte) (int, error) {
	if len(p) == 0 {
		p, behind = behind, nil
	}
	if len(p) == 0 {
		return 0, nil
	}
	s.writes.p, s.behind, s.writes.n, s.writes.errno = p, behind, 0, 0
	err := s.raw.Write(s.writes.call)
	s.writes.p, s.behind = nil, nil
	switch {
	case err != nil:
		return s.writes.n, err
	case s.writes.errno != 0:
		return s.writes.n, os.NewSyscallError("write", s.writes.errno)
	}
	return s.writes.n, nil
}

// writeAll is done when all is written, or nothing more ever will be; else there has to be room first.
func (s *socket) writeAll(fd uintptr) bool {
	w := &s.writes
	for total := len(w.p) + len(s.behind); w.n < total; {
		n := 0
		switch past := w.n - len(w.p); {
		case past >= 0:
			n, w.errno = nowait.Write(fd, s.behind[past:])
		case len(s.behind) > 0:
			n, w.errno = nowait.WriteBoth(fd, w.p[w.n:], s.behind)
		default:
			n, w.errno = nowait.Write(fd, w.p[w.n:])
		}
		w.n += n
		if w.errno != 0 {
			again := w.errno == syscall.EAGAIN
			if again {
				w.errno = 0
			}
			return !again
		}
	}
	return true
}

// below is the connection of the operating system: without TLS, and as package net knows it.
func below(nc net.Conn) net.Conn {
	if secured, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = secured.NetConn()
	}
	if s, ok := nc.(*socket); ok {
		nc = s.Conn
	}
	return nc
}

// peek looks, without waiting, whether bytes or the end of the stream are there to be read. Only plain sockets can tell;
// for others (TLS) the socket below is asked: bytes there are at least no silence.
func peek(nc net.Conn) (pending, eof bool) {
	if secured, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = secured.NetConn()
	}
	s, ok := nc.(*socket)
	if !ok {
		return false, false
	}
	err := s.raw.Control(s.looks)
	switch {
	case err != nil:
		return false, true
	case s.seen.errno == syscall.EAGAIN:
		return false, false
	}
	return s.seen.n > 0, s.seen.n <= 0
}

// transparentDialer connects from the client's own address. The port is the kernel's choice: the client's may still be in
// use from its last connection.
func transparentDialer(client netip.Addr) (*net.Dialer, error) {
	return &net.Dialer{
		LocalAddr: &net.TCPAddr{IP: client.AsSlice()},
		Control: func(network, _ string, c syscall.RawConn) error {
			var sockErr error
			err := c.Control(func(fd uintptr) {
				level, option := unix.SOL_IP, unix.IP_TRANSPARENT
				if network == "tcp6" {
					level, option = unix.SOL_IPV6, unix.IPV6_TRANSPARENT
				}
				if sockErr = unix.SetsockoptInt(int(fd), level, option, 1); sockErr == nil {
					sockErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
				}
			})
			return errors.Join(err, sockErr)
		},
	}, nil
}
