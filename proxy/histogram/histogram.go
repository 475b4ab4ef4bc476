// Package histogram counts durations in buckets. Whoever does the work observes, without locks and allocations; the
// package metrics exports.
package histogram

import (
	"math"
	"sync/atomic"
	"time"
)

// Bounds are the upper bounds of the buckets, those of all histograms: from a question answered out of a cache to a final
// reply that takes the 10 minutes of RFC 5321, 4.5.3.2.6.
var Bounds = [...]time.Duration{
	100 * time.Microsecond, 500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond,
	500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second,
	time.Minute, 10 * time.Minute,
}

// Histogram is a distribution of durations. The zero value is empty and ready. Safe for concurrent use.
type Histogram struct {
	counts [len(Bounds) + 1]atomic.Uint64 // the last one is what lies above all bounds
	sum    atomic.Int64                   // nanoseconds
}

// Observe counts a duration.
func (h *Histogram) Observe(d time.Duration) {
	i := 0
	for i < len(Bounds) && d > Bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

// Snapshot is a histogram at a moment.
type Snapshot struct {
	Counts [len(Bounds) + 1]uint64 // not cumulative; the last one is what lies above all bounds
	Sum    time.Duration
}

// Read returns the histogram as it is. What is observed meanwhile may be in the sum and not in the counts.
func (h *Histogram) Read() Snapshot {
	var s Snapshot
	for i := range h.counts {
		s.Counts[i] = h.counts[i].Load()
	}
	s.Sum = time.Duration(h.sum.Load())
	return s
}

// Since is what was observed after an earlier moment.
func (s Snapshot) Since(earlier Snapshot) Snapshot {
	for i := range s.Counts {
		s.Counts[i] -= earlier.Counts[i]
	}
	s.Sum -= earlier.Sum
	return s
}

// Count is how many durations were observed.
func (s *Snapshot) Count() (n uint64) {
	for _, one := range s.Counts {
		n += one
	}
	return n
}

// Within returns the least of Bounds that a share of the durations, 0 to 1, does not exceed; 0 where nothing was
// observed, or that share lies above all bounds.
func (s *Snapshot) Within(share float64) time.Duration {
	wanted := uint64(math.Ceil(share * float64(s.Count())))
	if wanted == 0 {
		return 0
	}
	for i, bound := range Bounds {
		if s.Counts[i] >= wanted {
			return bound
		}
		wanted -= s.Counts[i]
	}
	return 0
}
