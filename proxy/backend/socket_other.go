//go:build !linux

package backend

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"
)

// peek cannot look here: a connection that the backend has closed is found out when it is used.
func peek(net.Conn) (pending, eof bool) { return false, false }

func plain(nc net.Conn) net.Conn { return nc }

func dialAddress(ctx context.Context, to netip.AddrPort, timeout time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: timeout, KeepAlive: -1}
	return dialer.DialContext(ctx, "tcp", to.String())
}

// below is the connection of the operating system, without TLS.
func below(nc net.Conn) net.Conn {
	if secured, ok := nc.(interface{ NetConn() net.Conn }); ok {
		return secured.NetConn()
	}
	return nc
}

func transparentDialer(netip.Addr) (*net.Dialer, error) {
	return nil, errors.New("client_address: transparent works on Linux only")
}
