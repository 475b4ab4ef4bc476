// Package nowait has system calls that cannot block, past the scheduler's account of those that may.
//
// Before each system call the scheduler is told that the thread may be gone for long, and a watcher looks every 20 µs
// whether another has to take its place: a proxy that does little else kept that watcher awake all the time, which
// was measured to cost 8 to 13 % of its processor time. A read or write of a non-blocking socket takes a few µs. One
// accounted call a session is enough to keep it awake: the accept and the close of a client's socket took 5 % alone.
package nowait

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"unsafe"
)

// Accept takes a connection from a non-blocking listener, as a non-blocking socket that no child inherits; EAGAIN if there
// is none. IPv4 addresses are such, and zones mean nothing to others.
func Accept(listener uintptr) (fd int, from netip.AddrPort, errno syscall.Errno) {
	var address syscall.RawSockaddrAny
	for {
		size := uint32(syscall.SizeofSockaddrAny)
		n, _, errno := syscall.RawSyscall6(syscall.SYS_ACCEPT4, listener, uintptr(unsafe.Pointer(&address)), uintptr(unsafe.Pointer(&size)),
			syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case 0:
			return int(n), addrPort(&address), 0
		case syscall.EINTR:
		default:
			return -1, from, errno
		}
	}
}

func addrPort(a *syscall.RawSockaddrAny) netip.AddrPort {
	switch a.Addr.Family {
	case syscall.AF_INET:
		a := (*syscall.RawSockaddrInet4)(unsafe.Pointer(a))
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), bigEndian(&a.Port))
	case syscall.AF_INET6:
		a := (*syscall.RawSockaddrInet6)(unsafe.Pointer(a))
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), bigEndian(&a.Port))
	}
	return netip.AddrPort{}
}

// bigEndian reads a port as the kernel writes it.
func bigEndian(port *uint16) uint16 {
	return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(port))[:])
}

// Socket makes a non-blocking TCP socket that no child inherits, for IPv6 or IPv4.
func Socket(v6 bool) (fd int, errno syscall.Errno) {
	family := syscall.AF_INET
	if v6 {
		family = syscall.AF_INET6
	}
	n, _, errno := syscall.RawSyscall(syscall.SYS_SOCKET, uintptr(family), syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(n), 0
}

// NoDelay lets a TCP socket send what it has without waiting for more.
func NoDelay(fd int) syscall.Errno {
	on := int32(1)
	_, _, errno := syscall.RawSyscall6(syscall.SYS_SETSOCKOPT, uintptr(fd), syscall.IPPROTO_TCP, syscall.TCP_NODELAY, uintptr(unsafe.Pointer(&on)), unsafe.Sizeof(on), 0)
	return errno
}

// Connect begins to connect a socket of the address's family (EINPROGRESS), or tells how that stands: 0 when it is done,
// EALREADY while it is not. Zones mean nothing to it.
func Connect(fd int, to netip.AddrPort) syscall.Errno {
	for {
		switch errno := connect(fd, to); errno {
		case syscall.EINTR:
		case syscall.EISCONN:
			return 0
		default:
			return errno
		}
	}
}

func connect(fd int, to netip.AddrPort) (errno syscall.Errno) {
	if ip := to.Addr(); ip.Is6() {
		address := syscall.RawSockaddrInet6{Family: syscall.AF_INET6, Addr: ip.As16()}
		putBigEndian(&address.Port, to.Port())
		_, _, errno = syscall.RawSyscall(syscall.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&address)), unsafe.Sizeof(address))
		return errno
	}
	address := syscall.RawSockaddrInet4{Family: syscall.AF_INET, Addr: to.Addr().As4()}
	putBigEndian(&address.Port, to.Port())
	_, _, errno = syscall.RawSyscall(syscall.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&address)), unsafe.Sizeof(address))
	return errno
}

// Local is the address of a socket that is connected; not valid if that cannot be told.
func Local(fd int) netip.AddrPort {
	var address syscall.RawSockaddrAny
	size := uint32(syscall.SizeofSockaddrAny)
	_, _, errno := syscall.RawSyscall(syscall.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&address)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return netip.AddrPort{}
	}
	return addrPort(&address)
}

func putBigEndian(port *uint16, value uint16) {
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(port))[:], value)
}

// Close closes a socket that does not linger.
func Close(fd int) syscall.Errno {
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(fd), 0, 0)
	return errno
}

// Read reads what has arrived; EAGAIN if that is nothing, 0 at the end of the stream. fd must be a non-blocking socket that
// stays open meanwhile, and p not empty.
func Read(fd uintptr, p []byte) (int, syscall.Errno) {
	return call(syscall.SYS_READ, fd, p, 0)
}

// Write writes as much of p as the socket's buffer takes at once. The same holds for fd and p.
func Write(fd uintptr, p []byte) (int, syscall.Errno) {
	return call(syscall.SYS_WRITE, fd, p, 0)
}

// WriteBoth is Write for one piece and another behind it.
func WriteBoth(fd uintptr, p, q []byte) (int, syscall.Errno) {
	pieces := [2]syscall.Iovec{{Base: &p[0]}, {Base: &q[0]}}
	pieces[0].SetLen(len(p))
	pieces[1].SetLen(len(q))
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&pieces)), uintptr(len(pieces)))
		switch errno {
		case 0:
			return int(n), 0
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}

// WriteMore is Write, but what it writes may leave with what is written next. The kernel sends it after 200 ms at the latest,
// and when the socket is closed, whatever becomes of the process.
func WriteMore(fd uintptr, p []byte) (int, syscall.Errno) {
	return call(syscall.SYS_SENDTO, fd, p, msgMore|syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
}

// msgMore is MSG_MORE, which package syscall does not have.
const msgMore = 0x8000

// Peek is Read, but what it reads stays there for the next Read.
func Peek(fd uintptr, p []byte) (int, syscall.Errno) {
	return call(syscall.SYS_RECVFROM, fd, p, syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
}

// Events fills events with what an epoll descriptor has to tell now, and returns how many there are.
func Events(fd uintptr, events []syscall.EpollEvent) int {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, fd, uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
		switch errno {
		case 0:
			return int(n)
		case syscall.EINTR:
		default: // the descriptor is no epoll descriptor
			return 0
		}
	}
}

func call(number, fd uintptr, p []byte, flags uintptr) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(number, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), flags, 0, 0)
		switch errno {
		case 0:
			return int(n), 0
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}
