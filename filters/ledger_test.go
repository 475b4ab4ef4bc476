package filters

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var ledgerStart = time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)

func drawStanding(t *rapid.T, name string) Standing {
	count := rapid.Float64Range(0, MaxCount/8)
	return Standing{
		Counts: Counts{Delivered: count.Draw(t, name+".delivered"), Refused: count.Draw(t, name+".refused"),
			Unknown: count.Draw(t, name+".unknown"), Trapped: count.Draw(t, name+".trapped")},
		At:       ledgerStart.Add(time.Duration(rapid.IntRange(0, 10_000_000).Draw(t, name+".at")) * time.Second),
		HalfLife: 30 * 24 * time.Hour,
	}
}

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-9*(1+math.Abs(a)+math.Abs(b)) }

func alike(a, b Standing) bool {
	return a.At.Equal(b.At) && a.HalfLife == b.HalfLife && near(a.Delivered, b.Delivered) && near(a.Refused, b.Refused) &&
		near(a.Unknown, b.Unknown) && near(a.Trapped, b.Trapped)
}

func TestStandingsFade(t *testing.T) {
	s := Standing{Counts: Counts{Delivered: 8, Trapped: 1}, At: ledgerStart, HalfLife: time.Hour}
	for _, test := range []struct {
		after     time.Duration
		delivered float64
	}{{-time.Hour, 8}, {0, 8}, {time.Hour, 4}, {3 * time.Hour, 1}} {
		if got := s.On(ledgerStart.Add(test.after)); !near(got.Delivered, test.delivered) || !near(got.Trapped, test.delivered/8) {
			t.Errorf("after %v: %v", test.after, got)
		}
	}
	if (Standing{}).Exists() || !(Standing{}).Expires().IsZero() {
		t.Error("the zero standing exists")
	}
}

// What is known only becomes less while nothing happens, and nothing is left of it when it expires.
func TestFadingIsMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawStanding(t, "s")
		earlier := s.At.Add(time.Duration(rapid.IntRange(-1000, 100_000_000).Draw(t, "earlier")) * time.Second)
		later := earlier.Add(time.Duration(rapid.IntRange(0, 100_000_000).Draw(t, "later")) * time.Second)
		a, b := s.On(earlier), s.On(later)
		if b.Delivered > a.Delivered || b.Refused > a.Refused || b.Unknown > a.Unknown || b.Trapped > a.Trapped || b.Total() < 0 {
			t.Fatalf("%v became %v", a, b)
		}
		if left := s.On(s.Expires()).Total(); left > faded*(1+1e-6) {
			t.Fatalf("%v is left when it expires", left)
		}
	})
}

// Histories can be put together in any order, and memories as often as one likes.
func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawStanding(t, "a"), drawStanding(t, "b"), drawStanding(t, "c")
		if x, y := a.Add(b).Add(c), c.Add(b.Add(a)); !alike(x, y) {
			t.Fatalf("added: %v, %v", x, y)
		}
		x, y := a.Merge(b).Merge(c), c.Merge(a).Merge(b)
		if !alike(x, y) {
			t.Fatalf("merged: %v, %v", x, y)
		}
		if again := x.Merge(b); !alike(again, x) {
			t.Fatalf("merged again: %v, %v", again, x)
		}
	})
}

func TestCountsStayWithinTheirBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Standing
		for range rapid.IntRange(1, 20).Draw(t, "tallies") {
			d := drawStanding(t, "d")
			d.Delivered = rapid.Float64Range(0, 2*MaxCount).Draw(t, "many")
			s = s.Add(d)
		}
		for _, n := range [...]float64{s.Delivered, s.Refused, s.Unknown, s.Trapped} {
			if n < 0 || n > MaxCount {
				t.Fatal(s)
			}
		}
		if most := s.At.Add(25 * s.HalfLife); s.Expires().After(most.Add(2 * s.HalfLife)) {
			t.Fatalf("it lasts until %v", s.Expires())
		}
	})
}
