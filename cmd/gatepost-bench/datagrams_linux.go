package main

import (
	"syscall"
	"unsafe"
)

// The DNS server reads and writes past the scheduler's account, as the proxy does (package nowait): what keeps the
// scheduler's watcher awake here is taken off the processors that the proxy shares.

// origin is where a datagram came from, as the kernel says it: only good for an answer.
type origin struct {
	address syscall.RawSockaddrAny
	size    uint32
}

// receive takes a datagram from a non-blocking socket; EAGAIN if there is none.
func receive(fd uintptr, p []byte) (n int, from origin, errno syscall.Errno) {
	from.size = syscall.SizeofSockaddrAny
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), syscall.MSG_DONTWAIT,
			uintptr(unsafe.Pointer(&from.address)), uintptr(unsafe.Pointer(&from.size)))
		if errno != syscall.EINTR {
			return int(n), from, errno
		}
	}
}

// send sends a datagram; one that finds no room is lost, as datagrams may be.
func send(fd uintptr, p []byte, to *origin) {
	syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), syscall.MSG_DONTWAIT,
		uintptr(unsafe.Pointer(&to.address)), uintptr(to.size))
}
