package engine_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	"gatepost/proxy/store"
	"gatepost/proxy/store/engine"
	"gatepost/proxy/store/redistest"
	"gatepost/proxy/store/storetest"
)

func TestMain(m *testing.M) {
	// rueidis puts off its look at a cluster's nodes by a second, and leaves nodes that are gone after five, also when it is
	// closed meanwhile.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"),
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient)._refresh.func2"))
}

func config(addresses ...string) store.Redis {
	c := store.Defaults().Redis
	c.Addresses = addresses
	return c
}

func open(t testing.TB, c store.Redis, clock filters.Clock) *engine.Engine {
	t.Helper()
	e, err := engine.Open(c, clock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

func behavesAsTheModel(t *testing.T, c store.Redis, empty func()) {
	clock := filtertest.NewClock()
	e := open(t, c, clock)
	rapid.Check(t, func(t *rapid.T) {
		empty()
		storetest.Run(t, storetest.System{
			Clock: clock,
			Lag:   2 * time.Second,
			Store: func() storetest.Mergeable { return e },
			Merge: func(ctx context.Context, space string, keys []string, marks []filters.Mark) error {
				_, err := e.Merge(ctx, space, keys, marks)
				return err
			},
		})
	})
}

// tallies counts at once, as the batches of one writer.
type tallies struct {
	*engine.Engine
	t     *rapid.T
	clock filters.Clock
	batch uint64
}

func (l *tallies) Tally(key string, n filters.Counts, halfLife time.Duration) {
	l.batch++
	for range 2 { // the second time changes nothing
		w := engine.Writer{ID: "w", Batch: l.batch}
		if err := l.Add(l.t.Context(), w, []string{key}, []filters.Standing{filters.NewStanding(l.clock.Now(), n, halfLife)}); err != nil {
			l.t.Fatal(err)
		}
	}
}

func countsAsTheModel(t *testing.T, c store.Redis, empty func()) {
	clock := filtertest.NewClock()
	e := open(t, c, clock)
	rapid.Check(t, func(t *rapid.T) {
		empty()
		ledger := &tallies{Engine: e, t: t, clock: clock}
		storetest.RunLedger(t, storetest.LedgerSystem{
			Clock:  clock,
			Ledger: func() filters.Ledger { return ledger },
			Settle: func() {},
			Merge:  e.MergeStandings,
		})
	})
}

func TestOneServerCountsAsTheModel(t *testing.T) {
	s := redistest.Start(t, redistest.Options{})
	countsAsTheModel(t, config(s.Address), func() { s.Must("FLUSHALL") })
}

func TestAClusterCountsAsTheModel(t *testing.T) {
	nodes := redistest.StartCluster(t, 3)
	c := config(redistest.Addresses(nodes)...)
	c.Cluster = true
	countsAsTheModel(t, c, func() {
		for _, n := range nodes {
			n.Must("FLUSHALL")
		}
	})
}

func TestOneServerBehavesAsTheModel(t *testing.T) {
	s := redistest.Start(t, redistest.Options{})
	behavesAsTheModel(t, config(s.Address), func() { s.Must("FLUSHALL") })
}

func TestAClusterBehavesAsTheModel(t *testing.T) {
	nodes := redistest.StartCluster(t, 3)
	c := config(redistest.Addresses(nodes)...)
	c.Cluster = true
	behavesAsTheModel(t, c, func() {
		for _, n := range nodes {
			n.Must("FLUSHALL")
		}
	})
}

var keys = []string{"d:example.org", "n:192.0.2.0/24|alice@example.org"}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestAKnownPassNeedsNoRoundTrip(t *testing.T) {
	ctx := t.Context()
	s := redistest.Start(t, redistest.Options{})
	ours, theirs := open(t, config(s.Address), filters.SystemClock{}), open(t, config(s.Address), filters.SystemClock{})
	if err := theirs.Pass(ctx, "greylist", keys[:1], storetest.Terms.Keep); err != nil {
		t.Fatal(err)
	}
	hasPassed := func() bool {
		return !must(ours.Peek(ctx, "greylist", keys))(t)[0].Passed.IsZero()
	}
	if !hasPassed() {
		t.Fatal("the other proxy's pass is not seen")
	}
	before, _ := ours.Trips()
	for range 100 {
		if !hasPassed() {
			t.Fatal("the pass is gone")
		}
	}
	if after, cached := ours.Trips(); after != before || cached != 100 {
		t.Errorf("%d round trips for what was known, %d answers from memory", after-before, cached)
	}
	if n := must(theirs.Forget(ctx, "greylist", keys))(t); n != 1 {
		t.Fatalf("forgot %d", n)
	}
	redistest.Eventually(t, 5*time.Second, func() error {
		if hasPassed() {
			return fmt.Errorf("a pass that another proxy forgot is believed")
		}
		return nil
	})
}

func TestADecisionIsOneRoundTrip(t *testing.T) {
	ctx := t.Context()
	s := redistest.Start(t, redistest.Options{})
	e := open(t, config(s.Address), filters.SystemClock{})
	for name, decide := range map[string]func() error{
		"attempt": func() error { _, err := e.Attempt(ctx, "greylist", keys, storetest.Terms); return err },
		"pass":    func() error { return e.Pass(ctx, "greylist", keys, time.Hour) },
		"forget":  func() error { _, err := e.Forget(ctx, "greylist", keys); return err },
		"peek": func() error {
			s.Must("FLUSHALL")
			_, err := e.Peek(ctx, "greylist", []string{"d:example.net", "n:198.51.100.0/24|bob@example.net"})
			return err
		},
	} {
		before, _ := e.Trips()
		if err := decide(); err != nil {
			t.Fatal(err)
		}
		if after, _ := e.Trips(); after != before+1 {
			t.Errorf("%s: %d round trips", name, after-before)
		}
	}
}

func TestMarksExpireByTheServer(t *testing.T) {
	s := redistest.Start(t, redistest.Options{})
	e := open(t, config(s.Address), filters.SystemClock{})
	short := filters.Terms{Delay: 10 * time.Millisecond, Window: 50 * time.Millisecond, Keep: 50 * time.Millisecond}
	must(e.Attempt(t.Context(), "greylist", keys, short))(t)
	must(e.Spend(t.Context(), filters.Bucket{Limit: "messages", Of: "192.0.2.1/32", PerSecond: 100, Burst: 10}, 5))(t)
	redistest.Eventually(t, 5*time.Second, func() error {
		if n := s.Must("DBSIZE"); n != "0" {
			return fmt.Errorf("%s keys are left", n)
		}
		return nil
	})
}

func TestOtherVersionsOfTheLayoutAreNotTouched(t *testing.T) {
	ctx := t.Context()
	s := redistest.Start(t, redistest.Options{})
	e := open(t, config(s.Address), filters.SystemClock{})
	const theirs = "gp2g{example.org}d:"
	s.Must("SET", theirs, "something else")
	s.Must("SET", "gp1g{example.org}d:", "a broken one")
	if m := must(e.Peek(ctx, "greylist", keys[:1]))(t); m[0].Exists() {
		t.Errorf("read %v", m[0])
	}
	must(e.Attempt(ctx, "greylist", keys, storetest.Terms))(t)
	n := 0
	if err := e.Each(ctx, func(string, string, filters.Mark) bool { n++; return true }); err != nil || n != 2 {
		t.Errorf("%d marks, %v", n, err)
	}
	must(e.Forget(ctx, "greylist", keys))(t)
	if got := s.Must("GET", theirs); got != "something else" {
		t.Errorf("the other version's mark became %q", got)
	}
}
