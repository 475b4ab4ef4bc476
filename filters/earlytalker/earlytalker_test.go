package earlytalker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newFilter(t *testing.T) (*Filter, filters.Env) {
	t.Helper()
	env := filtertest.NewEnv(filtertest.NewZone())
	f, err := New(Defaults(), env)
	if err != nil {
		t.Fatal(err)
	}
	return f, env
}

func session(client string) *filters.Session { return filtertest.Connected(client).Session }

func delivered(client string) *filters.Outcome {
	return &filters.Outcome{Kind: filters.MessageOutcome, View: filtertest.Mailed(client, "a.example", "b@a.example"), Code: 250}
}

func TestPauseIsForStrangers(t *testing.T) {
	f, env := newFilter(t)
	if err := env.Store.Pass(t.Context(), "client", []string{"192.0.2.0/24", "2001:db8::/64"}, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := env.Store.Attempt(t.Context(), "client", []string{"198.51.100.0/24"}, filters.Terms{Delay: time.Hour, Window: time.Hour}); err != nil {
		t.Fatal(err)
	}
	pause := time.Duration(Defaults().Pause)
	for client, want := range map[string]time.Duration{
		"192.0.2.200": 0, "::ffff:192.0.2.200": 0, "2001:db8::ffff": 0,
		"203.0.113.1": pause, "2001:db8:0:1::1": pause, "198.51.100.1": pause,
	} {
		if got := f.GreetPause(t.Context(), session(client)); got != want {
			t.Errorf("%s waits %s, want %s", client, got, want)
		}
	}
	trusted := session("203.0.113.1")
	trusted.Trusted = true
	if got := f.GreetPause(t.Context(), trusted); got != 0 {
		t.Errorf("a trusted client waits %s", got)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got := f.GreetPause(ended, session("203.0.113.1")); got != 0 {
		t.Errorf("a store that does not answer makes clients wait %s", got)
	}
}

func TestFactsComeFromGreeted(t *testing.T) {
	f, _ := newFilter(t)
	got := f.Greeted(true, 1500*time.Millisecond).(*Facts)
	if !got.Talked || got.Waited != 1.5 {
		t.Errorf("%+v", got)
	}
	if facts, err := f.Connect(t.Context(), filtertest.Connected("192.0.2.1")); err == nil {
		t.Errorf("facts without a greeting: %+v", facts)
	}
}

func TestDeliveryMakesKnown(t *testing.T) {
	f, env := newFilter(t)
	ours, refused, recipient, none := delivered("198.51.100.1"), delivered("198.51.100.2"), delivered("198.51.100.3"), &filters.Outcome{Kind: filters.MessageOutcome, Code: 250}
	ours.Ours = true
	refused.Code = 550
	recipient.Kind = filters.RecipientOutcome
	for _, o := range []*filters.Outcome{ours, refused, recipient, none, delivered("203.0.113.7")} {
		f.Concluded(o)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { f.Run(ctx) })
	cancel()
	running.Wait() // what waits is written before the end

	known := map[string]filters.Mark{}
	env.Store.Range(t.Context(), "client", "", func(key string, m filters.Mark) bool { known[key] = m; return true })
	m, ok := known["203.0.113.0/24"]
	if len(known) != 1 || !ok || m.Expires != filtertest.Start.Add(35*24*time.Hour) {
		t.Errorf("known: %+v", known)
	}
	if got := f.GreetPause(t.Context(), session("203.0.113.99")); got != 0 {
		t.Errorf("a neighbour of a known client waits %s", got)
	}
}

func TestWhatIsKnownIsRenewedNowAndThen(t *testing.T) {
	f, env := newFilter(t)
	if err := env.Store.Pass(t.Context(), "client", []string{"192.0.2.0/24"}, time.Duration(Defaults().Keep)); err != nil {
		t.Fatal(err)
	}
	f.Concluded(delivered("192.0.2.1"))
	if len(f.passed) != 0 {
		t.Error("what was written a moment ago is written again")
	}
	env.Clock.(*filtertest.Clock).Advance(2 * 24 * time.Hour)
	f.Concluded(delivered("192.0.2.1"))
	if len(f.passed) != 1 {
		t.Error("what was written days ago is not renewed")
	}
}

// asked is a store that has nothing at hand, as a shared one.
type asked struct{ filters.Store }

func (s asked) Peek(ctx context.Context, space string, keys []string) ([]filters.Mark, error) {
	if a := filters.AttemptOf(ctx); a != nil {
		a.Miss()
		return nil, filters.ErrNotAtHand
	}
	return s.Store.Peek(ctx, space, keys)
}

func TestASharedStoreIsWrittenToNowAndThen(t *testing.T) {
	f, env := newFilter(t)
	f.store = asked{f.store}
	for range 100 {
		f.Concluded(delivered("192.0.2.7"))
	}
	if n := len(f.passed); n != 1 {
		t.Errorf("100 messages of a network are %d writes", n)
	}
	env.Clock.(*filtertest.Clock).Advance(rest)
	f.Concluded(delivered("198.51.100.8"))
	env.Clock.(*filtertest.Clock).Advance(rest)
	f.Concluded(delivered("192.0.2.7"))
	if n := len(f.passed); n != 3 {
		t.Errorf("after two hours and another network it is %d writes", n)
	}
}

func TestConcludedNeverWaits(t *testing.T) {
	f, env := newFilter(t)
	for i := range 2 * maxWaiting {
		f.Concluded(delivered(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}).String()))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { f.Run(ctx) })
	for len(f.passed) > 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	running.Wait()
	n := 0
	env.Store.Range(t.Context(), "client", "", func(string, filters.Mark) bool { n++; return true })
	if n != maxWaiting {
		t.Errorf("%d networks were written, want %d", n, maxWaiting)
	}
}

func TestConfigMistakes(t *testing.T) {
	good := Defaults()
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	bad := Config{Pause: filters.Duration(time.Minute), Keep: 0}
	var errs filters.KeyErrors
	if !errors.As(bad.Validate(), &errs) || len(errs) != 2 {
		t.Errorf("mistakes: %v", errs)
	}
}

func TestEveryAddressHasANetwork(t *testing.T) {
	network(netip.Addr{}) // no address at all: any key, no panic
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address")
		if rapid.Bool().Draw(t, "IPv4") {
			raw = raw[:4]
		}
		address, _ := netip.AddrFromSlice(raw)
		prefix, err := netip.ParsePrefix(network(address))
		if err != nil || !prefix.Contains(address.Unmap()) {
			t.Fatal(fmt.Sprint(address, prefix, err))
		}
	})
}
