package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/all"
	"gatepost/filters/filtertest"
	"gatepost/policy"
	"gatepost/proxy/config"
	"gatepost/rules"
)

// countingStore counts decisions: each is a round trip where the store is shared.
type countingStore struct {
	*filtertest.Store
	peeks, writes atomic.Int64
	standings     atomic.Int64 // looks at reputations, before what a shared store remembers of them
}

func (s *countingStore) Standings(ctx context.Context, keys []string) ([]filters.Standing, error) {
	s.standings.Add(1)
	return s.Store.Standings(ctx, keys)
}

func (s *countingStore) Peek(ctx context.Context, space string, keys []string) ([]filters.Mark, error) {
	s.peeks.Add(1)
	return s.Store.Peek(ctx, space, keys)
}

func (s *countingStore) Attempt(ctx context.Context, space string, keys []string, t filters.Terms) ([]filters.Mark, error) {
	s.writes.Add(1)
	return s.Store.Attempt(ctx, space, keys, t)
}

func (s *countingStore) Pass(ctx context.Context, space string, keys []string, keep time.Duration) error {
	s.writes.Add(1)
	return s.Store.Pass(ctx, space, keys, keep)
}

func (s *countingStore) take() (peeks, writes int64) { return s.peeks.Swap(0), s.writes.Swap(0) }

// defaultSite is an engine with the default rules over a store that counts. There is no greeting pause.
type defaultSite struct {
	t      *testing.T
	engine *policy.Engine
	store  *countingStore
	clock  *filtertest.Clock
	serial int
}

func newDefaultSite(t *testing.T, zone string) *defaultSite {
	t.Helper()
	file := filepath.Join(t.TempDir(), "gatepost.yaml")
	text := "hostname: mx.example.org\ndomains: [example.org]\nbackend: 127.0.0.1:1\nfilters:\n  ratelimit: {enabled: false}\n  earlytalker: {enabled: false}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, problems := config.Load(file, all.Specs())
	if c == nil {
		t.Fatal(problems)
	}
	clock := filtertest.NewClock()
	s := &defaultSite{t: t, store: &countingStore{Store: filtertest.NewStore(clock)}, clock: clock}
	env := filtertest.NewEnv(filtertest.MustParseZone(zone))
	env.Hostname, env.Domains, env.Store, env.Clock = c.Hostname, c.Domains, s.store, clock
	engine, problems := c.Compile(all.Specs(), env)
	if engine == nil {
		t.Fatal(problems)
	}
	s.engine = engine
	return s
}

// offer is a session with one message; it tells whether that was delivered.
func (s *defaultSite) offer(client netip.Addr, sender string) bool {
	s.t.Helper()
	s.serial++
	ctx, now := context.Background(), s.clock.Now()
	id := fmt.Sprintf("S%d", s.serial)
	g := s.engine.NewGate(&filters.Session{ID: id, Client: filters.ClientAt(netip.AddrPortFrom(client, 4000)), Accepted: now}, &policy.Runtime{Clock: s.clock})
	defer g.Close("")
	g.Connect(ctx)
	g.Greet(ctx, false, 0)
	g.Helo(ctx, &filters.Greeting{Name: "client.example.net", Extended: filters.Known(true)})
	g.Mail(ctx, &filters.Envelope{ID: id + ".1", ReversePath: sender, Started: now})
	ending := policy.Ending{Reply: rules.Reply{Code: 451}, Ours: true}
	defer func() { g.Conclude(ending) }()
	if g.Rcpt(ctx, &filters.Recipient{ForwardPath: "alice@example.org"}).Action != 0 || g.Accepted(ctx).Action != 0 {
		return false
	}
	g.Data(ctx)
	message := filters.NewMessage(1<<16, nil)
	defer message.Release()
	g.Message(message)
	if _, err := message.Write([]byte("Subject: x\r\n\r\ny\r\n")); err != nil {
		s.t.Fatal(err)
	}
	message.Complete()
	if v, _ := g.EndOfData(ctx); v.Action == 0 {
		ending = policy.Ending{Reply: rules.Reply{Code: 250}, Size: message.Size()}
	}
	return !ending.Ours
}

// settle lets the filters write what they have noted.
func (s *defaultSite) settle() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.engine.Run(ctx)
}

// What the default rules ask of the store; docs/shared-state.md quotes it.
func TestStoreOperationsOfAMessage(t *testing.T) {
	s := newDefaultSite(t, "shop.test TXT v=spf1 ip4:198.51.100.0/24 -all\n")
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}) }
	const messages = 500
	for i := range messages {
		if s.offer(address(i), fmt.Sprintf("user%d@nobody.test", i)) {
			t.Fatal("a stranger was not greylisted")
		}
	}
	s.settle()
	peeks, writes := s.store.take()
	standings := s.store.standings.Load()
	if peeks > 1 || writes != messages || standings > messages {
		t.Errorf("%d first attempts of strangers: %d looks, %d writes, %d looks at reputations", messages, peeks, writes, standings)
	}
	t.Logf("a stranger from a new network: %.2f operations", float64(peeks+writes+standings)/messages)

	pool := netip.MustParseAddr("198.51.100.7")
	if s.offer(pool, "codes@shop.test") {
		t.Error("a proved stranger was not greylisted")
	}
	s.clock.Advance(6 * time.Minute)
	if !s.offer(pool.Next(), "codes@shop.test") {
		t.Error("its retry was")
	}
	s.settle()
	if peeks, writes := s.store.take(); peeks != 3 || writes != 3 {
		t.Errorf("a proved stranger's first message, two attempts: %d looks, %d writes", peeks, writes)
	}

	for range messages {
		if !s.offer(pool, "codes@shop.test") {
			t.Fatal("a known sender was greylisted")
		}
	}
	s.settle()
	peeks, writes = s.store.take()
	if peeks > messages*11/10 || writes > messages/10 {
		t.Errorf("%d messages of a known sender: %d looks, %d writes", messages, peeks, writes)
	}
	t.Logf("a known sender: %.2f operations, beside reputations that were read in the last half minute", float64(peeks+writes)/messages)
	t.Logf("%d looks at reputations in all", s.store.standings.Load())
	if n, most := s.store.standings.Load(), int64(2*messages+2); n > most || n < messages {
		t.Errorf("%d looks at reputations for %d messages", n, most)
	}
}
