// Package storetest holds every store to one model.
package storetest

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

// Terms are those that the model is tried with.
var Terms = filters.Terms{Delay: 5 * time.Minute, Window: 24 * time.Hour, Keep: 35 * 24 * time.Hour}

// Mergeable is a store that can be told what another one knows.
type Mergeable interface {
	filters.Store
	Each(ctx context.Context, yield func(space, key string, m filters.Mark) bool) error
}

// System is an empty store that is tried.
type System struct {
	Space string // that is used
	Clock *filtertest.Clock
	Store func() Mergeable // asked every time: an action may put another in its place
	Merge func(ctx context.Context, space string, keys []string, marks []filters.Mark) error
	More  map[string]func(*rapid.T) // actions of its own, which change nothing that can be seen
	Sweep func()                    // removes what has expired; may be nil
	// Lag is for how long Peek may answer as it would have before; it is 0 for a store that nobody else writes to.
	Lag time.Duration
	// Drops tells that marks may be gone for good once they have expired, even if the clock goes back.
	Drops bool
	// Count checks how many marks there are in all, expired ones that were not swept included; may be nil.
	Count func(t *rapid.T, marks int)
}

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
	after, passed := make([]filters.Mark, len(keys)+len(t.Unless)), false
	for i, key := range slices.Concat(keys, t.Unless) {
		after[i] = m.live(key)
	}
	for _, mark := range after[len(keys):] {
		if !mark.Passed.IsZero() {
			return after
		}
	}
	for i, key := range keys {
		mark := m.live(key)
		if !mark.Exists() || mark.First.After(m.now) {
			mark.First, mark.Expires = m.now, m.now.Add(t.Window)
		}
		mark.Last, mark.Attempts = m.now, uint32(min(uint64(mark.Attempts)+max(uint64(t.Times), 1), math.MaxUint32))
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

func merged(a, b filters.Mark) filters.Mark {
	if !a.Exists() || !b.Exists() {
		return filters.Mark{First: later(a.First, b.First), Last: later(a.Last, b.Last), Passed: later(a.Passed, b.Passed),
			Expires: later(a.Expires, b.Expires), Attempts: max(a.Attempts, b.Attempts)}
	}
	first := a.First
	if b.First.Before(first) {
		first = b.First
	}
	return filters.Mark{First: first, Last: later(a.Last, b.Last), Passed: later(a.Passed, b.Passed),
		Expires: later(a.Expires, b.Expires), Attempts: max(a.Attempts, b.Attempts)}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Run does random things to a store and to the model, and compares what they answer and hold.
func Run(t *rapid.T, s System) {
	ctx := t.Context()
	m := &model{marks: map[string]filters.Mark{}}
	m.setClock(s.Clock)
	someKeys := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "ab", "b", "c:d", "n:1|c@d", "d\xff", "\x00", "", "{}", "o:}%{"}), 0, 4, rapid.ID[string])
	actions := map[string]func(*rapid.T){
		"attempt": func(t *rapid.T) {
			keys := someKeys.Draw(t, "keys")
			terms := Terms
			terms.Times, terms.Unless = rapid.Uint32Range(0, 3).Draw(t, "times"), someKeys.Draw(t, "unless")
			got, err := s.Store().Attempt(ctx, s.Space, keys, terms)
			if want := m.attempt(keys, terms); err != nil || !equal(got, want) {
				t.Fatalf("%q: %v, %v; want %v", keys, got, err, want)
			}
		},
		"pass": func(t *rapid.T) {
			keys := someKeys.Draw(t, "keys")
			if err := s.Store().Pass(ctx, s.Space, keys, Terms.Keep); err != nil {
				t.Fatal(err)
			}
			for _, key := range keys {
				m.marks[key] = m.passed(m.live(key), Terms.Keep)
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
			if n, err := s.Store().Forget(ctx, s.Space, keys); err != nil || n != want {
				t.Fatalf("%q: %d, %v; want %d", keys, n, err, want)
			}
		},
		"merge": func(t *rapid.T) { m.merge(t, ctx, someKeys.Draw(t, "keys"), &s) },
		"clock": func(t *rapid.T) {
			step := rapid.SampledFrom([]time.Duration{time.Microsecond, time.Minute, Terms.Delay, Terms.Window, Terms.Keep, -time.Second, -Terms.Delay, -2 * Terms.Window}).Draw(t, "step")
			if s.Drops && step < 0 {
				m.drop(t, ctx, &s)
			}
			s.Clock.Advance(step)
			m.setClock(s.Clock)
		},
		"": func(t *rapid.T) { m.compare(t, ctx, &s) },
	}
	if s.Sweep != nil {
		actions["sweep"] = func(*rapid.T) {
			s.Sweep()
			m.sweep()
		}
	}
	maps.Copy(actions, s.More)
	t.Repeat(actions)
}

