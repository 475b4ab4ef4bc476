package resolver

import (
	"time"

	"github.com/maypok86/otter/v2"

	"gatepost/filters"
)

// Bounds of the time that answers are kept.
const (
	minTTL      = 5 * time.Second
	maxTTL      = time.Hour
	maxNegative = 5 * time.Minute // RFC 2308, 5 recommends hours; a mail system wants to see a new record sooner
	failureTTL  = 2 * time.Second // RFC 2308, 7: a dead server must not be asked for every message
)

// cache keeps answers until they expire. Its admission policy (TinyLFU) keeps what is asked often in spite of a flood
// of names that are asked once.
type cache struct {
	entries *otter.Cache[key, *answer]
}

// weightUnit is the size of an answer, in bytes, that counts as one entry.
const weightUnit = 512

func newCache(size int, clock filters.Clock) *cache {
	return &cache{otter.Must(&otter.Options[key, *answer]{
		MaximumWeight: uint64(size),
		Weigher:       func(_ key, a *answer) uint32 { return uint32(1 + a.size/weightUnit) },
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[key, *answer]) time.Duration {
			return e.Value.ttl
		}),
		Clock: cacheClock{clock, clock.Now()},
		// Upkeep happens on the goroutine that reads or writes: no goroutine without an owner.
		Executor: func(upkeep func()) { upkeep() },
	})}
}

func (c *cache) get(k key) (*answer, bool) { return c.entries.GetIfPresent(k) }

func (c *cache) put(k key, a *answer) { c.entries.Set(k, a) }

// cacheClock lets otter read our clock, by the machine's own count where it has it: with nanoseconds since 1970, a clock
// that is set back by a day would keep answers, and failures, for a day.
type cacheClock struct {
	clock filters.Clock
	start time.Time
}

func (c cacheClock) NowNano() int64 { return int64(c.clock.Now().Sub(c.start)) }

// Tick returns nil: no ticks, no goroutine. Expired entries go when the cache is used.
func (c cacheClock) Tick(time.Duration) <-chan time.Time { return nil }
