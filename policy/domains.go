package policy

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// domainSet holds what we take mail for, as A-labels in lower case; ".example.org" stands for all subdomains.
type domainSet map[string]struct{}

func (d domainSet) add(domain string) error {
	dot, name := "", strings.ToLower(domain)
	if rest, ok := strings.CutPrefix(name, "."); ok {
		dot, name = ".", rest
	}
	ascii, err := idna.Lookup.ToASCII(strings.TrimSuffix(name, "."))
	if err != nil {
		return err
	}
	d[dot+ascii] = struct{}{}
	return nil
}

// has tells whether domain, in lower case, is ours. The empty domain is: a bare postmaster must be served (RFC 5321,
// 4.5.1).
func (d domainSet) has(domain string) bool {
	if domain == "" {
		return true
	}
	if !isASCII(domain) {
		ascii, err := idna.Lookup.ToASCII(domain)
		if err != nil || !utf8.ValidString(domain) { // idna replaces what is no UTF-8 without a word
			return false
		}
		domain = ascii
	}
	if _, ok := d[domain]; ok {
		return true
	}
	for i := range len(domain) {
		if domain[i] == '.' && i > 0 {
			if _, ok := d[domain[i:]]; ok {
				return true
			}
		}
	}
	return false
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