// drop makes sure that what has expired is gone.
func (m *model) drop(t *rapid.T, ctx context.Context, s *System) {
	var gone []string
	for key := range m.marks {
		if !m.live(key).Exists() {
			gone = append(gone, key)
		}
	}
	if n, err := s.Store().Forget(ctx, s.Space, gone); err != nil || n != 0 {
		t.Fatalf("forgot %d expired marks, %v", n, err)
	}
	m.sweep()
}

func (m *model) setClock(c *filtertest.Clock) { m.now = c.Now().Truncate(time.Millisecond).UTC() }

// merge makes up another memory and joins it.
func (m *model) merge(t *rapid.T, ctx context.Context, keys []string, s *System) {
	around := rapid.Custom(func(t *rapid.T) time.Time {
		return m.now.Add(time.Duration(rapid.IntRange(-100_000_000, 100_000_000).Draw(t, "ms")) * time.Millisecond)
	})
	// Not so near that a server's own clock ends the mark before the one of the test does.
	expires := rapid.SampledFrom([]time.Duration{-time.Second, 0, time.Hour, Terms.Window, Terms.Keep})
	theirs := make([]filters.Mark, len(keys))
	for i, key := range keys {
		theirs[i] = filters.Mark{First: around.Draw(t, "first"), Last: around.Draw(t, "last"), Expires: m.now.Add(expires.Draw(t, "expires")), Attempts: rapid.Uint32().Draw(t, "attempts")}
		if rapid.Bool().Draw(t, "has passed") {
			theirs[i].Passed = around.Draw(t, "passed")
		}
		if theirs[i].Expires.After(m.now) {
			m.marks[key] = merged(m.live(key), theirs[i])
		}
	}
	for range 2 { // the second time changes nothing
		if err := s.Merge(ctx, s.Space, keys, theirs); err != nil {
			t.Fatal(err)
		}
	}
}

// compare looks at all that can be seen.
func (m *model) compare(t *rapid.T, ctx context.Context, s *System) {
	want := map[string]filters.Mark{}
	var keys []string
	var marks []filters.Mark
	for key := range m.marks {
		if mark := m.live(key); mark.Exists() {
			want[key] = mark
		}
		keys, marks = append(keys, key), append(marks, m.live(key))
	}
	if _, ready := s.Store().(filters.Ready); ready {
		var a filters.Attempt
		if got, err := s.Store().Peek(&a, s.Space, keys); !a.Missed() && (err != nil || !equal(got, marks)) {
			t.Fatalf("peek at hand %q: %v, %v; want %v", keys, got, err, marks)
		}
	}
	for end := time.Now().Add(s.Lag); ; time.Sleep(time.Millisecond) {
		got, err := s.Store().Peek(ctx, s.Space, keys)
		if err == nil && equal(got, marks) {
			break
		}
		if err != nil || time.Now().After(end) {
			t.Fatalf("peek %q: %v, %v; want %v", keys, got, err, marks)
		}
	}
	got := map[string]filters.Mark{}
	if err := s.Store().Range(ctx, s.Space, "", func(key string, mark filters.Mark) bool { got[key] = mark; return true }); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("range: %v; want %v", got, want)
	}
	all := map[string]filters.Mark{}
	if err := s.Store().Each(ctx, func(space, key string, mark filters.Mark) bool { all[space+key] = mark; return true }); err != nil {
		t.Fatal(err)
	}
	for key, mark := range want {
		if all[s.Space+key] != mark {
			t.Fatalf("each: %v; want %v of %q", all[s.Space+key], mark, key)
		}
	}
	if len(all) != len(want) {
		t.Fatalf("each: %d marks, want %d", len(all), len(want))
	}
	if s.Count != nil {
		s.Count(t, len(m.marks))
	}
}

func equal(a, b []filters.Mark) bool { return fmt.Sprint(a) == fmt.Sprint(b) }
