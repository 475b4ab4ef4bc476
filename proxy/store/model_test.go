package store

import (
	"fmt"
	"maps"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

// model is what the store must be, said as simply as possible.
type model struct {
	now   time.Time
	marks map[string]filters.Mark
}

func (m *model) live(key string) filters.Mark {
	mark := m.marks[key]
	if !mark.Expires.After(m.now) {
		return filters.Mark{}
	}
	return mark
}

func (m *model) attempt(keys []string, t filters.Terms) []filters.Mark {
	after, passed := make([]filters.Mark, len(keys)), false
	for i, key := range keys {
		mark := m.live(key)
		if !mark.Exists() || mark.First.After(m.now) {
			mark.First, mark.Expires = m.now, m.now.Add(t.Window)
		}
		mark.Last, mark.Attempts = m.now, mark.Attempts+1
		passed = passed || !mark.Passed.IsZero() || !mark.First.Add(t.Delay).After(m.now)
		after[i] = mark
	}
	for i, key := range keys {
		if passed {
			after[i] = m.passed(after[i], t.Keep)
		}
		m.marks[key] = after[i]
	}
	return after
}

func (m *model) passed(mark filters.Mark, keep time.Duration) filters.Mark {
	if mark.First.IsZero() {
		mark.First = m.now
	}
	if mark.Passed.IsZero() {
		mark.Passed = m.now
	}
	mark.Last, mark.Expires = m.now, m.now.Add(keep)
	return mark
}

func (m *model) sweep() {
	maps.DeleteFunc(m.marks, func(key string, _ filters.Mark) bool { return !m.live(key).Exists() })
}

func TestStoreBehavesAsTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx, clock := t.Context(), filtertest.NewClock()
		fs, config := vfs.NewMem(), Defaults()
		s, err := prepare(config, clock, quiet(), fs)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { s.shutDown() }()
		sweep := &sweeper{store: s}
		m := &model{now: clock.Now(), marks: map[string]filters.Mark{}}
		someKeys := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "ab", "b", "c", "d\xff", "\x00", ""}), 0, 4, rapid.ID[string])

		t.Repeat(map[string]func(*rapid.T){
			"attempt": func(t *rapid.T) {
				keys := someKeys.Draw(t, "keys")
				got, err := s.Attempt(ctx, "g", keys, terms)
				if want := m.attempt(keys, terms); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
					t.Fatalf("%q: %v, %v; want %v", keys, got, err, want)
				}
			},
			"pass": func(t *rapid.T) {
				keys := someKeys.Draw(t, "keys")
				if err := s.Pass(ctx, "g", keys, terms.Keep); err != nil {
					t.Fatal(err)
				}
				for _, key := range keys {
					m.marks[key] = m.passed(m.live(key), terms.Keep)
				}
			},
			"forget": func(t *rapid.T) {
				keys, want := someKeys.Draw(t, "keys"), 0
				for _, key := range keys {
					if m.live(key).Exists() {
						want++
						delete(m.marks, key)
					}
				}
				if n, err := s.Forget(ctx, "g", keys); err != nil || n != want {
					t.Fatalf("%q: %d, %v; want %d", keys, n, err, want)
				}
			},
			"clock": func(t *rapid.T) {
				step := rapid.SampledFrom([]time.Duration{time.Microsecond, time.Minute, terms.Delay, terms.Window, terms.Keep, -time.Second, -terms.Delay, -2 * terms.Window}).Draw(t, "step")
				clock.Advance(step)
				m.now = clock.Now().Truncate(time.Millisecond)
			},
			"flush": func(*rapid.T) { s.flush() },
			"sweep": func(*rapid.T) {
				s.flush()
				sweep.cursor = nil
				for sweep.step(time.Second); sweep.cursor != nil; {
					sweep.step(time.Second)
				}
				s.flush()
				m.sweep()
			},
			"reopen": func(t *rapid.T) {
				s.shutDown()
				if s, err = prepare(config, clock, quiet(), fs); err != nil {
					t.Fatal(err)
				}
				sweep = &sweeper{store: s}
			},
			"": func(t *rapid.T) {
				want := map[string]filters.Mark{}
				for key := range m.marks {
					if mark := m.live(key); mark.Exists() {
						want[key] = mark
					}
					var a filters.Attempt
					if got, err := s.Peek(&a, "g", []string{key}); !a.Missed() && (err != nil || fmt.Sprint(got[0]) != fmt.Sprint(m.live(key))) {
						t.Fatalf("peek at hand %q: %v, %v; want %v", key, got, err, m.live(key))
					}
					got, err := s.Peek(ctx, "g", []string{key})
					if err != nil || fmt.Sprint(got[0]) != fmt.Sprint(m.live(key)) {
						t.Fatalf("peek %q: %v, %v; want %v", key, got, err, m.live(key))
					}
				}
				got := map[string]filters.Mark{}
				if err := s.Range(ctx, "g", "", func(key string, mark filters.Mark) bool { got[key] = mark; return true }); err != nil {
					t.Fatal(err)
				}
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Fatalf("range: %v; want %v", got, want)
				}
				s.flush()
				if n := s.Stats().Entries; n != int64(len(m.marks)) {
					t.Fatalf("%d entries counted, %d are there", n, len(m.marks))
				}
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
		if _, ok := parseMark(append(b, 0)); ok {
			t.Fatal("a mark with a tail was taken")
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
