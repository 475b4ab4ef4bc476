// Package reputation remembers how things went with client networks and sender domains: what the backend took, what was
// refused, what was for nobody and what was for spam traps.
//
// A message counts once, when its transaction has ended, as the worst that can be said of it (conclude.go). Who sent it is
// the client's network, and a domain only if SPF proves it: what anybody can write on an envelope teaches nothing. What is
// known fades by half in each half-life. It is kept in a [filters.Ledger], which writes many tallies at once; nothing here
// waits for it but the look-up at MAIL.
package reputation

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"gatepost/filters"
)

// Spec describes the filter.
var Spec = filters.Define("reputation", "How did it go with this network and this domain before, and is the recipient a spam trap?", Defaults, New,
	// Behind known: where the store is shared, what that reads brings along what this does.
	filters.On(filters.AtMail, (*Filter).Mail, filters.After("spf", "known"), filters.Repeatable()),
	filters.On(filters.AtRcpt, (*Filter).Rcpt, filters.Inline(), filters.Independent()))

// Facts are what is known of the sender.
type Facts struct {
	// How things went with the client's network: from -10, nothing but evil, to 10, nothing but mail that your mail server
	// took; 0 says nothing. Absent while it is known of fewer messages than minimum.
	NetworkScore *float64 `fact:"network_score"`
	// Of how many messages from the client's network that is known. They fade.
	NetworkMessages float64 `fact:"network_messages"`
	// How many of them were for spam traps.
	NetworkTrapped float64 `fact:"network_trapped"`
	// The sender's domain, if SPF proves it; else empty, and the facts below are absent.
	Domain string `fact:"domain"`
	// The same as network_score of the domain.
	DomainScore *float64 `fact:"domain_score"`
	// Of how many messages of the domain that is known. They fade.
	DomainMessages *float64 `fact:"domain_messages"`
	// How many of them were for spam traps.
	DomainTrapped *float64 `fact:"domain_trapped"`
}

// RcptFacts are known of a recipient.
type RcptFacts struct {
	// The recipient is one of traps.
	Trap bool `fact:"trap"`
}

// Filter is safe for concurrent use.
type Filter struct {
	config Config
	traps  map[string]bool
	ledger filters.Ledger
	store  filters.Store
	clock  filters.Clock
	log    *slog.Logger

	trials  *trials  // transactions of which something bad is known already
	retries *retries // of messages for traps
	hits    chan hit // on traps, to be remembered

	tallied       atomic.Int64
	noted, missed atomic.Int64 // hits
}

var (
	_ filters.Witness = (*Filter)(nil)
	_ filters.Runner  = (*Filter)(nil)
	_ filters.Adopter = (*Filter)(nil)
	_ filters.Learner = (*Filter)(nil)

	_ filters.LedgerReader = (*Filter)(nil)
)

// New makes the filter. There is none without a store that is a [filters.Ledger].
func New(config Config, env filters.Env) (*Filter, error) {
	ledger, ok := env.Store.(filters.Ledger)
	if !ok {
		return nil, nil
	}
	f := &Filter{
		config: config, traps: map[string]bool{}, ledger: ledger, store: env.Store, clock: env.Clock, log: env.Log,
		trials: newTrials(), retries: newRetries(), hits: make(chan hit, maxHits),
	}
	for _, trap := range config.Traps {
		f.traps[normal(trap)] = true
	}
	return f, nil
}

// Adopt implements [filters.Adopter]: transactions that are under way are judged as a whole.
func (f *Filter) Adopt(previous any) {
	if p, ok := previous.(*Filter); ok {
		f.trials, f.retries, f.hits = p.trials, p.retries, p.hits
	}
}

