package backend

import (
	"errors"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// peek looks, without waiting, whether bytes or the end of the stream are there to be read. Only plain sockets can tell;
// for others (TLS) the socket below is asked: bytes there are at least no silence.
func peek(nc net.Conn) (pending, eof bool) {
	if wrapped, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = wrapped.NetConn()
	}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false, false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false, true
	}
	var n int
	var peekErr error
	err = raw.Control(func(fd uintptr) {
		var one [1]byte
		n, _, peekErr = unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	switch {
	case err != nil:
		return false, true
	case errors.Is(peekErr, unix.EAGAIN) || errors.Is(peekErr, unix.EINTR):
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
