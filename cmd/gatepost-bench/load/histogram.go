package load

import (
	"math/bits"
	"time"
)

// Histogram counts durations in buckets that are at most 1/64 of their value wide.
type Histogram struct {
	buckets [buckets]int64
	count   int64
}

const (
	fine    = 6 // bits of a value that tell buckets apart
	buckets = (64 - fine) << fine
)

// Add counts d.
func (h *Histogram) Add(d time.Duration) {
	h.buckets[bucket(uint64(max(d, 0)))]++
	h.count++
}

func bucket(v uint64) int {
	shift := max(bits.Len64(v)-1-fine, 0)
	return shift<<fine + int(v>>shift)
}

// lowest is the smallest value in bucket i.
func lowest(i int) uint64 {
	if i < 2<<fine {
		return uint64(i)
	}
	shift := i>>fine - 1
	return uint64(i-shift<<fine) << shift
}

// Quantile returns the duration that the share q of all does not exceed; 0 of none.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := int64(q * float64(h.count))
	var seen int64
	for i, n := range h.buckets {
		if seen += n; seen > rank || n > 0 && seen == h.count {
			return time.Duration((lowest(i) + lowest(i+1)) / 2)
		}
	}
	return 0
}
