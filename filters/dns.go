package filters

import (
	"context"
	"errors"
	"net/netip"
)

// ErrNXDomain is wrapped by the errors of a [Resolver] for names that do not exist (RCODE 3).
var ErrNXDomain = errors.New("no such name")

// Resolver asks the DNS. Names are in presentation form with or without the final dot, A-labels only; a name that
// cannot be asked (too long, an empty label) is like one that does not exist.
//
// A name that exists but has no such record gives an empty result and no error. A name that does not exist gives an
// error that wraps [ErrNXDomain]. Every other error is temporary: time-out, SERVFAIL, a malformed or truncated answer.
// Answers are shared with other callers: do not change them. TXT records come one string each, their parts joined.
type Resolver interface {
	LookupA(ctx context.Context, name string) ([]netip.Addr, error)
	LookupAAAA(ctx context.Context, name string) ([]netip.Addr, error)
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupMX(ctx context.Context, name string) ([]MX, error)
	// LookupPTR asks for the names of an address. They are not verified.
	LookupPTR(ctx context.Context, ip netip.Addr) ([]string, error)
}

// MX is a mail exchanger (RFC 5321, 5.1). Host has no final dot; the null MX (RFC 7505) has an empty one.
type MX struct {
	Preference uint16
	Host       string
}
