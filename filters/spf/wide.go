package spf

import "net/netip"

// A record that passes more than this many addresses says nothing about who sent a message: more than an IPv4 /8, or
// more than an IPv6 /24. The largest mail operators stay under a tenth of that.
const (
	maxIPv4 = 1 << 24
	maxIPv6 = 1 << (64 - 24) // in networks of /64
)

// extent sums up what the records of a check pass. Overlaps count twice, and exceptions ("-ip4:…" in front) are not
// subtracted.
type extent struct {
	everybody bool
	ipv4      uint64 // addresses
	ipv6      uint64 // networks of /64; what is smaller counts as one
}

func (e *extent) wide() bool { return e.everybody || e.ipv4 > maxIPv4 || e.ipv6 > maxIPv6 }

// addRecord counts what a record passes without asking: its ip4, ip6 and all, also those behind the one that matches.
func (e *extent) addRecord(terms []term) {
	for i := range terms {
		t := &terms[i]
		switch {
		case t.kind == kindAll:
			e.everybody = e.everybody || t.result == Pass
			return // nothing behind it counts
		case t.prefix.IsValid() && t.result == Pass:
			e.addNetwork(t.prefix.Addr(), t.prefix.Bits())
		}
	}
}

// addHosts counts the networks of an a or mx. A target that the client names itself passes whom it likes.
func (e *extent) addHosts(t *term, addrs []netip.Addr) {
	if usesMacro(t.spec, "hp") {
		e.everybody = true
	}
	for _, addr := range addrs {
		e.addNetwork(addr, t.bits(addr))
	}
}

func (e *extent) addNetwork(addr netip.Addr, bits int) {
	if addr.Is4() {
		e.ipv4 += 1 << (32 - bits)
		return
	}
	// A record has at most 64 KiB, so the sum cannot overflow: one network counts at most twice the bound.
	e.ipv6 += 1 << min(max(64-bits, 0), 41)
}
