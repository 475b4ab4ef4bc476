package proxy

import (
	"net"
	"os"
	"syscall"
)

// connectedPair is a connection with two ends here; theirs is such a descriptor as accept returns.
func connectedPair() (ours net.Conn, theirs arrival, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, arrival{}, os.NewSyscallError("socketpair", err)
	}
	file := os.NewFile(uintptr(fds[0]), "probe")
	defer file.Close()
	if ours, err = net.FileConn(file); err != nil {
		syscall.Close(fds[1])
		return nil, arrival{}, err
	}
	return ours, arrival{fd: fds[1]}, nil
}
