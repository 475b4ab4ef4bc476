package known

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"gatepost/filters"
)

// Spec describes the filter.
var Spec = filters.Define("known", "Has this sender written here before, or has somebody here written to him?", Defaults, New,
	filters.On(filters.AtMail, (*Filter).Mail, filters.After("spf"), filters.Repeatable()))

// Config is the section `known:`.
type Config struct {
	// Keep is how long a sender and its domain are known, counted from their last message.
	Keep filters.Duration `yaml:"keep"`
	// KeepCorrespondents is how long it is known that a user has written to somebody, counted from the last time.
	KeepCorrespondents filters.Duration `yaml:"keep_correspondents"`
	// NewSenders bounds the senders of one domain that become known in an hour, at each proxy. The domain is known all the
	// same.
	NewSenders int `yaml:"new_senders"`
	// NewCorrespondents bounds the addresses that are remembered of one user's mail in a day, at each proxy: an account
	// that somebody has stolen must not make the world known.
	NewCorrespondents int `yaml:"new_correspondents"`
}

// Defaults returns the configuration that is in force where the file is silent.
func Defaults() Config {
	return Config{
		Keep:               filters.Duration(90 * 24 * time.Hour),
		KeepCorrespondents: filters.Duration(180 * 24 * time.Hour),
		NewSenders:         1000,
		NewCorrespondents:  200,
	}
}

// Validate names every value that cannot be.
func (c *Config) Validate() error {
	var bad filters.KeyErrors
	for _, span := range []struct {
		key   string
		value filters.Duration
	}{{"keep", c.Keep}, {"keep_correspondents", c.KeepCorrespondents}} {
		if d := time.Duration(span.value); d < time.Hour || d > 10*366*24*time.Hour {
			bad.Add(span.key, "%s is not between 1h and 3660d", span.value)
		}
	}
	for _, bound := range []struct {
		key   string
		value int
	}{{"new_senders", c.NewSenders}, {"new_correspondents", c.NewCorrespondents}} {
		if bound.value < 0 || bound.value > 1_000_000 {
			bad.Add(bound.key, "%d is not between 0 and 1000000", bound.value)
		}
	}
	return bad.OrNil()
}

// Facts are what is known of the sender.
type Facts struct {
	// SPF proves the reverse-path's domain, by a record that does not let everybody send. Only of such senders anything
	// is known: of all others the facts below are false, 0 or absent.
	Proved bool `fact:"proved"`
	// Mail of this sender was accepted before. What differs from message to message in its local part does not count.
	Sender bool `fact:"sender"`
	// Number of the sender's messages that were accepted.
	Messages int `fact:"messages"`
	// Seconds since the first of them; absent if there is none.
	Since *float64 `fact:"since"`
	// Mail of this domain was accepted before, proved as this is, from whomever.
	Domain bool `fact:"domain"`
	// Number of the domain's messages that were accepted.
	DomainMessages int `fact:"domain_messages"`
	// Seconds since the first of them; absent if there is none.
	DomainSince *float64 `fact:"domain_since"`
	// A user of the site has written to this address.
	Correspondent bool `fact:"correspondent"`
}

// unknown is what nearly all spam gets; shared, never written.
var unknown = &Facts{}

// Filter is safe for concurrent use.
type Filter struct {
	*memory // shared by the filters before and after a reload
	config  Config
	store   filters.Store
	clock   filters.Clock
	log     *slog.Logger
	ours    map[string]bool // what we take mail for; ".example.org" stands for everything below
}

// memory is what outlasts a reload.
type memory struct {
	book             *book
	senders, writers quota // what became known lately, by domain and by user
}

var (
	_ filters.Witness = (*Filter)(nil)
	_ filters.Runner  = (*Filter)(nil)
	_ filters.Adopter = (*Filter)(nil)
	_ filters.Learner = (*Filter)(nil)
)

// New makes the filter.
func New(config Config, env filters.Env) (*Filter, error) {
	if env.Store == nil {
		return nil, errors.New("known senders need a store")
	}
	f := &Filter{
		memory: &memory{book: newBook(), senders: newQuota(time.Hour), writers: newQuota(24 * time.Hour)},
		config: config, store: env.Store, clock: env.Clock, log: env.Log, ours: map[string]bool{},
	}
	for _, domain := range env.Domains {
		f.ours[asciiDomain(domain)] = true
	}
	return f, nil
}

// Adopt implements [filters.Adopter].
func (f *Filter) Adopt(previous any) {
	if p, ok := previous.(*Filter); ok {
		f.memory = p.memory
	}
}

// Mail looks the sender up. It writes nothing.
func (f *Filter) Mail(ctx context.Context, v filters.View) (*Facts, error) {
	s := identify(v)
	if s.domain == "" {
		return unknown, nil
	}
	marks, err := f.store.Peek(ctx, space, []string{s.domainKey(), s.senderKey(), correspondentKey(s.local, s.domain)})
	if err != nil {
		return nil, err
	}
	facts := &Facts{Proved: true, Correspondent: marks[2].Exists()}
	now := f.clock.Now()
	facts.Domain, facts.DomainMessages, facts.DomainSince = told(marks[0], now)
	facts.Sender, facts.Messages, facts.Since = told(marks[1], now)
	return facts, nil
}

func told(m filters.Mark, now time.Time) (known bool, messages int, since *float64) {
	if !m.Exists() {
		return false, 0, nil
	}
	age := max(now.Sub(m.First), 0).Seconds()
	return true, int(m.Attempts), &age
}
