package load

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestBucketsAreInOrderAndNarrow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Uint64Range(0, math.MaxInt64).Draw(t, "v")
		i := bucket(v)
		low, next := lowest(i), lowest(i+1)
		if v < low || v >= next {
			t.Fatalf("%d is in bucket %d of %d to %d", v, i, low, next)
		}
		if width := next - low; width > max(1, low>>fine) {
			t.Fatalf("bucket of %d is %d wide", v, width)
		}
	})
}

func TestQuantiles(t *testing.T) {
	var h Histogram
	if h.Quantile(0.5) != 0 {
		t.Error("the median of nothing")
	}
	for i := range 1000 {
		h.Add(time.Duration(i+1) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{0: time.Millisecond, 0.5: 501 * time.Millisecond, 0.99: 991 * time.Millisecond, 1: time.Second} {
		if got := h.Quantile(q); math.Abs(float64(got-want)) > float64(want)/64 {
			t.Errorf("quantile %g is %s, want %s", q, got, want)
		}
	}
}
