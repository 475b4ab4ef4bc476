package load

import (
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// connect starts to connect; the port is chosen only then, so that each pair of addresses has all ports to itself.
func connect(fd int, source netip.Addr, to netip.AddrPort) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: source.As4()}); err != nil {
		return err
	}
	err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
	if err == unix.EINPROGRESS {
		return nil
	}
	return err
}

// lateBind leaves the choice of the port to connect: else all connections from an address share its ports.
func lateBind(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	})
	if err != nil {
		return err
	}
	return failed
}
