package greylist

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tb is a test, or a case of a property.
type tb interface {
	rapid.TB
	Context() context.Context
}

// site is a greylist with its store and clock.
type site struct {
	t     tb
	f     *Filter
	store *filtertest.Store
	clock *filtertest.Clock
}

func newSite(t tb) *site {
	env := filtertest.NewEnv(nil)
	f, err := New(Defaults(), env)
	if err != nil {
		t.Fatal(err)
	}
	return &site{t, f, env.Store.(*filtertest.Store), env.Clock.(*filtertest.Clock)}
}

// from is a transaction at MAIL of a client and a sender, whose domain SPF has proved unless it is empty.
var from = filtertest.Proved

func (s *site) attempt(v filters.View) filters.GreylistState {
	s.t.Helper()
	before := s.marks()
	looked := s.look(v)
	if after := s.marks(); !slices.Equal(before, after) {
		s.t.Errorf("looking changed the store from %q to %q", before, after)
	}
	attempt, err := s.f.Attempt(s.t.Context(), v)
	if err != nil {
		s.t.Fatal(err)
	}
	state := attempt.State
	if state == filters.GreylistPassed != (looked.State == string(filters.GreylistPassed)) {
		s.t.Errorf("the facts said %q, the attempt %q", looked.State, state)
	}
	return state
}

func (s *site) look(v filters.View) *Facts {
	s.t.Helper()
	facts, err := s.f.Mail(s.t.Context(), v)
	if err != nil {
		s.t.Fatal(err)
	}
	return facts
}

