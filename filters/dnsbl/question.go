package dnsbl

import (
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

const hexDigits = "0123456789abcdef"

// reversed is an address as lists are asked about it, with a final dot: octets backwards for IPv4 (RFC 5782, 2.1),
// nibbles for IPv6 (2.4).
func reversed(ip netip.Addr) string {
	raw := ip.AsSlice()
	var b strings.Builder
	b.Grow(64)
	for i := len(raw) - 1; i >= 0; i-- {
		if ip.Is4() {
			if raw[i] >= 100 {
				b.WriteByte('0' + raw[i]/100)
			}
			if raw[i] >= 10 {
				b.WriteByte('0' + raw[i]/10%10)
			}
			b.WriteByte('0' + raw[i]%10)
		} else {
			b.WriteByte(hexDigits[raw[i]&15])
			b.WriteByte('.')
			b.WriteByte(hexDigits[raw[i]>>4])
		}
		b.WriteByte('.')
	}
	return b.String()
}

// isPublic tells whether lists can know about an address.
func isPublic(ip netip.Addr) bool {
	return ip.IsValid() && !ip.IsPrivate() && !ip.IsLoopback() && !ip.IsUnspecified() && !ip.IsLinkLocalUnicast() &&
		!ip.IsMulticast()
}

// toDomain brings a name of EHLO, of a sender or of the client into the form in which lists are asked. ok is false for
// what is none: an address, a single word, anything with bytes that do not belong into a question. Lists of domains
// answer a question about an address with a code of its own, which must not count.
func toDomain(name string) (domain string, ok bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if len(name) > 253 {
		return "", false
	}
	for i := range len(name) {
		if name[i] >= 0x80 {
			ascii, err := labels.ToASCII(name)
			if err != nil {
				return "", false
			}
			name = ascii
			break
		}
	}
	return name, isDomain(name)
}

// labels converts to A-labels; STD3 rules would refuse underscores, and isDomain looks at the result anyway.
var labels = idna.New(idna.MapForLookup(), idna.StrictDomainName(false))

// isDomain tells whether s is a domain in lower case of two labels or more whose last is not a number.
func isDomain(s string) bool {
	if len(s) > 253 {
		return false
	}
	count, last := 0, ""
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		count, last = count+1, label
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return count > 1 && strings.Trim(last, "0123456789") != ""
}
