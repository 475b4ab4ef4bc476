package store

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	"gatepost/proxy/store/storetest"
)

func TestStoreBehavesAsTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clock, fs, config := filtertest.NewClock(), vfs.NewMem(), Defaults()
		s, err := prepare(config, clock, quiet(), fs)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { s.shutDown() }()
		sweep := s.marksSweeper()
		storetest.Run(t, storetest.System{
			Space: "g",
			Clock: clock,
			Store: func() storetest.Mergeable { return s },
			Merge: func(ctx context.Context, space string, keys []string, marks []filters.Mark) error {
				return s.Merge(ctx, space, keys, marks)
			},
			More: map[string]func(*rapid.T){
				"flush": func(*rapid.T) { s.flush() },
				"reopen": func(t *rapid.T) {
					s.shutDown()
					if s, err = prepare(config, clock, quiet(), fs); err != nil {
						t.Fatal(err)
					}
					sweep = s.marksSweeper()
				},
			},
			Sweep: func() {
				s.flush()
				sweep.cursor = nil
				for sweep.step(time.Second); sweep.cursor != nil; {
					sweep.step(time.Second)
				}
				s.flush()
			},
			Count: func(t *rapid.T, marks int) {
				s.flush()
				if n := s.Stats().Entries; n != int64(marks) {
					t.Fatalf("%d entries counted, %d are there", n, marks)
				}
			},
		})
	})
}

func TestLedgerBehavesAsTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clock, fs, config := filtertest.NewClock(), vfs.NewMem(), Defaults()
		s, err := prepare(config, clock, quiet(), fs)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { s.shutDown() }()
		sweep := s.standingsSweeper()
		storetest.RunLedger(t, storetest.LedgerSystem{
			Clock:  clock,
			Ledger: func() filters.Ledger { return s },
			Settle: func() {},
			Merge: func(ctx context.Context, keys []string, theirs []filters.Standing) error {
				return s.MergeStandings(ctx, keys, theirs)
			},
			More: map[string]func(*rapid.T){
				"flush": func(*rapid.T) { s.flush() },
				"reopen": func(t *rapid.T) {
					s.shutDown()
					if s, err = prepare(config, clock, quiet(), fs); err != nil {
						t.Fatal(err)
					}
					sweep = s.standingsSweeper()
				},
				"sweep": func(*rapid.T) { sweep.step(time.Second) },
			},
		})
	})
}

func TestConcurrentDecisionsAreAtomic(t *testing.T) {
	ctx, clock := t.Context(), filtertest.NewClock()
	s := openTest(t, testConfig(t), clock)
	const workers, rounds = 8, 200
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range rounds {
				// In both orders: ordered locks cannot wait for each other.
				keys := []string{"shared", "other", fmt.Sprintf("own%d", w)}
				if i%2 == 0 {
					keys[0], keys[1] = keys[1], keys[0]
				}
				if _, err := s.Attempt(ctx, "g", keys, terms); err != nil {
					t.Error(err)
				}
				if i%50 == 0 {
					if err := s.Flush(ctx); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	m := must(s.Peek(ctx, "g", []string{"shared", "other", "own0"}))(t)
	if m[0].Attempts != workers*rounds || m[1].Attempts != workers*rounds || m[2].Attempts != rounds {
		t.Errorf("attempts were lost: %d, %d, %d", m[0].Attempts, m[1].Attempts, m[2].Attempts)
	}
}

func TestMarksSurviveTheirEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		when := rapid.Custom(func(t *rapid.T) time.Time {
			return fromMilli(rapid.Int64Range(-1<<40, 1<<45).Draw(t, "ms"))
		})
		m := filters.Mark{First: when.Draw(t, "first"), Last: when.Draw(t, "last"), Expires: when.Draw(t, "expires"), Attempts: rapid.Uint32().Draw(t, "attempts")}
		if rapid.Bool().Draw(t, "has passed") {
			m.Passed = when.Draw(t, "passed")
		}
		b := appendMark(nil, m)
		if got, ok := parseMark(b); m.Expires.UnixMilli() != 0 && (!ok || got != m) {
			t.Fatalf("%v became %v, %v", m, got, ok)
		}
		if _, ok := parseMark(b[:len(b)-1]); ok {
			t.Fatal("a truncated mark was taken")
		}
		if got, ok := parseMark(append(b, 7, 0)); m.Expires.UnixMilli() != 0 && (!ok || got != m) {
			t.Fatalf("with what a later release may add, %v became %v, %v", m, got, ok)
		}
	})
	typical := filters.Mark{First: filtertest.Start, Last: filtertest.Start, Expires: filtertest.Start.Add(terms.Window), Attempts: 1}
	if n := len(appendMark(nil, typical)); n > 18 {
		t.Errorf("a first attempt takes %d bytes", n)
	}
}

func FuzzParseMark(f *testing.F) {
	f.Add(appendMark(nil, filters.Mark{First: filtertest.Start, Last: filtertest.Start, Expires: filtertest.Start.Add(terms.Keep), Passed: filtertest.Start, Attempts: math.MaxUint32}))
	f.Add([]byte{markVersion, 0xff, 0xff})
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := parseMark(b)
		if !ok {
			return
		}
		if again, ok := parseMark(appendMark(nil, m)); !ok || again != m {
			t.Errorf("%v became %v", m, again)
		}
	})
}

func TestAPeekAllocatesLittle(t *testing.T) {
	s := openTest(t, testConfig(t), filtertest.NewClock())
	keys := []string{"d:example.org", "n:192.0.2.0/24|alice@example.org"}
	must(s.Attempt(t.Context(), "greylist", keys, terms))(t)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(200, func() { _, _ = s.Peek(t.Context(), "greylist", keys) }); n > 24 {
		t.Errorf("a look at two keys costs %.0f allocations", n)
	}
}
