package proxy

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"

	"gatepost/proxy/nowait"
)

// bareListener gives out bare descriptors. It is a listener of Go's as well, with a second descriptor of the same socket
// to accept from: that of net.TCPListener lets nobody else read.
type bareListener struct {
	*net.TCPListener
	file *os.File
	raw  syscall.RawConn
	// at is what clients connect to, if there is only one such address: to ask for it is one of the 14 system calls of a
	// session that is refused at RCPT. Not valid: the listener takes connections to any address of the machine.
	at netip.AddrPort

	accepted accepted                    // owned by whoever accepts, as is accept
	accept   func(listener uintptr) bool // acceptOne
}

// accepted is what the latest accept4 came to. Were they variables of a callback, each connection would cost four
// allocations more.
type accepted struct {
	fd    int
	peer  netip.AddrPort
	errno syscall.Errno
}

// bare prepares a listener. Its connections inherit TCP_NODELAY, which Go would set on each with a system call.
func bare(l net.Listener) (net.Listener, error) {
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return l, nil
	}
	file, err := tcp.File()
	if err != nil {
		return nil, err
	}
	b := &bareListener{TCPListener: tcp, file: file}
	b.accept = b.acceptOne
	if at := addrPort(tcp.Addr()); !at.Addr().IsUnspecified() {
		b.at = at
	}
	if b.raw, err = file.SyscallConn(); err == nil {
		err = b.writeAtOnce()
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return b, nil
}

func (b *bareListener) writeAtOnce() (failed error) {
	err := b.raw.Control(func(fd uintptr) {
		failed = os.NewSyscallError("setsockopt", syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1))
	})
	return errors.Join(err, failed)
}

// Close closes both descriptors: the socket listens as long as there is one.
func (b *bareListener) Close() error { return errors.Join(b.file.Close(), b.TCPListener.Close()) }

// accepter returns what takes connections from a listener: bare descriptors, if there is a lot to wait in.
func (s *Server) accepter(l net.Listener) func() (arrival, error) {
	if _, epoll := s.lot.(*lot); epoll {
		if b, ok := l.(*bareListener); ok {
			return b.acceptDescriptor
		}
	}
	return acceptConn(l)
}

func (b *bareListener) acceptDescriptor() (a arrival, err error) {
	closed := b.raw.Read(b.accept)
	switch {
	case closed != nil:
		return arrival{}, net.ErrClosed
	case b.accepted.errno != 0:
		return arrival{}, os.NewSyscallError("accept4", b.accepted.errno)
	}
	a.fd, a.peer, a.local = b.accepted.fd, b.accepted.peer, b.at
	if b.at.IsValid() {
		return a, nil
	}
	at, err := syscall.Getsockname(a.fd)
	if err != nil {
		syscall.Close(a.fd)
		return arrival{}, os.NewSyscallError("getsockname", err)
	}
	a.local = socketAddr(at)
	return a, nil
}

// acceptOne leaves a connection in b.accepted; false: there is none.
func (b *bareListener) acceptOne(listener uintptr) bool {
	b.accepted.fd, b.accepted.peer, b.accepted.errno = nowait.Accept(listener)
	return b.accepted.errno != syscall.EAGAIN
}

// socketAddr is an address of TCP, IPv4 as such; zones mean nothing to others.
func socketAddr(a syscall.Sockaddr) netip.AddrPort {
	switch a := a.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *syscall.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}
