package spf

import (
	"context"

	"gatepost/filters"
)

// Spec describes the filter.
var Spec = filters.Define("spf", "Is the client allowed to use this sender domain (RFC 7208)?",
	func() Config { return Config{} }, New,
	filters.On(filters.AtHelo, (*Filter).Helo, filters.Repeatable()),
	filters.On(filters.AtMail, (*Filter).Mail, filters.Repeatable()))

// Config is empty: the limits are those of RFC 7208.
type Config struct{}

// Filter checks the HELO name and the reverse-path of each client.
type Filter struct{ env filters.Env }

// New makes the filter.
func New(_ Config, env filters.Env) (*Filter, error) { return &Filter{env: env}, nil }

// HeloFacts is what SPF says about the HELO name alone (RFC 7208, 2.3).
type HeloFacts struct {
	// Result of the check of the name in HELO or EHLO.
	HeloResult string `fact:"helo_result" values:"none neutral pass fail softfail temperror permerror"`
	// Domain that was checked: the name in HELO or EHLO, with A-labels and in lower case. Empty if the name is no
	// domain (an address literal, one label).
	HeloDomain string `fact:"helo_domain"`
}

// Facts is what SPF says about the sender.
type Facts struct {
	// Result of the check. A DNS failure and a lack of time are "temperror", a broken record is "permerror".
	Result string `fact:"result" values:"none neutral pass fail softfail temperror permerror"`
	// Domain that was checked, with A-labels and in lower case. Empty if there is none.
	Domain string `fact:"domain"`
	// Where the domain is from: the reverse-path, or HELO if the reverse-path is empty (bounces).
	Identity string `fact:"identity" values:"mailfrom helo"`
	// Mechanism that matched, as written in the record ("ip4:192.0.2.0/24", "-all"). Empty if none did.
	Mechanism string `fact:"mechanism"`
	// The domain's own text for a fail, printable ASCII. Empty if it has none. Anybody can publish any text.
	Explanation string `fact:"explanation"`
	// Why the result is temperror or permerror, else empty.
	Problem string `fact:"problem"`
	// Domain that a pass authenticates, else empty.
	Authenticated string `fact:"authenticated"`
	// A pass that says nothing: the record passes everybody (+all) or more than an IPv4 /8 or an IPv6 /24.
	Wide bool `fact:"wide"`
	// Number of DNS questions asked, 25 at most.
	Lookups int `fact:"lookups"`
}

// Helo checks the HELO name.
func (f *Filter) Helo(ctx context.Context, v filters.View) (*HeloFacts, error) {
	o := Check(ctx, f.env.Resolver, f.query(v, ""))
	return &HeloFacts{HeloResult: string(o.Result), HeloDomain: o.Domain}, nil
}

// Mail checks the reverse-path, or the HELO name for the null reverse-path.
func (f *Filter) Mail(ctx context.Context, v filters.View) (*Facts, error) {
	o := Check(ctx, f.env.Resolver, f.query(v, v.Envelope.ReversePath))
	facts := &Facts{
		Result: string(o.Result), Domain: o.Domain, Identity: o.Identity, Mechanism: o.Mechanism,
		Explanation: o.Explanation, Problem: o.Problem, Wide: o.Wide, Lookups: o.Queries,
	}
	if o.Result == Pass {
		facts.Authenticated = o.Domain
	}
	return facts, nil
}

func (f *Filter) query(v filters.View, sender string) Query {
	q := Query{IP: v.Session.Client.IP, Sender: sender, Receiver: f.env.Hostname, Now: f.env.Clock.Now()}
	if v.Greeting != nil {
		q.Helo = v.Greeting.Name
	}
	return q
}

var _, _ filters.AuthReporter = (*HeloFacts)(nil), (*Facts)(nil)

// AuthResults reports the check of the HELO name (RFC 8601, 2.7.2).
func (h *HeloFacts) AuthResults(*filters.Session) []filters.AuthResult {
	return report(h.HeloResult, "", "helo", h.HeloDomain)
}

// AuthResults reports the check of the sender (RFC 8601, 2.7.2).
func (f *Facts) AuthResults(*filters.Session) []filters.AuthResult {
	return report(f.Result, f.Problem, f.Identity, f.Domain)
}

func report(result, reason, identity, domain string) []filters.AuthResult {
	r := filters.AuthResult{Method: "spf", Result: result, Reason: reason}
	if domain != "" {
		r.Properties = []filters.AuthProperty{{Type: "smtp", Name: identity, Value: domain}}
	}
	return []filters.AuthResult{r}
}