// Mail looks up what is known.
func (f *Filter) Mail(ctx context.Context, v filters.View) (*Facts, error) {
	facts := &Facts{Domain: proved(&v)}
	keys := []string{f.networkKey(v.Session.Client.IP)}
	if facts.Domain != "" {
		keys = append(keys, domainKey+facts.Domain)
	}
	standings, err := f.ledger.Standings(ctx, keys)
	if err != nil {
		return nil, err
	}
	now := f.clock.Now()
	network := standings[0].On(now)
	facts.NetworkScore, facts.NetworkMessages, facts.NetworkTrapped = f.score(network), rounded(network.Total()), rounded(network.Trapped)
	if facts.Domain != "" {
		domain := standings[1].On(now)
		messages, trapped := rounded(domain.Total()), rounded(domain.Trapped)
		facts.DomainScore, facts.DomainMessages, facts.DomainTrapped = f.score(domain), &messages, &trapped
	}
	return facts, nil
}

// WillRead implements [filters.LedgerReader]. It takes for granted that SPF proves the sender's domain.
func (f *Filter) WillRead(s *filters.Session, e *filters.Envelope) []string {
	keys := []string{f.networkKey(s.Client.IP)}
	if e != nil && e.ReversePath != "" {
		_, domain := filters.SplitAddress(e.ReversePath)
		keys = append(keys, domainKey+normal(domain))
	}
	return keys
}

// Rcpt tells whether the recipient is a trap.
func (f *Filter) Rcpt(_ context.Context, v filters.View) (*RcptFacts, error) {
	return &RcptFacts{Trap: f.trap(v.Recipient.ForwardPath) != ""}, nil
}

const (
	trapWeight = 10 // a message for a trap weighs as much as so many for nobody
	doubt      = 5  // so many messages of which nothing is known weigh against all
)

// score is absent where too little is known.
func (f *Filter) score(c filters.Counts) *float64 {
	if c.Total()+0.5 < float64(f.config.Minimum) { // the last message has faded a little, too
		return nil
	}
	good, bad := c.Delivered, c.Refused+c.Unknown+trapWeight*c.Trapped
	score := rounded(10 * (good - bad) / (good + bad + doubt))
	return &score
}

// rounded is n to the hundredth: facts are for reading, too.
func rounded(n float64) float64 { return float64(int64(n*100+0.5*sign(n))) / 100 }

func sign(n float64) float64 {
	if n < 0 {
		return -1
	}
	return 1
}

// The keys of the ledger.
const (
	networkKey = "n:" // and a network
	domainKey  = "d:" // and a domain that SPF proved
)

// networkKey is the key of a client's network.
func (f *Filter) networkKey(client netip.Addr) string { return networkKey + f.network(client) }

func (f *Filter) network(client netip.Addr) string {
	client = client.Unmap().WithZone("")
	bits := f.config.IPv6Prefix
	if client.Is4() {
		bits = f.config.IPv4Prefix
	}
	prefix, err := client.Prefix(bits)
	if err != nil {
		return "unknown" // not an IP connection
	}
	return prefix.String()
}

// proved is the domain of the reverse-path that SPF authenticates. A record that lets half the world send proves nothing,
// nor does the name in EHLO that stands for the null reverse-path. It is the domain as it was given: whoever has a name
// below somebody's domain must not spoil that.
func proved(v *filters.View) string {
	if v.Envelope.ReversePath == "" {
		return ""
	}
	if result, _ := v.Facts.Text("spf.result"); result != "pass" {
		return ""
	}
	if wide, known := v.Facts.Bool("spf.wide"); wide || !known {
		return ""
	}
	domain, _ := v.Facts.Text("spf.domain")
	return normal(domain)
}

// trap is the entry of traps that an address is, or empty.
func (f *Filter) trap(address string) string {
	if len(f.traps) == 0 {
		return ""
	}
	address = normal(address)
	if f.traps[address] {
		return address
	}
	if _, domain := filters.SplitAddress(address); f.traps[domain] {
		return domain
	}
	return ""
}

// normal is an address or a domain in the form in which they are compared.
func normal(s string) string { return strings.ToLower(strings.TrimSuffix(s, ".")) }

// reads tells whether a rule has decided by what is learned here: to learn from that again would make it true for ever.
func reads(reasons []string) bool {
	return slices.ContainsFunc(reasons, func(fact string) bool {
		return strings.HasPrefix(fact, "reputation.") && fact != "reputation.trap"
	})
}

func (f *Filter) halfLife() time.Duration { return time.Duration(f.config.HalfLife) }
