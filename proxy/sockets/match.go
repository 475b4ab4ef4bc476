package sockets

import (
	"net"
	"net/netip"
	"strings"
)

// fits tells whether a socket that is bound to an address is the one that is wanted. Every address of the machine may be
// [::] or 0.0.0.0: whoever has bound it has chosen.
func fits(w *Want, bound net.Addr) bool {
	if unix, ok := bound.(*net.UnixAddr); ok {
		return w.Network == "unix" && unix.Name == w.Address
	}
	tcp, ok := bound.(*net.TCPAddr)
	if !ok || !strings.HasPrefix(w.Network, "tcp") {
		return false
	}
	host, service, err := net.SplitHostPort(w.Address)
	if err != nil {
		return false
	}
	port, err := net.LookupPort("tcp", service)
	if err != nil || port != tcp.Port || port == 0 {
		return false
	}
	is := tcp.AddrPort().Addr().Unmap().WithZone("")
	if w.Network == "tcp4" && !is.Is4() || w.Network == "tcp6" && !is.Is6() {
		return false
	}
	if host == "" {
		return is.IsUnspecified()
	}
	if want, err := netip.ParseAddr(host); err == nil {
		return want.Unmap().WithZone("") == is
	}
	resolved, err := net.ResolveTCPAddr(w.Network, w.Address)
	return err == nil && resolved.AddrPort().Addr().Unmap().WithZone("") == is
}
