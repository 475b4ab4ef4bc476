package engine_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
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
			Space: rapid.SampledFrom([]string{"greylist", "a small one", "delivery"}).Draw(t, "space"),
			Drops: true,
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
	for range 2 { // the second time, the server is asked to say when it changes
		if !hasPassed() {
			t.Fatal("the other proxy's pass is not seen")
		}
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
	own := ownKey("d:example.org")
	theirs := strings.Replace(own, "gp2", "gp3", 1)
	s.Must("SET", theirs, "something else")
	s.Must("SET", own, "a broken one")
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

// ownKey is the name of a greylisted key that has not passed.
func ownKey(key string) string { return "gp2g" + engine.Place("greylist", key) + key }

// A stranger of a domain that was asked for before is one round trip, too.
func TestALookAtAStrangerIsOneRoundTrip(t *testing.T) {
	ctx := t.Context()
	s := redistest.Start(t, redistest.Options{})
	e := open(t, config(s.Address), filters.SystemClock{})
	peek := func(sender string) int64 {
		before, _ := e.Trips()
		must(e.Peek(ctx, "greylist", []string{"d:example.org", "n:192.0.2.0/24|" + sender + "@example.org"}))(t)
		after, _ := e.Trips()
		return after - before
	}
	for _, sender := range []string{"alice", "bob", "alice", "carol"} {
		if n := peek(sender); n != 1 {
			t.Errorf("%s: %d round trips", sender, n)
		}
	}
	if err := e.Pass(ctx, "greylist", []string{"n:192.0.2.0/24|alice@example.org"}, time.Hour); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int64{1, 1, 0, 0} {
		if n := peek("alice"); n != want {
			t.Errorf("look %d at a sender that passed: %d round trips", i+1, n)
		}
	}
	if n := peek("dave"); n != 1 {
		t.Errorf("a stranger beside it: %d round trips", n)
	}
}

// What lists a small space does not go through the others.
func TestASmallSpaceIsReadInARoundTrip(t *testing.T) {
	ctx := t.Context()
	s := redistest.Start(t, redistest.Options{})
	e := open(t, config(s.Address), filters.SystemClock{})
	for start := range 10 {
		var many []string
		for i := range 500 {
			many = append(many, fmt.Sprintf("n:198.51.100.0/24|user%d@d%d.example", start, i))
		}
		must(e.Attempt(ctx, "greylist", many, storetest.Terms))(t)
	}
	for i := range 300 {
		if err := e.Pass(ctx, "exception", []string{fmt.Sprintf("allow|d%d.example", i)}, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	asked := func() int { return number(t, s, "stats", "total_commands_processed") }
	trips, _ := e.Trips()
	before, n := asked(), 0
	if err := e.Range(ctx, "exception", "allow|", func(string, filters.Mark) bool { n++; return true }); err != nil || n != 300 {
		t.Fatalf("%d marks, %v", n, err)
	}
	commands := asked() - before
	if after, _ := e.Trips(); after-trips != 1 || commands > 80 {
		t.Errorf("%d round trips, %d commands", after-trips, commands)
	}
}

// What is looked for by its first word while mail waits is in one hash, however much there is.
func TestAGroupIsReadInARoundTrip(t *testing.T) {
	ctx := t.Context()
	s := redistest.Start(t, redistest.Options{})
	e := open(t, config(s.Address), filters.SystemClock{})
	word := func(i int) string { return fmt.Sprintf("%064x", i*7919) }
	for i := range 300 {
		if err := e.Pass(ctx, "delivery", []string{word(i), word(i) + " A", word(i) + " B", fmt.Sprint("ID", i)}, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	list := func(prefix string) (n int) {
		if err := e.Range(ctx, "delivery", prefix, func(key string, _ filters.Mark) bool { n++; return true }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	trips, _ := e.Trips()
	calls := number(t, s, "stats", "total_commands_processed")
	if n := list(word(7) + " "); n != 2 {
		t.Errorf("%d marks of a group", n)
	}
	after, _ := e.Trips()
	if commands := number(t, s, "stats", "total_commands_processed") - calls; after != trips+1 || commands > 15 {
		t.Errorf("%d round trips, %d commands", after-trips, commands)
	}
	if n := list(""); n != 1200 {
		t.Errorf("%d marks in all", n)
	}
	if n := list("ID"); n != 300 {
		t.Errorf("%d marks without a group", n)
	}
}

// A hash lives as long as its last mark; what expires before goes when others are written.
func TestExpiredMarksLeaveTheirHash(t *testing.T) {
	ctx, clock := t.Context(), filtertest.NewClock()
	s := redistest.Start(t, redistest.Options{})
	e := open(t, config(s.Address), clock)
	var early []string
	for i := range 200 {
		early = append(early, fmt.Sprintf("s:user%d@example.org", i))
	}
	if err := e.Pass(ctx, "known", early, time.Hour); err != nil {
		t.Fatal(err)
	}
	clock.Advance(3 * time.Hour)
	bucket := "gp2k" + engine.Place("known", early[0])
	for range 1000 {
		if err := e.Pass(ctx, "known", []string{"s:late@example.org"}, 24*time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.Must("HLEN", bucket); n != "1" {
		t.Errorf("%s marks are left", n)
	}
	if ttl := must(strconv.Atoi(s.Must("TTL", bucket)))(t); ttl < 24*3600-60 || ttl > 24*3600 {
		t.Errorf("the hash lives for %d s", ttl)
	}
}
