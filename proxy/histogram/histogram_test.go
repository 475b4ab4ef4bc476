package histogram

import (
	"slices"
	"testing"
	"time"
)

func TestBuckets(t *testing.T) {
	if !slices.IsSorted(Bounds[:]) {
		t.Fatal("the bounds are in no order")
	}
	var h Histogram
	for _, d := range []time.Duration{0, Bounds[0], Bounds[0] + 1, time.Second, time.Hour} {
		h.Observe(d)
	}
	s := h.Read()
	second := slices.Index(Bounds[:], time.Second)
	if s.Counts[0] != 2 || s.Counts[1] != 1 || s.Counts[second] != 1 || s.Counts[len(Bounds)] != 1 || s.Sum != 2*Bounds[0]+1+time.Second+time.Hour {
		t.Errorf("%+v", s)
	}
}

func BenchmarkObserve(b *testing.B) {
	var h Histogram
	b.ReportAllocs()
	for b.Loop() {
		h.Observe(3 * time.Millisecond)
	}
}

func TestWithin(t *testing.T) {
	var h Histogram
	if s := h.Read(); s.Within(0.95) != 0 || s.Count() != 0 {
		t.Error("of nothing")
	}
	for range 95 {
		h.Observe(time.Millisecond)
	}
	for range 5 {
		h.Observe(time.Hour)
	}
	s := h.Read()
	for share, want := range map[float64]time.Duration{0.5: time.Millisecond, 0.95: time.Millisecond, 0.96: 0, 0: 0} {
		if got := s.Within(share); got != want {
			t.Errorf("%v: %s", share, got)
		}
	}
	if s.Count() != 100 {
		t.Error(s.Count())
	}
}
