package shared_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	"gatepost/proxy/store"
	"gatepost/proxy/store/redistest"
	"gatepost/proxy/store/shared"
	"gatepost/proxy/store/storetest"
)

func TestMain(m *testing.M) {
	// Tests that run beside others wait for timers of servers, and not for the processor. The command line may say otherwise.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	// rueidis puts off its look at a cluster's nodes by a second, and leaves nodes that are gone after five, also when it is
	// closed meanwhile.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"),
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient)._refresh.func2"))
}

// proxy is one machine of a site.
type proxy struct {
	*shared.Store
	local *store.Store
	log   *lines
}

// lines is a log that can be read.
type lines struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

const (
	outageLine   = "this proxy decides by its own memory"
	recoveryLine = "it is used again"
)

func at(addresses ...string) store.Redis {
	c := store.Defaults().Redis
	c.Addresses = addresses
	return c
}

// newProxy starts one with an empty memory of its own.
func newProxy(t testing.TB, c store.Redis, clock filters.Clock) *proxy {
	t.Helper()
	return restartProxy(t, c, clock, t.TempDir())
}

func restartProxy(t testing.TB, c store.Redis, clock filters.Clock, folder string) *proxy {
	t.Helper()
	p := &proxy{log: &lines{}}
	config := store.Defaults()
	config.Path = folder
	log := slog.New(slog.NewTextHandler(p.log, nil))
	var err error
	if p.local, err = store.Open(config, clock, log); err != nil {
		t.Fatal(err)
	}
	p.Store = shared.Open(c, p.local, clock, log)
	t.Cleanup(p.end)
	return p
}

func (p *proxy) end() {
	p.Store.Close()
	_ = p.local.Close()
}

func (p *proxy) isUsing(t testing.TB, limit time.Duration) {
	t.Helper()
	redistest.Eventually(t, limit, func() error {
		st := p.Stats()
		if st.Since.IsZero() {
			return nil
		}
		return errors.New(st.State())
	})
}

// knowsItself waits until the proxy's own memory, which is told beside the decisions, has marks that are so.
func (p *proxy) knowsItself(t testing.TB, so func(filters.Mark) bool, keys ...string) {
	t.Helper()
	redistest.Eventually(t, 5*time.Second, func() error {
		if marks, err := p.local.Peek(t.Context(), "greylist", keys); err != nil || !so(marks[0]) {
			return fmt.Errorf("%v, %v", marks, err)
		}
		return nil
	})
}

var sender = []string{"d:example.org", "n:192.0.2.0/24|alice@example.org"}

// attempt is one decision. The log tells which ones waited for the store; the bound is wide, as the machine may be busy.
func (p *proxy) attempt(t testing.TB, keys ...string) filters.GreylistState {
	t.Helper()
	start := time.Now()
	marks, err := p.Attempt(t.Context(), "greylist", keys, storetest.Terms)
	if err != nil {
		t.Fatalf("mail would have been held up: %v", err)
	}
	took := time.Since(start)
	if took > 50*time.Millisecond {
		t.Logf("a decision took %s", took)
	}
	if took > 2*time.Second {
		t.Errorf("a decision took %s", took)
	}
	state := filters.GreylistNew
	for _, m := range marks {
		if m.Attempts > 1 && state == filters.GreylistNew {
			state = filters.GreylistEarly
		}
		if !m.Passed.IsZero() {
			state = filters.GreylistPassed
		}
	}
	return state
}

func (p *proxy) mustBe(t testing.TB, want filters.GreylistState, keys ...string) {
	t.Helper()
	if got := p.attempt(t, keys...); got != want {
		t.Fatalf("%q is %s, want %s (%s)", keys, got, want, state(p))
	}
}

func state(p *proxy) string {
	st := p.Stats()
	return st.State()
}

