// Package earlytalker holds the greeting back from strangers for a moment: a client that talks before it is greeted is
// no mail server (RFC 5321, 4.3.1: the client waits for the greeting).
package earlytalker

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"gatepost/filters"
)

// Spec describes the filter.
var Spec = filters.Define("earlytalker", "Does the client talk before it is greeted?", Defaults, New,
	filters.On(filters.AtConnect, (*Filter).Connect, filters.Inline()))

// Config is the section `filters.earlytalker:`.
type Config struct {
	// How long the greeting is held back from a client whose network is not known. Most mail servers wait minutes;
	// some callers give up after ten seconds.
	Pause filters.Duration `yaml:"pause"`
	// How long the network of a client (IPv4 /24, IPv6 /64) stays known after a message of it was accepted, give or take
	// a thirtieth.
	Keep filters.Duration `yaml:"keep"`
}

// Defaults returns the configuration where nothing is configured.
func Defaults() Config {
	return Config{Pause: filters.Duration(3 * time.Second), Keep: filters.Duration(35 * 24 * time.Hour)}
}

// Validate implements the check that [filters.Define] describes.
func (c *Config) Validate() error {
	var errs filters.KeyErrors
	if p := time.Duration(c.Pause); p < 100*time.Millisecond || p > 10*time.Second {
		errs.Add("pause", "must be between 100ms and 10s, not %s; to turn it off write enabled: false", c.Pause)
	}
	if k := time.Duration(c.Keep); k < time.Hour || k > 400*24*time.Hour {
		errs.Add("keep", "must be between 1h and 400d, not %s", c.Keep)
	}
	return errs.OrNil()
}

// Facts are how the pause before the greeting went.
type Facts struct {
	// The client talked before it was greeted.
	Talked bool `fact:"talked"`
	// How long the greeting was held back, in seconds; 0 for a client whose network is known.
	Waited float64 `fact:"waited" unit:"s"`
}

// notHeldBack are the facts of a client whose network is known. Shared, never written.
var notHeldBack = &Facts{}

// Filter is safe for concurrent use.
type Filter struct {
	config Config
	store  filters.Store
	clock  filters.Clock
	log    *slog.Logger
	passed chan string // keys of networks that a message was accepted from
	recent recent      // those of them that were taken
}

var (
	_ filters.Pauser  = (*Filter)(nil)
	_ filters.Runner  = (*Filter)(nil)
	_ filters.Witness = (*Filter)(nil)
)

// maxWaiting bounds the networks that wait to be written. When the store is slower than the mail, some are forgotten
// and come with the next message.
const maxWaiting = 1024

// New makes the filter.
func New(c Config, env filters.Env) (*Filter, error) {
	return &Filter{config: c, store: env.Store, clock: env.Clock, log: env.Log, passed: make(chan string, maxWaiting)}, nil
}

var errNotGreeted = errors.New("the greeting was not held back")

// Connect declares the facts. They come from Greeted; a front end that does not greet leaves them absent.
func (f *Filter) Connect(context.Context, filters.View) (*Facts, error) { return nil, errNotGreeted }

// space is where the store keeps networks that mail was accepted from.
const space = "client"

// GreetPause implements [filters.Pauser]. A store that does not answer means no pause: it would hit everybody.
func (f *Filter) GreetPause(ctx context.Context, s *filters.Session) time.Duration {
	if s.Trusted {
		return 0
	}
	marks, err := filters.PeekNow(ctx, f.store, space, []string{network(s.Client.IP)})
	if err != nil || !marks[0].Passed.IsZero() {
		return 0
	}
	return time.Duration(f.config.Pause)
}

// Greeted implements [filters.Pauser].
func (f *Filter) Greeted(talked bool, waited time.Duration) (facts any) {
	if !talked && waited < time.Millisecond {
		return notHeldBack
	}
	return &Facts{Talked: talked, Waited: waited.Seconds()}
}

// Concluded implements [filters.Witness]: the backend's 250 makes the client's network known. One that was made known a
// short while ago is left alone: to write it again with every message took 2 % of the processor time, and a wake-up.
func (f *Filter) Concluded(o *filters.Outcome) {
	if o.Kind != filters.MessageOutcome || o.Code != 250 || o.Ours || o.View.Session == nil {
		return
	}
	key := network(o.View.Session.Client.IP)
	if marks, ok := filters.PeekAtHand(f.store, space, []string{key}); ok && f.isFresh(marks[0]) {
		return
	}
	f.recent.note(key, f.clock.Now(), func() bool {
		select {
		case f.passed <- key:
			return true
		default:
			return false
		}
	})
}

// isFresh tells whether most of the time is left for which a network stays known.
func (f *Filter) isFresh(m filters.Mark) bool {
	keep := time.Duration(f.config.Keep)
	return !m.Passed.IsZero() && m.Expires.After(f.clock.Now().Add(keep-keep/32))
}

// network is the key of a client: senders with many machines use them from one network in turn.
func network(client netip.Addr) string {
	bits := 64
	if client = client.Unmap().WithZone(""); client.Is4() {
		bits = 24
	}
	prefix, _ := client.Prefix(bits) // fails for too many bits only
	return prefix.String()
}
