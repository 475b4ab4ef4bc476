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

	questions func(fd uintptr) bool // converse's, allocated once
	asked     bool
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
	s.writes.call = func(fd uintptr) bool {
		s.writes.n, s.writes.errno = nowait.Write(fd, s.writes.p)
		return true
	}
	s.questions = func(fd uintptr) bool {
		if !s.asked {
			s.asked = true
			s.writes.call(fd)
			return s.writes.n < len(s.writes.p) // else wait
		}
		return s.reads.call(fd)
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

// Write leaves what the socket's buffer does not take at once to the connection, and errors for it to find.
func (s *socket) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.writes.p = p
	err := s.raw.Write(s.writes.call)
	s.writes.p = nil
	if err != nil {
		return 0, err
	}
	if s.writes.n == len(p) {
		return len(p), nil
	}
	n, err := s.Conn.Write(p[s.writes.n:])
	return s.writes.n + n, err
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
	sc, ok := below(nc).(syscall.Conn)
	if !ok {
		return false, false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false, true
	}
	var n int
	var errno syscall.Errno
	err = raw.Control(func(fd uintptr) {
		var one [1]byte
		n, errno = nowait.Peek(fd, one[:])
	})
	switch {
	case err != nil:
		return false, true
	case errno == syscall.EAGAIN:
		return false, false
	}
	return n > 0, n <= 0
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