func TestWhoIsGreylistedAtOneProxyPassesAtAnother(t *testing.T) {
	s, clock := redistest.Start(t, redistest.Options{}), filtertest.NewClock()
	mx1, mx2 := newProxy(t, at(s.Address), clock), newProxy(t, at(s.Address), clock)
	mx1.mustBe(t, filters.GreylistNew, sender...)
	clock.Advance(time.Minute)
	mx2.mustBe(t, filters.GreylistEarly, sender...)
	clock.Advance(storetest.Terms.Delay)
	mx2.mustBe(t, filters.GreylistPassed, sender...)
	if marks, err := mx1.Peek(t.Context(), "greylist", sender); err != nil || marks[0].Passed.IsZero() {
		t.Errorf("mx1 sees %v, %v", marks, err)
	}
	if n, err := mx1.Forget(t.Context(), "greylist", sender); err != nil || n != 2 {
		t.Errorf("forgot %d, %v", n, err)
	}
	mx2.mustBe(t, filters.GreylistNew, sender...)
	if st := mx1.Stats(); st.Fallbacks != 0 || st.Outages != 0 {
		t.Errorf("%d decisions of its own, %d outages", st.Fallbacks, st.Outages)
	}
}

// outage lets a site of two proxies go through an outage of the store, begun and ended by the functions.
func outage(t *testing.T, c1, c2 store.Redis, begin, end func()) {
	clock := filtertest.NewClock()
	mx1, mx2 := newProxy(t, c1, clock), newProxy(t, c2, clock)
	mx1.isUsing(t, 5*time.Second)
	mx2.isUsing(t, 5*time.Second)
	known := []string{"d:example.net", "n:198.51.100.0/24|bob@example.net"}
	mx1.mustBe(t, filters.GreylistNew, known...)
	clock.Advance(storetest.Terms.Delay)
	mx1.mustBe(t, filters.GreylistPassed, known...)
	mx1.knowsItself(t, func(m filters.Mark) bool { return !m.Passed.IsZero() }, known...)

	begin()
	// Whom this proxy has passed is not delayed. Who is new is delayed once.
	mx1.mustBe(t, filters.GreylistPassed, known...)
	mx1.mustBe(t, filters.GreylistNew, sender...)
	clock.Advance(storetest.Terms.Delay)
	mx1.mustBe(t, filters.GreylistPassed, sender...)
	late := []string{"n:203.0.113.0/24|carol@example.com"}
	mx1.mustBe(t, filters.GreylistNew, late...)
	if _, err := mx1.Forget(t.Context(), "greylist", known); err != nil {
		t.Error(err)
	}
	if n := mx1.log.count(outageLine); n != 1 {
		t.Errorf("the outage is logged %d times", n)
	}
	if st := mx1.Stats(); st.Since.IsZero() || st.Outages != 1 || st.Fallbacks < 5 {
		t.Errorf("%+v", st)
	}

	end()
	mx1.isUsing(t, 20*time.Second)
	mx2.isUsing(t, 20*time.Second)
	if n := mx1.log.count(recoveryLine); n != 1 {
		t.Errorf("the recovery is logged %d times", n)
	}
	// What mx1 has learned is known at mx2: passes, first attempts, and what an operator forgot.
	mx2.mustBe(t, filters.GreylistPassed, sender...)
	mx2.mustBe(t, filters.GreylistEarly, late...)
	clock.Advance(storetest.Terms.Delay)
	mx2.mustBe(t, filters.GreylistPassed, late...)
	mx2.mustBe(t, filters.GreylistNew, known...)
}

func TestAStalledNetwork(t *testing.T) {
	s := redistest.Start(t, redistest.Options{})
	between := redistest.Forward(t, s.Address)
	outage(t, at(between.Address), at(s.Address), between.Stall, between.Heal)
}

func TestACutNetwork(t *testing.T) {
	s := redistest.Start(t, redistest.Options{})
	between := redistest.Forward(t, s.Address)
	outage(t, at(between.Address), at(s.Address), func() { between.Stall(); between.Cut() }, between.Heal)
}

func TestAStalledServer(t *testing.T) {
	s := redistest.Start(t, redistest.Options{})
	outage(t, at(s.Address), at(s.Address), s.Stall, s.Resume)
}