func (s *site) marks() (all []string) {
	err := s.store.Range(s.t.Context(), space, "", func(key string, m filters.Mark) bool {
		all = append(all, fmt.Sprint(key, m))
		return true
	})
	if err != nil {
		s.t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func (s *site) want(v filters.View, want filters.GreylistState) {
	s.t.Helper()
	if got := s.attempt(v); got != want {
		s.t.Errorf("%s from %s is %q, want %q", v.Envelope.ReversePath, v.Session.Client.IP, got, want)
	}
}

func TestASenderPassesWhenItComesBack(t *testing.T) {
	s := newSite(t)
	v := from("192.0.2.7", "alice@example.org", "")
	if facts := s.look(v); facts.State != "new" || facts.Age != nil || facts.Key != "n:192.0.2.0/24|alice@example.org" {
		t.Errorf("at first: %+v", facts)
	}
	s.want(v, filters.GreylistNew)
	s.clock.Advance(299 * time.Second)
	s.want(v, filters.GreylistEarly)
	if facts := s.look(v); facts.State != "early" || facts.Age == nil || *facts.Age != 299 {
		t.Errorf("early: %+v", facts)
	}
	s.clock.Advance(time.Second)
	s.want(v, filters.GreylistPassed)
	s.clock.Advance(34 * 24 * time.Hour)
	s.want(v, filters.GreylistPassed)
	s.clock.Advance(36 * 24 * time.Hour)
	s.want(v, filters.GreylistNew)
	s.clock.Advance(24 * time.Hour)
	s.want(v, filters.GreylistNew)
}

func TestAPoolPassesOnItsProvedDomain(t *testing.T) {
	s := newSite(t)
	s.want(from("192.0.2.7", "alice@pool.example", "pool.example"), filters.GreylistNew)
	s.clock.Advance(6 * time.Minute)
	s.want(from("2001:db8::7", "alice@pool.example", "pool.example"), filters.GreylistPassed)
	s.want(from("198.51.100.7", "bob@pool.example", "Pool.Example."), filters.GreylistPassed)
	// Forged from elsewhere, the name is worth nothing.
	s.want(from("203.0.113.66", "alice@pool.example", ""), filters.GreylistNew)
}

func TestAWideRecordProvesNothing(t *testing.T) {
	s := newSite(t)
	wide := func(client string) filters.View {
		v := from(client, "x@wide.example", "wide.example")
		v.Facts.(filtertest.Facts)["spf.wide"] = true
		return v
	}
	s.want(wide("192.0.2.7"), filters.GreylistNew)
	s.clock.Advance(6 * time.Minute)
	s.want(wide("198.51.100.7"), filters.GreylistNew)
	unknown := from("198.51.100.9", "x@wide.example", "wide.example")
	delete(unknown.Facts.(filtertest.Facts), "spf.wide")
	if facts := s.look(unknown); strings.HasPrefix(facts.Key, "d:") {
		t.Errorf("a record of unknown width proved %s", facts.Key)
	}
}

func TestOnePassIsStoredUnderAllKeys(t *testing.T) {
	s := newSite(t)
	s.want(from("192.0.2.7", "alice@example.org", ""), filters.GreylistNew)
	s.clock.Advance(6 * time.Minute)
	// The network's attempt is old enough; with it the domain, proved for the first time, passes as well.
	s.want(from("192.0.2.8", "alice@example.org", "example.org"), filters.GreylistPassed)
	s.want(from("203.0.113.5", "carol@example.org", "example.org"), filters.GreylistPassed)
}

func TestVERPDoesNotWaitForEver(t *testing.T) {
	s := newSite(t)
	s.want(from("192.0.2.7", "bounces-1001-user=example.org@mail.example.com", ""), filters.GreylistNew)
	s.clock.Advance(6 * time.Minute)
	s.want(from("192.0.2.99", "bounces-1002-user=example.org@mail.example.com", ""), filters.GreylistPassed)
	s.want(from("192.0.3.1", "bounces-1003-user=example.org@mail.example.com", ""), filters.GreylistNew)
}

func TestTheNullSender(t *testing.T) {
	s := newSite(t)
	if key := s.look(from("2001:db8:1:2:3::4", "", "")).Key; key != "n:2001:db8:1:2::/64|" {
		t.Errorf("without SPF: %s", key)
	}
	if key := s.look(from("192.0.2.7", "", "mail.example.com")).Key; key != "d:mail.example.com" {
		t.Errorf("with SPF: %s", key)
	}
	s.want(from("192.0.2.7", "", "mail.example.com"), filters.GreylistNew)
	if marks := s.marks(); len(marks) != 1 {
		t.Errorf("marks: %q", marks)
	}
}

func TestAMappedAddressIsItsIPv4Address(t *testing.T) {
	s := newSite(t)
	v := from("192.0.2.7", "a@example.org", "")
	session := *v.Session
	session.Client = filters.ClientAt(netip.MustParseAddrPort("[::ffff:192.0.2.7]:25"))
	v.Session = &session
	if key := s.look(v).Key; key != "n:192.0.2.0/24|a@example.org" {
		t.Errorf("key %s", key)
	}
}

func TestDeliveredMailRenewsAPass(t *testing.T) {
	s := newSite(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.f.Run(ctx); close(done) }()
	known, stranger := from("192.0.2.7", "alice@example.org", ""), from("192.0.2.7", "bob@example.org", "")
	s.want(known, filters.GreylistNew)
	s.clock.Advance(6 * time.Minute)
	s.want(known, filters.GreylistPassed)
	s.clock.Advance(30 * 24 * time.Hour)
	for _, o := range []*filters.Outcome{
		{Kind: filters.MessageOutcome, View: from("198.51.100.7", "nobody@example.org", ""), Code: 250},
		{Kind: filters.MessageOutcome, View: known, Code: 250},
		{Kind: filters.MessageOutcome, View: stranger, Code: 250},
		{Kind: filters.MessageOutcome, View: stranger, Code: 451, Ours: true},
		{Kind: filters.RecipientOutcome, View: known, Code: 250},
		{Kind: filters.SessionOutcome, View: filtertest.Connected("192.0.2.7"), Code: 221},
	} {
		s.f.Concluded(o)
	}
	cancel()
	<-done
	s.clock.Advance(30 * 24 * time.Hour)
	if state := s.look(known).State; state != "passed" {
		t.Errorf("the delivered message did not renew the pass: %s", state)
	}
	if marks := s.marks(); len(marks) != 1 {
		t.Errorf("senders that never had to wait are remembered: %q", marks)
	}
}

func TestRenewalLearnsTheNewNetwork(t *testing.T) {
	s := newSite(t)
	s.want(from("192.0.2.7", "alice@example.org", "example.org"), filters.GreylistNew)
	s.clock.Advance(6 * time.Minute)
	s.want(from("192.0.2.7", "alice@example.org", "example.org"), filters.GreylistPassed)
	s.f.Concluded(&filters.Outcome{Kind: filters.MessageOutcome, View: from("2001:db8::7", "alice@example.org", "example.org"), Code: 250})
	s.f.drain(t.Context())
	if state := s.look(from("2001:db8::7", "alice@example.org", "")).State; state != "passed" {
		t.Errorf("the domain's pass did not reach the new network: %s", state)
	}
}

func TestAFullQueueDropsAndCounts(t *testing.T) {
	s := newSite(t)
	o := &filters.Outcome{Kind: filters.MessageOutcome, View: from("192.0.2.7", "alice@example.org", ""), Code: 250}
	for range maxUses + 3 {
		s.f.Concluded(o)
	}
	if n := s.f.Dropped(); n != 3 {
		t.Errorf("dropped %d", n)
	}
	next := newSite(t)
	next.f.Adopt(s.f)
	if len(next.f.uses) != maxUses {
		t.Error("the new filter does not hear the old one's sessions")
	}
}

func TestOperator(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	for _, v := range []filters.View{
		from("192.0.2.7", "alice@example.org", "example.org"), from("192.0.2.9", "bob@example.org", ""), from("198.51.100.1", "carol@example.net", ""),
		from("2001:db8::1", "dave@example.com", ""), from("192.0.2.7", "", ""),
	} {
		s.want(v, filters.GreylistNew)
	}
	list := func(query string) string {
		t.Helper()
		var keys []string
		if err := s.f.List(ctx, query, func(e Entry) bool { keys = append(keys, e.Key); return true }); err != nil {
			t.Errorf("%q: %v", query, err)
		}
		slices.Sort(keys)
		return strings.Join(keys, " ")
	}
	const alice, bob, carol, dave, null = "n:192.0.2.0/24|alice@example.org", "n:192.0.2.0/24|bob@example.org", "n:198.51.100.0/24|carol@example.net", "n:2001:db8::/64|dave@example.com", "n:192.0.2.0/24|"
	for query, want := range map[string]string{
		"":                             strings.Join([]string{"d:example.org", null, alice, bob, carol, dave}, " "),
		"192.0.2.200":                  strings.Join([]string{null, alice, bob}, " "),
		"192.0.2.0/24":                 strings.Join([]string{null, alice, bob}, " "),
		"192.0.0.0/16":                 strings.Join([]string{null, alice, bob}, " "),
		"0.0.0.0/0":                    strings.Join([]string{null, alice, bob, carol}, " "),
		"[2001:db8::ffff]":             dave,
		"alice@example.org":            "d:example.org " + alice,
		"<Alice+tag@Example.ORG>":      "d:example.org " + alice,
		"192.0.2.1 alice@example.org":  alice,
		"example.org":                  strings.Join([]string{"d:example.org", alice, bob}, " "),
		"Example.NET.":                 carol,
		"<>":                           null,
		"n:192":                        strings.Join([]string{null, alice, bob}, " "),
		"198.51.100.0/24 example.net":  carol,
		"198.51.100.0/24 bob@nobody.x": "",
	} {
		if got := list(query); got != want {
			t.Errorf("%q: %s; want %s", query, got, want)
		}
	}
	for _, query := range []string{"192.0.2", "a b c", "alice@example.org bob@example.org", "1.2.3.4 5.6.7.8", "x/y"} {
		if err := s.f.List(ctx, query, func(Entry) bool { return true }); err == nil {
			t.Errorf("%q was understood", query)
		}
	}

	if keys, err := s.f.Forget(ctx, "example.org"); err != nil || len(keys) != 3 {
		t.Errorf("forgot %q, %v", keys, err)
	}
	if _, err := s.f.Forget(ctx, " "); err == nil {
		t.Error("everything can be forgotten by accident")
	}
	if got := list("example.org"); got != "" {
		t.Errorf("left: %s", got)
	}
}

func TestPassByHand(t *testing.T) {
	for query, passes := range map[string]filters.View{
		"203.0.113.9":                      from("203.0.113.77", "anyone@example.com", ""),
		"203.0.113.0/24":                   from("203.0.113.77", "", ""),
		"eve+news@example.com":             from("192.0.2.1", "eve@example.com", ""),
		"example.com":                      from("192.0.2.1", "frank@example.com", ""),
		"192.0.2.0/24 grace@example.com":   from("192.0.2.2", "grace@example.com", ""),
		"192.0.2.0/24 <>":                  from("192.0.2.2", "", ""),
		"d:example.com":                    from("2001:db8::1", "heidi@example.com", "example.com"),
		"n:192.0.2.0/24|ivan@example.com":  from("192.0.2.2", "ivan@example.com", ""),
		"2001:db8:0:0::1 judy@example.com": from("2001:db8::2", "judy@example.com", ""),
	} {
		s := newSite(t)
		stranger := from("198.51.100.3", "zoe@example.net", "")
		key, err := s.f.Pass(t.Context(), query)
		if err != nil {
			t.Errorf("%q: %v", query, err)
			continue
		}
		s.want(passes, filters.GreylistPassed)
		s.want(stranger, filters.GreylistNew)
		if facts := s.look(passes); facts.Key != key {
			t.Errorf("%q passed %s, but the facts name %s", query, key, facts.Key)
		}
	}
	s := newSite(t)
	for _, query := range []string{"", "10.0.0.0/8", "192.0.2.0/24 example.org", "<>"} {
		if key, err := s.f.Pass(t.Context(), query); err == nil {
			t.Errorf("%q passed %s", query, key)
		}
	}
}

func TestAnAttemptDoesNotPassANetworkByHand(t *testing.T) {
	s := newSite(t)
	s.want(from("192.0.2.7", "alice@example.org", ""), filters.GreylistNew)
	s.clock.Advance(6 * time.Minute)
	s.want(from("192.0.2.7", "alice@example.org", ""), filters.GreylistPassed)
	s.want(from("192.0.2.7", "mallory@example.org", ""), filters.GreylistNew)
}

type brokenStore struct{ filters.Store }

func (brokenStore) Peek(context.Context, string, []string) ([]filters.Mark, error) {
	return nil, errors.New("broken")
}

func (brokenStore) Attempt(context.Context, string, []string, filters.Terms) ([]filters.Mark, error) {
	return nil, errors.New("broken")
}

func TestABrokenStoreIsAnErrorAndNeverAState(t *testing.T) {
	s := newSite(t)
	s.f.store = brokenStore{}
	if _, err := s.f.Mail(t.Context(), from("192.0.2.7", "a@example.org", "")); err == nil {
		t.Error("Mail knows a state")
	}
	if _, err := s.f.Attempt(t.Context(), from("192.0.2.7", "a@example.org", "")); err == nil {
		t.Error("Attempt knows a state")
	}
}

func TestEveryFactIsDeclared(t *testing.T) {
	c := Spec.NewConfig().(*Config)
	if err := c.Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	built, err := Spec.Build(c, filtertest.NewEnv(nil))
	if err != nil {
		t.Fatal(err)
	}
	o := Spec.Observations[0]
	facts, err := o.Observe(t.Context(), built, from("192.0.2.7", "a@example.org", ""))
	if err != nil || facts.(*Facts).State != "new" {
		t.Errorf("%+v, %v", facts, err)
	}
	bad := Config{Delay: 10, Window: 5, Keep: 1, IPv4Prefix: 40}
	for _, key := range []string{"delay", "keep", "ipv4_prefix", "ipv6_prefix"} {
		if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), key+":") {
			t.Errorf("%s is not named in %v", key, err)
		}
	}
}

