package filters

import (
	"strings"

	"golang.org/x/net/publicsuffix"
)

// RegisteredDomain is the part of a name, in lower case and without final dot, that its owner has registered:
// "example.co.uk" for "mail.example.co.uk". It is empty for a public suffix and for what is no domain.
func RegisteredDomain(name string) string {
	if !strings.Contains(name, ".") {
		return ""
	}
	registered, err := publicsuffix.EffectiveTLDPlusOne(name)
	if err != nil {
		return ""
	}
	return registered
}

// IsSameOrganization tells whether two names were registered as one.
func IsSameOrganization(a, b string) bool {
	registered := RegisteredDomain(a)
	return registered != "" && registered == RegisteredDomain(b)
}
