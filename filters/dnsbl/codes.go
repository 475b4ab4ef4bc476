package dnsbl

import (
	"fmt"
	"net/netip"
	"strings"
)

// codeRange is a range of answers, and what one within it weighs.
type codeRange struct {
	from, to netip.Addr
	weight   float64
}

var (
	answers  = netip.MustParsePrefix("127.0.0.0/8")
	refusals = netip.MustParsePrefix("127.255.255.0/24")
)

// parseRange reads an address or two with a hyphen between, within 127.0.0.0/8 (RFC 5782, 2.1).
func parseRange(s string) (codeRange, error) {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	from, err := netip.ParseAddr(strings.TrimSpace(first))
	to, err2 := netip.ParseAddr(strings.TrimSpace(last))
	switch {
	case err != nil || err2 != nil:
		return codeRange{}, fmt.Errorf("%q is not an address or a range such as 127.0.0.2-127.0.0.11", s)
	case !answers.Contains(from) || !answers.Contains(to):
		return codeRange{}, fmt.Errorf("%q is not within 127.0.0.0/8, where the answers of lists are", s)
	case to.Less(from):
		return codeRange{}, fmt.Errorf("%q ends before it starts", s)
	case !to.Less(refusals.Addr()) && !lastOf(refusals).Less(from):
		return codeRange{}, fmt.Errorf("%q touches 127.255.255.0/24: with these a list refuses to answer, they are never a listing", s)
	}
	return codeRange{from: from, to: to}, nil
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	b[3] = 255
	return netip.AddrFrom4(b)
}

// weigh adds up the entries that any of the answers falls into. Answers outside of 127.0.0.0/8 come from somebody who
// answers for every name (a captive portal, the new owner of an abandoned list) and do not count.
func weigh(codes []codeRange, found []netip.Addr) (block, allow float64) {
	for _, c := range codes {
		for _, a := range found {
			if a.Less(c.from) || c.to.Less(a) {
				continue
			}
			if c.weight > 0 {
				block += c.weight
			} else {
				allow += c.weight
			}
			break
		}
	}
	return block, allow
}

// refuses tells whether the list says that it does not answer us.
func refuses(found []netip.Addr) bool {
	for _, a := range found {
		if refusals.Contains(a) {
			return true
		}
	}
	return false
}

// lists tells whether the list says anything about what it was asked.
func lists(found []netip.Addr) bool {
	for _, a := range found {
		if answers.Contains(a) && !refusals.Contains(a) {
			return true
		}
	}
	return false
}
