// Package rdns looks at the client's reverse DNS: the names of its address, and whether one of them leads back to it.
package rdns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"gatepost/filters"
)

// Spec describes the filter.
var Spec = filters.Define("rdns", "Does the client's address have a name that leads back to it?", Defaults, New,
	filters.On(filters.AtConnect, (*Filter).Connect, filters.Repeatable()))

// Config has no keys: there is nothing to choose.
type Config struct{}

// Defaults returns the configuration where nothing is configured.
func Defaults() Config { return Config{} }

// Facts are what the reverse DNS tells about the client.
type Facts struct {
	// The address has a name, and that name has this address (RFC 8601, 2.7.3, "iprev"; also called FCrDNS). Absent
	// when the DNS did not answer.
	Confirmed bool `fact:"confirmed"`
	// The confirmed name is made of the address, as 192-0-2-7.access.example is: access networks name their customers so,
	// and hardly anybody a mail server. False if there is no confirmed name.
	Generic bool `fact:"generic"`
	// The confirmed name, in lower case without final dot; empty if there is none.
	Name string `fact:"name"`
	// All names that the address claims to have, confirmed or not; at most 10. Whoever owns the address writes what he
	// likes here.
	Names []string `fact:"names"`
}

// noNames is shared by all clients without a name.
var noNames = &Facts{}

var _ filters.AuthReporter = (*Facts)(nil)

// AuthResults implements [filters.AuthReporter].
func (f *Facts) AuthResults(s *filters.Session) []filters.AuthResult {
	r := filters.AuthResult{
		Method:     "iprev",
		Properties: []filters.AuthProperty{{Type: "policy", Name: "iprev", Value: client(s).String()}},
	}
	switch {
	case f.Confirmed:
		r.Result = "pass"
	case len(f.Names) > 0:
		r.Result, r.Reason = "fail", "no name of the address leads back to it"
	default:
		r.Result, r.Reason = "permerror", "the address has no name" // RFC 8601, 2.7.3
	}
	return []filters.AuthResult{r}
}

func client(s *filters.Session) netip.Addr { return s.Client.IP.Unmap().WithZone("") }

// Filter asks the DNS. It is safe for concurrent use.
type Filter struct{ resolver filters.Resolver }

// New makes the filter.
func New(_ Config, env filters.Env) (*Filter, error) { return &Filter{env.Resolver}, nil }

// maxNames bounds the names of one address that are looked at (as RFC 7208, 4.6.4 does).
const maxNames = 10

// Connect looks the client's names up, one after the other: hardly any address has more than one, and the first that
// is confirmed ends it.
func (f *Filter) Connect(ctx context.Context, v filters.View) (*Facts, error) {
	client := client(v.Session)
	names, err := f.resolver.LookupPTR(ctx, client)
	if errors.Is(err, filters.ErrNXDomain) {
		return noNames, nil
	}
	if err != nil {
		return nil, fmt.Errorf("names of %s: %w", client, err)
	}
	facts := &Facts{Names: hostNames(names)}
	var failure error
	for _, name := range facts.Names {
		if facts.Confirmed {
			continue
		}
		leadsBack, err := f.leadsBack(ctx, name, client)
		if err != nil {
			failure = fmt.Errorf("addresses of %s: %w", name, err)
		}
		if leadsBack {
			facts.Confirmed, facts.Name, facts.Generic = true, name, filters.SpellsAddress(name, client)
		}
	}
	if !facts.Confirmed && failure != nil {
		return nil, failure
	}
	return facts, nil
}

func (f *Filter) leadsBack(ctx context.Context, name string, client netip.Addr) (bool, error) {
	lookup := f.resolver.LookupA
	if client.Is6() {
		lookup = f.resolver.LookupAAAA
	}
	addresses, err := lookup(ctx, name)
	if errors.Is(err, filters.ErrNXDomain) {
		return false, nil
	}
	for _, a := range addresses {
		if a == client {
			return true, nil
		}
	}
	return false, err
}

// hostNames returns up to maxNames of the names that can be those of hosts, in lower case without final dot. Mostly that
// is all of them as they came, and the resolver's own list serves.
func hostNames(names []string) []string {
	isFit := func(name string) bool { return name == strings.ToLower(name) && isHostName(name) }
	if len(names) <= maxNames && !slices.ContainsFunc(names, func(name string) bool { return !isFit(name) }) {
		return names
	}
	var fit []string
	for _, name := range names {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		if isHostName(name) && len(fit) < maxNames {
			fit = append(fit, name)
		}
	}
	return fit
}

// isHostName keeps what cannot be the name of a host out of replies, logs and further questions. Underscores are not
// allowed, but exist.
func isHostName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}
