package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
)

// freePort finds an address to listen on, for programs that cannot choose one themselves. It lies below the ports that
// systems give to connections: thousands of those come and go here, and one would sooner or later be in the way.
func freePort() (netip.AddrPort, error) {
	const lowest, highest = 10_000, 32_000
	var failed error
	for range 100 {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(lowest+rand.IntN(highest-lowest)))
		l, err := net.Listen("tcp", addr.String())
		if err == nil {
			l.Close()
			return addr, nil
		}
		failed = err
	}
	return netip.AddrPort{}, fmt.Errorf("no free port found: %w", failed)
}