// A sender that retries from any of its pool's addresses is in after the delay, whatever came before.
func TestEverySenderThatComesBackPasses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clock := filtertest.NewClock()
		env := filtertest.NewEnv(nil)
		env.Clock, env.Store = clock, filtertest.NewStore(clock)
		f, err := New(Defaults(), env)
		if err != nil {
			t.Fatal(err)
		}
		proved := rapid.SampledFrom([]string{"", "pool.example"}).Draw(t, "proved")
		client := rapid.SampledFrom([]string{"192.0.2.1", "192.0.2.200", "198.51.100.3", "2001:db8::1", "2001:db8:5::1"})
		first := client.Draw(t, "first client")
		var waited time.Duration
		for n := 0; ; n++ {
			sender := fmt.Sprintf("news-%d-user=example.org@pool.example", rapid.IntRange(0, 1e6).Draw(t, "message"))
			at := first
			if proved != "" {
				at = client.Draw(t, "client")
			}
			attempt, err := f.Attempt(t.Context(), from(at, sender, proved))
			if err != nil {
				t.Fatal(err)
			}
			if age := clock.Now().Sub(attempt.First); age != waited {
				t.Fatalf("the first attempt was %s ago and is said to be %s ago", waited, age)
			}
			state := attempt.State
			if (state == filters.GreylistPassed) != (waited >= 5*time.Minute) {
				t.Fatalf("%q after %s", state, waited)
			}
			if state == filters.GreylistPassed {
				return
			}
			step := time.Duration(rapid.IntRange(1, 400).Draw(t, "seconds")) * time.Second
			clock.Advance(step)
			waited += step
		}
	})
}

func BenchmarkMail(b *testing.B) {
	s := newSite(b)
	v := from("192.0.2.7", "bounces-12345-user=example.org@mail.example.com", "mail.example.com")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.f.Mail(b.Context(), v); err != nil {
			b.Fatal(err)
		}
	}
}
