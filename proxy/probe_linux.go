package proxy

import (
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
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

// queued is how many connections wait to be accepted; zero where that is not known. Of a listening socket, TCP_INFO calls
// them unacknowledged segments (net/ipv4/tcp.c).
func queued(l net.Listener) (n int) {
	socket, ok := l.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0
	}
	raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = int(info.Unacked)
		}
	})
	return n
}