func TestAFullServer(t *testing.T) {
	s := redistest.Start(t, redistest.Options{Lines: []string{"maxmemory-policy noeviction"}})
	outage(t, at(s.Address), at(s.Address), func() { s.Must("CONFIG", "SET", "maxmemory", "1") },
		func() { s.Must("CONFIG", "SET", "maxmemory", "0") })
}

func TestAServerThatIsReadOnly(t *testing.T) {
	s := redistest.Start(t, redistest.Options{})
	outage(t, at(s.Address), at(s.Address), func() { s.Must("REPLICAOF", "127.0.0.1", "1") },
		func() { s.Must("REPLICAOF", "NO", "ONE") })
}

func TestAFlush(t *testing.T) {
	s, clock := redistest.Start(t, redistest.Options{}), filtertest.NewClock()
	mx1, mx2 := newProxy(t, at(s.Address), clock), newProxy(t, at(s.Address), clock)
	mx1.mustBe(t, filters.GreylistNew, sender...)
	clock.Advance(storetest.Terms.Delay)
	mx1.mustBe(t, filters.GreylistPassed, sender...)
	s.Must("FLUSHALL")
	s.Must("SCRIPT", "FLUSH")
	// One further greylist period, and no more.
	mx2.mustBe(t, filters.GreylistNew, sender...)
	clock.Advance(storetest.Terms.Delay)
	mx1.mustBe(t, filters.GreylistPassed, sender...)
	redistest.Eventually(t, 5*time.Second, func() error {
		marks, err := mx1.Peek(t.Context(), "greylist", sender)
		if err != nil || !marks[0].First.Equal(clock.Now().Add(-storetest.Terms.Delay)) {
			return fmt.Errorf("%v, %v: what was known before the flush is believed", marks, err)
		}
		return nil
	})
	if st := mx1.Stats(); st.Outages != 0 {
		t.Errorf("%d outages", st.Outages)
	}
}

func TestAServerThatStartsAgainEmpty(t *testing.T) {
	s, clock := redistest.Start(t, redistest.Options{}), filtertest.NewClock()
	mx := newProxy(t, at(s.Address), clock)
	mx.mustBe(t, filters.GreylistNew, sender...)
	mx.knowsItself(t, filters.Mark.Exists, sender...)
	s.Kill()
	mx.mustBe(t, filters.GreylistEarly, sender...)
	clock.Advance(storetest.Terms.Delay)
	mx.mustBe(t, filters.GreylistPassed, sender...)
	s.Restart()
	mx.isUsing(t, 20*time.Second)
	mx.mustBe(t, filters.GreylistPassed, sender...)
}

func TestAStartWithoutTheServer(t *testing.T) {
	t.Parallel() // it mostly waits for the server
	s, clock, folder := redistest.Start(t, redistest.Options{}), filtertest.NewClock(), t.TempDir()
	s.Kill()
	mx := restartProxy(t, at(s.Address), clock, folder)
	mx.mustBe(t, filters.GreylistNew, sender...)
	if mx.log.count(outageLine) != 1 {
		t.Error("it does not say that the store cannot be used")
	}
	mx.end()
	// The next one merges what its predecessor learned.
	s.Restart()
	mx = restartProxy(t, at(s.Address), clock, folder)
	mx.isUsing(t, 20*time.Second)
	other := newProxy(t, at(s.Address), clock)
	other.mustBe(t, filters.GreylistEarly, sender...)
}

func TestASentinelFailover(t *testing.T) {
	t.Parallel() // it mostly waits for the Sentinels to agree
	servers, sentinels := redistest.StartSentinels(t)
	c := at(redistest.Addresses(sentinels)...)
	c.Sentinel = "marks"
	outage(t, c, c, servers[0].Kill, func() {})
}

func TestACallerWhoLeavesIsNoOutage(t *testing.T) {
	s := redistest.Start(t, redistest.Options{})
	mx := newProxy(t, at(s.Address), filters.SystemClock{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := mx.Attempt(ctx, "greylist", sender, storetest.Terms); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if st := mx.Stats(); st.Outages != 0 || st.Fallbacks != 0 {
		t.Errorf("%+v", st)
	}
}
