package store

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

const month = 30 * 24 * time.Hour

// TestConcurrentTalliesAreAllThere: while others read and write, no tally is lost or counts twice.
func TestConcurrentTalliesAreAllThere(t *testing.T) {
	ctx, clock := t.Context(), filtertest.NewClock()
	s := openTest(t, testConfig(t), clock)
	const workers, rounds = 8, 500
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range rounds {
				s.Tally(fmt.Sprintf("k%d", i%50), filters.Counts{Delivered: 1}, month)
				if i%25 == w {
					if err := s.Flush(ctx); err != nil {
						t.Error(err)
					}
				}
				got, err := s.Standings(ctx, []string{"k0"})
				if most := float64(workers * rounds / 50); err != nil || got[0].Delivered > most || got[0].Delivered < float64(i/50) {
					t.Errorf("%v, %v in round %d", got, err, i)
				}
			}
		})
	}
	wg.Wait()
	total := 0.0
	if err := s.RangeStandings(ctx, "k", func(_ string, s filters.Standing) bool { total += s.Delivered; return true }); err != nil || total != workers*rounds {
		t.Errorf("%v of %d are there: %v", total, workers*rounds, err)
	}
}

// What the sweep leaves are those of which most is left, and nobody's flood takes more room than there is.
func TestStandingsAreBounded(t *testing.T) {
	ctx, clock := t.Context(), filtertest.NewClock()
	config := Defaults()
	config.MaxStandings = 1000
	s, err := prepare(config, clock, quiet(), vfs.NewMem())
	if err != nil {
		t.Fatal(err)
	}
	defer s.shutDown()
	for i := range 100 {
		s.Tally(fmt.Sprint("long known ", i), filters.Counts{Delivered: 1000}, month)
	}
	sweep := s.standingsSweeper()
	for i := range 20_000 {
		s.Tally(fmt.Sprint("flood ", i), filters.Counts{Unknown: 1}, month)
		if i%500 == 0 {
			s.flush()
			sweep.step(time.Second)
		}
		if n := s.Stats().Standings; n > 1100 {
			t.Fatalf("%d standings", n)
		}
	}
	for range 4 {
		s.flush()
		sweep.step(time.Second)
	}
	s.flush()
	known, all := 0, 0
	if err := s.RangeStandings(ctx, "", func(key string, _ filters.Standing) bool {
		all++
		if key[0] == 'l' {
			known++
		}
		return true
	}); err != nil || known != 100 || all > 1000 {
		t.Errorf("%d of 100 are left, in all %d: %v", known, all, err)
	}
	clock.Advance(2 * 365 * 24 * time.Hour)
	for range 100 {
		sweep.step(time.Hour)
		s.flush()
	}
	if n := s.Stats().Standings; n != 0 {
		t.Errorf("%d standings outlive their time", n)
	}
}

func TestTalliesWaitInABoundedSet(t *testing.T) {
	s, err := prepare(Defaults(), filtertest.NewClock(), quiet(), vfs.NewMem())
	if err != nil {
		t.Fatal(err)
	}
	defer s.shutDown()
	for i := range maxTallies + 100 {
		s.Tally(fmt.Sprint(i), filters.Counts{Delivered: 1}, month)
	}
	if n := s.Stats().Untold; n != 100 {
		t.Errorf("%d tallies were counted as lost", n)
	}
}

func FuzzParseStanding(f *testing.F) {
	f.Add(AppendStanding(nil, filters.NewStanding(filtertest.Start, filters.Counts{Delivered: 1, Trapped: 2}, month)))
	f.Add(make([]byte, StandingSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, ok := ParseStanding(b)
		if !ok {
			return
		}
		if again, ok := ParseStanding(AppendStanding(nil, s)); !ok || again != s {
			t.Errorf("%v became %v", s, again)
		}
		if total := s.On(s.At.Add(time.Hour)).Total(); total < 0 || total > s.Total() {
			t.Errorf("%v fades to %v", s, total)
		}
	})
}

// A look at a client that was here lately takes no goroutine.
func TestALookAtAStandingAllocatesLittle(t *testing.T) {
	s := openTest(t, testConfig(t), filtertest.NewClock())
	keys := []string{"n:192.0.2.0/24", "d:example.org"}
	s.Tally(keys[0], filters.Counts{Delivered: 1}, month)
	if _, err := s.Standings(t.Context(), keys); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(200, func() { _, _ = s.Standings(context.Background(), keys) }); n > 5 {
		t.Errorf("a look at two keys costs %.0f allocations", n)
	}
}

func BenchmarkTally(b *testing.B) {
	s := openTest(b, testConfig(b), filtertest.NewClock())
	b.ReportAllocs()
	for b.Loop() {
		s.Tally("n:192.0.2.0/24", filters.Counts{Delivered: 1}, month)
	}
}

func TestStandingsSurviveTheirEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.Float32Range(0, filters.MaxCount)
		s := filters.Standing{At: fromMilli(rapid.Int64Range(0, 1<<45).Draw(t, "at")), HalfLife: time.Duration(rapid.IntRange(1, 1<<31).Draw(t, "half")) * time.Second,
			Counts: filters.Counts{Delivered: float64(count.Draw(t, "d")), Refused: float64(count.Draw(t, "r")), Unknown: float64(count.Draw(t, "u")), Trapped: float64(count.Draw(t, "t"))}}
		if got, ok := ParseStanding(AppendStanding(nil, s)); !ok || got != s {
			t.Fatalf("%v became %v, %v", s, got, ok)
		}
	})
}
