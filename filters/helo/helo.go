// Package helo looks at the name that the client gives with EHLO or HELO.
package helo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"gatepost/filters"
)

// Spec describes the filter.
var Spec = filters.Define("helo", "Is the name that the client gives with EHLO a real one, and its own?", Defaults, New,
	filters.On(filters.AtHelo, (*Filter).Form, filters.Inline()),
	filters.On(filters.AtHelo, (*Filter).Resolve, filters.Repeatable()))

// Config has no keys: there is nothing to choose.
type Config struct{}

// Defaults returns the configuration where nothing is configured.
func Defaults() Config { return Config{} }

// FormFacts are what the name itself tells.
type FormFacts struct {
	// The name is a domain of two labels or more, or an address in brackets, as RFC 5321, 4.1.1.1 wants it. An
	// underscore is let pass; a bare IP address or a single word is not valid.
	Valid bool `fact:"valid"`
	// The name is an address in brackets: [192.0.2.1] or [IPv6:2001:db8::1].
	Literal bool `fact:"literal"`
	// The client says that it is us: our host name, one of our domains, or the address it connected to.
	Ours bool `fact:"ours"`
}

// ResolveFacts are what the DNS tells about the name.
type ResolveFacts struct {
	// The name exists: it has an address or a mail exchanger. An address in brackets needs no DNS and counts as one
	// that does; a name that is not valid is not looked up and does not resolve.
	Resolves bool `fact:"resolves"`
	// The client's address is among those of the name, or is the address in brackets. RFC 5321, 4.1.4 forbids to refuse
	// mail for this alone.
	Matches *bool `fact:"matches"`
}

// There are few different facts and many clients that wait: those of a kind are shared, never written.
var (
	forms       = map[FormFacts]*FormFacts{}
	resolutions = map[ResolveFacts]*ResolveFacts{}
	yes, no     = true, false
)

func init() {
	for _, valid := range []bool{yes, no} {
		for _, literal := range []bool{yes, no} {
			for _, ours := range []bool{yes, no} {
				f := FormFacts{valid, literal, ours}
				forms[f] = &f
			}
		}
		for _, matches := range []*bool{nil, &yes, &no} {
			r := ResolveFacts{valid, matches}
			resolutions[r] = &r
		}
	}
}

func truth(b bool) *bool {
	if b {
		return &yes
	}
	return &no
}

// Filter is safe for concurrent use.
type Filter struct {
	resolver filters.Resolver
	ours     map[string]bool
}

// New makes the filter.
func New(_ Config, env filters.Env) (*Filter, error) {
	f := &Filter{resolver: env.Resolver, ours: map[string]bool{}}
	for _, name := range append([]string{env.Hostname}, env.Domains...) {
		if name = fold(name); name != "" {
			f.ours[name] = true
		}
	}
	return f, nil
}

// Form judges the name without asking anybody.
func (f *Filter) Form(_ context.Context, v filters.View) (*FormFacts, error) {
	name := v.Greeting.Name
	address, literal := parseLiteral(name)
	facts := FormFacts{Valid: literal || isDomain(name), Literal: literal}
	if literal {
		local := v.Session.Local().Addr().Unmap()
		facts.Ours = local.IsValid() && address == local
	} else {
		facts.Ours = f.ours[fold(name)]
	}
	return forms[facts], nil
}

// Resolve asks for the client's kind of address first: it mostly settles both facts.
func (f *Filter) Resolve(ctx context.Context, v filters.View) (*ResolveFacts, error) {
	name, client := v.Greeting.Name, v.Session.Client.IP.Unmap().WithZone("")
	if address, literal := parseLiteral(name); literal {
		return resolutions[ResolveFacts{Resolves: true, Matches: truth(address == client)}], nil
	}
	if !isDomain(name) {
		return resolutions[ResolveFacts{Matches: &no}], nil
	}
	same, other := f.resolver.LookupA, f.resolver.LookupAAAA
	if client.Is6() {
		same, other = other, same
	}
	facts := ResolveFacts{}
	addresses, err := existing(same(ctx, name))
	if err == nil {
		facts.Matches = truth(contains(addresses, client))
		facts.Resolves = len(addresses) > 0
	}
	if facts.Resolves {
		return resolutions[facts], nil
	}
	others, otherErr := existing(other(ctx, name))
	if len(others) > 0 {
		facts.Resolves = true
		return resolutions[facts], nil
	}
	exchangers, mxErr := existing(f.resolver.LookupMX(ctx, name))
	if len(exchangers) > 0 {
		facts.Resolves = true
		return resolutions[facts], nil
	}
	if err := errors.Join(err, otherErr, mxErr); err != nil {
		return nil, fmt.Errorf("name in EHLO: %w", err)
	}
	return resolutions[facts], nil
}

// existing takes a name that does not exist for one that has nothing.
func existing[T any](found []T, err error) ([]T, error) {
	if errors.Is(err, filters.ErrNXDomain) {
		return nil, nil
	}
	return found, err
}

func contains(addresses []netip.Addr, client netip.Addr) bool {
	for _, a := range addresses {
		if a == client {
			return true
		}
	}
	return false
}

func fold(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }
