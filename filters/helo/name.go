package helo

import (
	"net/netip"
	"strings"
)

// parseLiteral reads an address literal (RFC 5321, 4.1.3).
func parseLiteral(s string) (address netip.Addr, ok bool) {
	if len(s) < 2 || len(s) > 64 || s[0] != '[' || s[len(s)-1] != ']' {
		return netip.Addr{}, false
	}
	inner := s[1 : len(s)-1]
	const tag = "IPv6:"
	if len(inner) > len(tag) && strings.EqualFold(inner[:len(tag)], tag) {
		address, err := netip.ParseAddr(inner[len(tag):])
		return address.Unmap(), err == nil && address.Is6() && address.Zone() == ""
	}
	address, err := netip.ParseAddr(inner)
	return address, err == nil && address.Is4()
}

// isDomain tells whether s is a domain (RFC 5321, 4.1.2) that can be fully qualified: two labels or more, the last not
// a number. One final dot and underscores are let pass: old machines send them.
func isDomain(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if len(s) > 253 {
		return false
	}
	labels, last := 0, ""
	for label := range strings.SplitSeq(s, ".") {
		if !isLabel(label) {
			return false
		}
		labels, last = labels+1, label
	}
	return labels > 1 && strings.Trim(last, "0123456789") != ""
}

func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i] | 0x20 // letters in lower case; digits and the hyphen stay
		if (c < 'a' || c > 'z') && (s[i] < '0' || s[i] > '9') && s[i] != '-' && s[i] != '_' {
			return false
		}
	}
	return true
}
