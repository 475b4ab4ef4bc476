package dnsbl

import (
	"context"
	"errors"

	"gatepost/filters"
)

// Spec describes the filter.
var Spec = filters.Define("dnsbl", "Is the client, or a name it uses, on a block list or an allow list?", Defaults, New,
	filters.On(filters.AtConnect, (*Filter).Client, filters.Repeatable()),
	filters.On(filters.AtConnect, (*Filter).ClientName, filters.After("rdns"), filters.Repeatable()),
	filters.On(filters.AtHelo, (*Filter).Helo, filters.Repeatable()),
	filters.On(filters.AtMail, (*Filter).Sender, filters.Repeatable()))

// ClientFacts are what lists of addresses say about the client.
type ClientFacts struct {
	// The weights of all answers together; below 0 for a client that allow lists know; 0 for a private address. Of the
	// lists that answered: see failed. Absent if none did, or if no list knows such addresses.
	Score *float64 `fact:"score"`
	// Names of the lists whose answer weighs more than 0.
	Listed []string `fact:"listed"`
	// Names of the lists whose answer weighs less than 0.
	Allowed []string `fact:"allowed"`
	// Names of the lists that did not answer, or are left out because they failed their test.
	Failed []string `fact:"failed"`
}

// NameFacts are what lists of domains say about the client's confirmed name (rdns.name).
type NameFacts struct {
	// The weights of all answers about the client's confirmed name together; 0 if it has none. Absent if no list
	// answered, if rdns is absent, or if there is no list of domains.
	Score *float64 `fact:"ptr_score"`
	// Names of the lists that the client's confirmed name is on.
	Listed []string `fact:"ptr_listed"`
}

// HeloFacts are what lists of domains say about the name in EHLO.
type HeloFacts struct {
	// The weights of all answers about the name in EHLO together; 0 if that is no domain. Absent if no list answered,
	// or if there is no list of domains.
	Score *float64 `fact:"helo_score"`
	// Names of the lists that the name in EHLO is on.
	Listed []string `fact:"helo_listed"`
}

// SenderFacts are what lists of domains say about the sender's domain.
type SenderFacts struct {
	// The weights of all answers about the domain in MAIL FROM together; 0 for the null sender. Absent if no list
	// answered, or if there is no list of domains.
	Score *float64 `fact:"sender_score"`
	// Names of the lists that the domain in MAIL FROM is on.
	Listed []string `fact:"sender_listed"`
}

// Filter asks the lists. It is safe for concurrent use.
type Filter struct {
	clients []*list
	domains []*list
}

// New makes the filter, or none where no list is configured.
func New(c Config, env filters.Env) (*Filter, error) {
	if len(c.Zones) == 0 {
		return nil, nil
	}
	f := &Filter{}
	for i := range c.Zones {
		l := newList(&c.Zones[i], env)
		if c.Zones[i].Kind == kindDomain {
			f.domains = append(f.domains, l)
		} else {
			f.clients = append(f.clients, l)
		}
	}
	return f, nil
}

// Client asks about the client's address. Nobody is asked about a private one.
func (f *Filter) Client(ctx context.Context, v filters.View) (*ClientFacts, error) {
	ip := v.Session.Client.IP.Unmap().WithZone("")
	if !isPublic(ip) && len(f.clients) > 0 {
		return notListed, nil
	}
	family := familyOf(ip)
	var asked []*list
	for _, l := range f.clients {
		if l.covers(family) {
			asked = append(asked, l)
		}
	}
	s, err := askAll(ctx, asked, family, reversed(ip))
	if err != nil {
		return nil, err
	}
	facts := ClientFacts{Score: s.points(), Listed: s.listed, Allowed: s.allowed, Failed: s.failed}
	if facts.Score != nil && *facts.Score == 0 && len(facts.Listed)+len(facts.Allowed)+len(facts.Failed) == 0 {
		return notListed, nil
	}
	return &facts, nil
}

// notListed is what most clients are: shared by all, for they may wait for long.
var notListed = &ClientFacts{Score: new(float64)}

var errNoName = errors.New("the client's name is not known: rdns is off or failed")

// ClientName asks about the client's confirmed name.
func (f *Filter) ClientName(ctx context.Context, v filters.View) (*NameFacts, error) {
	if len(f.domains) == 0 {
		return &NameFacts{}, nil
	}
	name, ok := v.Facts.Text("rdns.name")
	if !ok {
		return nil, errNoName
	}
	s, err := f.domain(ctx, name)
	if err != nil {
		return nil, err
	}
	return &NameFacts{Score: s.points(), Listed: s.listed}, nil
}

// Helo asks about the name in EHLO.
func (f *Filter) Helo(ctx context.Context, v filters.View) (*HeloFacts, error) {
	s, err := f.domain(ctx, v.Greeting.Name)
	if err != nil {
		return nil, err
	}
	return &HeloFacts{Score: s.points(), Listed: s.listed}, nil
}

// Sender asks about the domain in MAIL FROM.
func (f *Filter) Sender(ctx context.Context, v filters.View) (*SenderFacts, error) {
	_, domain := filters.SplitAddress(v.Envelope.ReversePath)
	s, err := f.domain(ctx, domain)
	if err != nil {
		return nil, err
	}
	return &SenderFacts{Score: s.points(), Listed: s.listed}, nil
}

// domain asks about a name; one that is no domain is on no list.
func (f *Filter) domain(ctx context.Context, name string) (*sum, error) {
	domain, ok := toDomain(name)
	if !ok && len(f.domains) > 0 {
		return &sum{known: true}, nil
	}
	return askAll(ctx, f.domains, aboutDomains, domain+".")
}
