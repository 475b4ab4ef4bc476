package load

import "net/netip"

// Sources returns n loopback addresses to connect from, starting at 127.0.0.10: 127.0.0.1 is where servers connect
// from themselves, and 127.0.0.2 is what every DNS block list lists (RFC 5782, 5). All are in one /24 for n up to 240.
func Sources(n int) []netip.Addr {
	all := make([]netip.Addr, n)
	for i := range all {
		all[i] = netip.AddrFrom4([4]byte{127, 0, byte(i / 240), byte(10 + i%240)})
	}
	return all
}
