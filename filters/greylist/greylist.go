// Package greylist tells senders that have come back from senders that are seen for the first time (RFC 6647).
package greylist

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"gatepost/filters"
)

// Spec describes the filter.
var Spec = filters.Define("greylist", "Has this sender come back after a first attempt?", Defaults, New,
	filters.On(filters.AtMail, (*Filter).Mail, filters.After("spf", "rdns"), filters.Repeatable()))

// Config is the section `greylist:`.
type Config struct {
	// Delay is how long after its first attempt a sender is told to come back.
	Delay filters.Duration `yaml:"delay"`
	// Window is how long after its first attempt a sender may come back; later it is new again.
	Window filters.Duration `yaml:"window"`
	// Keep is how long a sender that came back is known, counted from its last message.
	Keep filters.Duration `yaml:"keep"`
	// AskBackend lets the backend hear of the recipient before the sender is told to come back, so that unknown users
	// are refused at once. Without it, greylisting does without the connection to the backend.
	AskBackend bool `yaml:"ask_backend"`
	// IPv4Prefix is the length of the client networks that count as one, in bits.
	IPv4Prefix int `yaml:"ipv4_prefix"`
	// IPv6Prefix is the same for IPv6.
	IPv6Prefix int `yaml:"ipv6_prefix"`
}

// Defaults returns the configuration that is in force where the file is silent.
func Defaults() Config {
	return Config{
		Delay:      filters.Duration(5 * time.Minute),
		Window:     filters.Duration(24 * time.Hour),
		Keep:       filters.Duration(35 * 24 * time.Hour),
		AskBackend: true,
		IPv4Prefix: 24,
		IPv6Prefix: 64,
	}
}

// Validate names every value that cannot be.
func (c *Config) Validate() error {
	var bad filters.KeyErrors
	if c.Delay >= c.Window {
		bad.Add("delay", "%s must be shorter than the window, %s, or nobody can come back in time", c.Delay, c.Window)
	}
	if c.Keep < c.Window {
		bad.Add("keep", "%s must not be shorter than the window, %s", c.Keep, c.Window)
	}
	if c.IPv4Prefix < 8 || c.IPv4Prefix > 32 {
		bad.Add("ipv4_prefix", "%d is not between 8 and 32", c.IPv4Prefix)
	}
	if c.IPv6Prefix < 16 || c.IPv6Prefix > 128 {
		bad.Add("ipv6_prefix", "%d is not between 16 and 128", c.IPv6Prefix)
	}
	return bad.OrNil()
}

// Facts are what is known of the sender.
type Facts struct {
	// Where the sender stands: never seen (or too long ago), seen but the delay is not over, or come back.
	State string `fact:"state" values:"new early passed"`
	// Seconds since its first attempt, absent if it is new.
	Age *float64 `fact:"age"`
	// Under which key it is known, or would be: "d:" and a domain that SPF proved, "n:" and network and sender, "h:" and
	// a group of hosts and sender, "p:" and a group of hosts and a domain whose signed mail came from there, "o:" and
	// what an operator passed.
	Key string `fact:"key"`
}

// Filter is safe for concurrent use.
type Filter struct {
	config Config
	store  filters.Store
	clock  filters.Clock
	log    *slog.Logger

	uses chan use // messages delivered, whose senders are renewed
	*counts
}

// counts are since the start of the process.
type counts struct{ noted, written, dropped atomic.Int64 }

var (
	_ filters.Greylister = (*Filter)(nil)
	_ filters.Witness    = (*Filter)(nil)
	_ filters.Runner     = (*Filter)(nil)
	_ filters.Adopter    = (*Filter)(nil)
	_ filters.Learner    = (*Filter)(nil)
)

// New makes the filter.
func New(config Config, env filters.Env) (*Filter, error) {
	if env.Store == nil {
		return nil, errors.New("greylisting needs a store")
	}
	return &Filter{
		config: config, store: env.Store, clock: env.Clock, log: env.Log,
		uses: make(chan use, maxUses), counts: &counts{},
	}, nil
}

// AskBackend tells whether the backend is asked about a recipient before the sender is told to come back.
func (f *Filter) AskBackend() bool { return f.config.AskBackend }

// Delay is how long a sender that is told to come back has to wait, for the reply that tells it.
func (f *Filter) Delay() time.Duration { return time.Duration(f.config.Delay) }

// Mail looks the sender up. It writes nothing.
func (f *Filter) Mail(ctx context.Context, v filters.View) (*Facts, error) {
	id := f.identify(v)
	keys := append(id.keys(), id.beside()...)
	marks, err := f.store.Peek(ctx, space, keys)
	if err != nil {
		return nil, err
	}
	facts := &Facts{State: string(filters.GreylistNew), Key: keys[0]}
	now := f.clock.Now()
	for i, m := range marks {
		state := f.stateOf(m, now)
		if rank(state) <= rank(filters.GreylistState(facts.State)) {
			continue
		}
		age := max(now.Sub(m.First), 0).Seconds()
		facts.State, facts.Key, facts.Age = string(state), keys[i], &age
	}
	return facts, nil
}

// stateOf is what an attempt now would find, of this mark alone.
func (f *Filter) stateOf(m filters.Mark, now time.Time) filters.GreylistState {
	switch {
	case !m.Exists():
		return filters.GreylistNew
	case !m.Passed.IsZero() || now.Sub(m.First) >= time.Duration(f.config.Delay):
		return filters.GreylistPassed
	default:
		return filters.GreylistEarly
	}
}

func rank(s filters.GreylistState) int {
	switch s {
	case filters.GreylistPassed:
		return 2
	case filters.GreylistEarly:
		return 1
	default:
		return 0
	}
}

// Attempt implements [filters.Greylister].
func (f *Filter) Attempt(ctx context.Context, v filters.View) (filters.GreylistAttempt, error) {
	id := f.identify(v)
	keys, terms := id.keys(), f.terms()
	terms.Unless = id.beside()
	marks, err := f.store.Attempt(ctx, space, keys, terms)
	if err != nil {
		return filters.GreylistAttempt{}, err
	}
	if anyPassed(marks[len(keys):]) {
		return filters.GreylistAttempt{State: filters.GreylistPassed}, nil
	}
	marks = marks[:len(keys)]
	attempt := filters.GreylistAttempt{State: filters.GreylistNew}
	for i, m := range marks {
		if m.Attempts > 1 {
			attempt.State = filters.GreylistEarly
		}
		if i == 0 || m.First.Before(attempt.First) {
			attempt.First = m.First
		}
	}
	if anyPassed(marks) {
		attempt.State = filters.GreylistPassed
	}
	return attempt, nil
}

func (f *Filter) terms() filters.Terms {
	return filters.Terms{
		Delay:  time.Duration(f.config.Delay),
		Window: time.Duration(f.config.Window),
		Keep:   time.Duration(f.config.Keep),
	}
}

func anyPassed(marks []filters.Mark) bool {
	for _, m := range marks {
		if !m.Passed.IsZero() {
			return true
		}
	}
	return false
}
