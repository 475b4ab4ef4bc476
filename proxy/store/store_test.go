package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

var terms = filters.Terms{Delay: 5 * time.Minute, Window: 24 * time.Hour, Keep: 35 * 24 * time.Hour}

func TestMain(m *testing.M) {
	if folder := os.Getenv(childEnv); folder != "" {
		writeUntilKilled(folder)
	}
	goleak.VerifyTestMain(m)
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func testConfig(t testing.TB) Config {
	c := Defaults()
	c.Path = t.TempDir()
	return c
}

// openTest opens a running store and closes it after the test.
func openTest(t testing.TB, c Config, clock filters.Clock) *Store {
	t.Helper()
	s, err := Open(c, clock, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestGreylistingAcrossARestart(t *testing.T) {
	ctx, clock, config := t.Context(), filtertest.NewClock(), testConfig(t)
	keys := []string{"d:example.org", "n:192.0.2.0/24|a@example.org"}

	s := must(Open(config, clock, quiet()))(t)
	for _, m := range must(s.Peek(ctx, "greylist", keys))(t) {
		if m.Exists() {
			t.Fatalf("a mark before any attempt: %+v", m)
		}
	}
	first := must(s.Attempt(ctx, "greylist", keys[1:], terms))(t)
	if !first[0].Passed.IsZero() || first[0].Attempts != 1 || !first[0].Expires.Equal(clock.Now().Add(terms.Window)) {
		t.Fatalf("first attempt: %+v", first[0])
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = openTest(t, config, clock)
	if got := must(s.Peek(ctx, "greylist", keys[1:]))(t); got[0] != first[0] {
		t.Fatalf("after a restart: %+v, was %+v", got[0], first[0])
	}
	clock.Advance(terms.Delay - time.Millisecond)
	if m := must(s.Attempt(ctx, "greylist", keys, terms))(t); !m[0].Passed.IsZero() || !m[1].Passed.IsZero() {
		t.Fatalf("passed too early: %+v", m)
	}
	clock.Advance(time.Millisecond)
	for i, m := range must(s.Attempt(ctx, "greylist", keys, terms))(t) {
		if m.Passed.IsZero() || !m.Expires.Equal(clock.Now().Add(terms.Keep)) {
			t.Errorf("key %d has not passed with the others: %+v", i, m)
		}
	}
	if n := must(s.Forget(ctx, "greylist", append(keys, "nobody")))(t); n != 2 {
		t.Errorf("forgot %d marks, want 2", n)
	}
	if n := must(s.Forget(ctx, "greylist", keys))(t); n != 0 {
		t.Errorf("forgot %d marks again", n)
	}
}

func TestAnExpiredMarkDoesNotExist(t *testing.T) {
	ctx, clock := t.Context(), filtertest.NewClock()
	s := openTest(t, testConfig(t), clock)
	must(s.Attempt(ctx, "greylist", []string{"a"}, terms))(t)
	clock.Advance(terms.Window)
	if m := must(s.Peek(ctx, "greylist", []string{"a"}))(t); m[0].Exists() {
		t.Errorf("still there at its expiry: %+v", m[0])
	}
	if m := must(s.Attempt(ctx, "greylist", []string{"a"}, terms))(t); m[0].Attempts != 1 || !m[0].Passed.IsZero() {
		t.Errorf("an attempt after the window is not a first one: %+v", m[0])
	}
}

func TestAClockThatWasAheadHoldsNobodyUp(t *testing.T) {
	ctx, clock := t.Context(), filtertest.NewClock()
	s := openTest(t, testConfig(t), clock)
	clock.Advance(1000 * time.Hour)
	must(s.Attempt(ctx, "greylist", []string{"a"}, terms))(t)
	clock.Advance(-1000 * time.Hour)
	must(s.Attempt(ctx, "greylist", []string{"a"}, terms))(t)
	clock.Advance(terms.Delay)
	if m := must(s.Attempt(ctx, "greylist", []string{"a"}, terms))(t); m[0].Passed.IsZero() {
		t.Errorf("waits for a time in the future: %+v", m[0])
	}
}

func TestRangeSeesMemoryAndDisk(t *testing.T) {
	ctx, clock := t.Context(), filtertest.NewClock()
	s := openTest(t, testConfig(t), clock)
	long := "n:" + strings.Repeat("x", 600)
	for i := range 1500 {
		must(s.Attempt(ctx, "greylist", []string{fmt.Sprintf("n:%04d", i)}, terms))(t)
	}
	must(s.Attempt(ctx, "greylist", []string{"n:late", "d:other", long}, terms))(t)
	must(s.Attempt(ctx, "greylistx", []string{"n:elsewhere"}, terms))(t)
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	must(s.Attempt(ctx, "greylist", []string{"n:0001", "n:memory"}, terms))(t)
	must(s.Forget(ctx, "greylist", []string{"n:0002"}))(t)

	seen := map[string]int{}
	err := s.Range(ctx, "greylist", "n:", func(key string, m filters.Mark) bool {
		seen[key]++
		if key == "n:0001" && m.Attempts != 2 {
			t.Errorf("the disk's mark came instead of memory's: %+v", m)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) != 1502 || seen["n:memory"] != 1 || seen["n:late"] != 1 || seen["n:0002"] != 0 || seen[Shorten(long)] != 1 {
		t.Errorf("saw %d keys: memory %d, late %d, forgotten %d, long %d", len(seen), seen["n:memory"], seen["n:late"], seen["n:0002"], seen[Shorten(long)])
	}
	for key, n := range seen {
		if n != 1 {
			t.Errorf("%s came %d times", key, n)
		}
	}
	stopped := 0
	if err := s.Range(ctx, "greylist", "n:", func(string, filters.Mark) bool { stopped++; return false }); err != nil || stopped != 1 {
		t.Errorf("after yield returned false: %d more, %v", stopped-1, err)
	}
}

func TestLongKeysAreHashedWhole(t *testing.T) {
	ctx := t.Context()
	s := openTest(t, testConfig(t), filtertest.NewClock())
	a, b := strings.Repeat("k", 600)+"a", strings.Repeat("k", 600)+"b"
	must(s.Attempt(ctx, "greylist", []string{a}, terms))(t)
	m := must(s.Peek(ctx, "greylist", []string{a, b, Shorten(a)}))(t)
	if !m[0].Exists() || m[1].Exists() {
		t.Errorf("long keys are mixed up: %+v", m)
	}
	if m[2].Exists() {
		t.Error("a literal key poses as a hashed one")
	}
	if n := len(Shorten(a)); n != maxKey {
		t.Errorf("a hashed key has %d bytes", n)
	}
}

func TestOneOwner(t *testing.T) {
	config := testConfig(t)
	s := must(Open(config, filtertest.NewClock(), quiet()))(t)
	if _, err := Open(config, filtertest.NewClock(), quiet()); !errors.Is(err, ErrOwned) {
		t.Errorf("a second owner: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	if _, err := s.Peek(t.Context(), "greylist", []string{"a"}); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := s.Flush(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Flush after Close: %v", err)
	}
	openTest(t, config, filtertest.NewClock())
}

func TestBadSpaceAndEndedContext(t *testing.T) {
	s := openTest(t, testConfig(t), filtertest.NewClock())
	for _, space := range []string{"", "a\x00b"} {
		if _, err := s.Peek(t.Context(), space, []string{"k"}); err == nil {
			t.Errorf("space %q was taken", space)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		// Either outcome is right: the decision may have been faster.
		if m, err := s.Peek(ctx, "greylist", []string{"k"}); err == nil && m[0].Exists() {
			t.Fatal("a mark out of nothing")
		}
	}
}

func TestTheBoundIsKeptAndThoseThatExpireSoonestGo(t *testing.T) {
	ctx, clock, config := t.Context(), filtertest.NewClock(), testConfig(t)
	config.MaxEntries = 1000
	s := must(prepare(config, clock, quiet(), vfs.Default))(t)
	defer s.shutDown()
	sweep := s.marksSweeper()
	for i := range 300 {
		if err := s.Pass(ctx, "greylist", []string{fmt.Sprintf("known%03d", i)}, terms.Keep); err != nil {
			t.Fatal(err)
		}
	}
	refused := 0
	for i := range 20_000 {
		if _, err := s.Attempt(ctx, "greylist", []string{fmt.Sprintf("new%05d", i)}, terms); errors.Is(err, ErrFull) {
			refused++
		} else if err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 {
			clock.Advance(time.Minute)
			s.flush()
			sweep.step(time.Second)
		}
	}
	s.flush()
	for range 4 {
		sweep.step(time.Second)
		s.flush()
	}
	if n := s.Stats().Entries; n > 1000 || n < 500 {
		t.Errorf("%d entries with a bound of 1000", n)
	}
	st := s.Stats()
	if st.Evicted == 0 || st.Refused != int64(refused) {
		t.Errorf("stats %+v, refused %d", st, refused)
	}
	counted, known := int64(0), 0
	if err := s.Range(ctx, "greylist", "", func(key string, _ filters.Mark) bool {
		counted++
		if strings.HasPrefix(key, "known") {
			known++
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if known != 300 {
		t.Errorf("%d of 300 known senders are left; first attempts should go before them", known)
	}
	if counted != st.Entries {
		t.Errorf("%d marks, but %d are counted", counted, st.Entries)
	}
	if _, err := s.Attempt(ctx, "greylist", []string{"known001"}, terms); err != nil {
		t.Errorf("a known sender finds no room: %v", err)
	}
}

func TestExpiredMarksAreSweptFromDisk(t *testing.T) {
	ctx, clock := t.Context(), filtertest.NewClock()
	s := must(prepare(testConfig(t), clock, quiet(), vfs.Default))(t)
	defer s.shutDown()
	for i := range 100 {
		must(s.Attempt(ctx, "greylist", []string{fmt.Sprint(i)}, terms))(t)
	}
	s.flush()
	clock.Advance(terms.Window)
	must(s.Attempt(ctx, "greylist", []string{"7"}, terms))(t) // newer in memory than what the sweep sees
	sweep := s.marksSweeper()
	for range 10 {
		sweep.step(time.Second)
	}
	s.flush()
	if st := s.Stats(); st.Entries != 1 || st.Expired != 99 {
		t.Errorf("%d entries left, %d swept", st.Entries, st.Expired)
	}
	if m := must(s.Peek(ctx, "greylist", []string{"7"}))(t); m[0].Attempts != 1 {
		t.Errorf("the fresh mark is %+v", m[0])
	}
}

func TestConfigValidate(t *testing.T) {
	c := Defaults()
	if err := c.Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	c = Config{}
	err := c.Validate()
	for _, key := range []string{"path", "max_entries", "max_pending", "flush"} {
		if err == nil || !strings.Contains(err.Error(), key+":") {
			t.Errorf("%s is not named in %v", key, err)
		}
	}
}

// Who was looked up a moment ago is at hand, also if he is not there; who is not known is not looked up in an attempt.
func TestAttemptsTakeWhatIsKnown(t *testing.T) {
	s := openTest(t, testConfig(t), filtertest.NewClock())
	keys := []string{"d:example.org", "n:192.0.2.0/24|alice@example.org"}
	want := fmt.Sprint(must(s.Attempt(t.Context(), "g", keys[:1], terms))(t)[0])
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	var cold, warm, partly filters.Attempt
	if _, err := s.Peek(&cold, "g", keys); !errors.Is(err, filters.ErrNotAtHand) || !cold.Missed() {
		t.Errorf("what was never read: %v", err)
	}
	must(s.Peek(t.Context(), "g", keys))(t)
	marks := must(s.Peek(&warm, "g", keys))(t)
	if warm.Missed() || fmt.Sprint(marks[0]) != want || marks[1].Exists() {
		t.Errorf("known: %v, want %v and nothing", marks, want)
	}
	if _, err := s.Peek(&partly, "g", []string{keys[0], "d:example.com"}); err == nil || !partly.Missed() {
		t.Errorf("one of two is known: %v", err)
	}
}
