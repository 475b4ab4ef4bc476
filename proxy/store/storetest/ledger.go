package storetest

import (
	"context"
	"maps"
	"math"
	"slices"
	"time"

	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

// LedgerSystem is an empty ledger that is tried.
type LedgerSystem struct {
	Clock  *filtertest.Clock
	Ledger func() filters.Ledger // asked every time: an action may put another in its place
	// Settle returns when all tallies can be seen.
	Settle func()
	Merge  func(ctx context.Context, keys []string, theirs []filters.Standing) error
	More   map[string]func(*rapid.T) // actions of its own, which change nothing that can be seen
}

// ledgerModel is every tally ever made.
type ledgerModel map[string]filters.Standing

func (m ledgerModel) live(key string, now time.Time) filters.Standing {
	return m[key].Live(now)
}

// RunLedger does random things to a ledger and to the model, and compares what they answer and hold.
func RunLedger(t *rapid.T, s LedgerSystem) {
	ctx, m := t.Context(), ledgerModel{}
	now := func() time.Time { return s.Clock.Now().Truncate(time.Millisecond).UTC() }
	someKeys := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "ab", "n:192.0.2.0/24", "d\xff", "\x00", "", "{}"}), 0, 4, rapid.ID[string])
	halfLife := rapid.SampledFrom([]time.Duration{time.Hour, 30 * 24 * time.Hour}).Draw(t, "half-life")
	count := rapid.SampledFrom([]float64{0, 0, 1, 1, 3, 1000}) // far from the bound, where order matters
	counts := rapid.Custom(func(t *rapid.T) filters.Counts {
		return filters.Counts{Delivered: count.Draw(t, "delivered"), Refused: count.Draw(t, "refused"), Unknown: count.Draw(t, "unknown"), Trapped: count.Draw(t, "trapped")}
	}).Filter(func(n filters.Counts) bool { return n.Total() > 0 })
	actions := map[string]func(*rapid.T){
		"tally": func(t *rapid.T) {
			n := counts.Draw(t, "counts")
			for _, key := range someKeys.Draw(t, "keys") {
				s.Ledger().Tally(key, n, halfLife)
				m[key] = m.live(key, now()).Add(filters.NewStanding(now(), n, halfLife))
			}
		},
		"forget": func(t *rapid.T) {
			s.Settle()
			keys, want := someKeys.Draw(t, "keys"), 0
			for _, key := range keys {
				if m.live(key, now()).Exists() {
					want++
				}
				delete(m, key)
			}
			if n, err := s.Ledger().ForgetStandings(ctx, keys); err != nil || n != want {
				t.Fatalf("forgot %d, %v; want %d", n, err, want)
			}
		},
		"merge": func(t *rapid.T) {
			s.Settle()
			keys := someKeys.Draw(t, "keys")
			theirs := make([]filters.Standing, len(keys))
			for i, key := range keys {
				at := now().Add(time.Duration(rapid.IntRange(-100_000, 10).Draw(t, "at")) * time.Second)
				theirs[i] = filters.NewStanding(at, counts.Draw(t, "counts"), halfLife)
				m[key] = m.live(key, now()).Merge(theirs[i].Live(now()))
			}
			for range 2 { // the second time changes nothing
				if err := s.Merge(ctx, keys, theirs); err != nil {
					t.Fatal(err)
				}
			}
		},
		"clock": func(t *rapid.T) {
			// A server's own clock ends standings, too: none ends so near that the two disagree.
			s.Settle()
			s.Clock.Advance(rapid.SampledFrom([]time.Duration{time.Microsecond, time.Minute, 23 * time.Hour, 400 * 24 * time.Hour, -time.Second}).Draw(t, "step"))
		},
		"": func(t *rapid.T) { m.compare(t, ctx, &s, now()) },
	}
	maps.Copy(actions, s.More)
	t.Repeat(actions)
}

// compare looks at all that can be seen.
func (m ledgerModel) compare(t *rapid.T, ctx context.Context, s *LedgerSystem, now time.Time) {
	s.Settle()
	keys := slices.Collect(maps.Keys(m))
	got, err := s.Ledger().Standings(ctx, keys)
	if err != nil || len(got) != len(keys) {
		t.Fatalf("standings: %v, %v", got, err)
	}
	for i, key := range keys {
		m.check(t, key, got[i], now)
	}
	if _, ready := s.Ledger().(filters.Ready); ready {
		var a filters.Attempt
		if got, err := s.Ledger().Standings(&a, keys); !a.Missed() {
			if err != nil {
				t.Fatal(err)
			}
			for i, key := range keys {
				m.check(t, key, got[i], now)
			}
		}
	}
	seen := map[string]filters.Standing{}
	if err := s.Ledger().RangeStandings(ctx, "", func(key string, s filters.Standing) bool { seen[key] = s; return true }); err != nil {
		t.Fatal(err)
	}
	for key := range m {
		m.check(t, key, seen[key], now)
		delete(seen, key)
	}
	if len(seen) > 0 {
		t.Fatalf("range: there is more than there should be: %v", seen)
	}
}

// check allows for 32-bit floats, and for the end of what is nearly nothing.
func (m ledgerModel) check(t *rapid.T, key string, got filters.Standing, now time.Time) {
	want := m.live(key, now)
	if got.Exists() != want.Exists() {
		if max(got.On(now).Total(), want.On(now).Total()) < 0.0501 {
			return
		}
		t.Fatalf("%q: %+v; want %+v", key, got, want)
	}
	near := func(a, b float64) bool { return math.Abs(a-b) <= 0.0501+1e-3*math.Max(a, b) }
	if !got.At.Equal(want.At) || got.HalfLife != want.HalfLife || !near(got.Delivered, want.Delivered) || !near(got.Refused, want.Refused) ||
		!near(got.Unknown, want.Unknown) || !near(got.Trapped, want.Trapped) {
		t.Fatalf("%q: %+v; want %+v", key, got, want)
	}
	if got.Total() > 4*filters.MaxCount {
		t.Fatalf("%q is out of bounds: %+v", key, got)
	}
}
