package ratelimit

import (
	"context"
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

const (
	maxBuckets = 1 << 20 // 160 bytes each, and the text of the key
	shardCount = 64
	maxText    = 320 // bytes of a key's text that tell buckets apart
)

// buckets hold a token bucket per limit and counted one. A bucket that is full again tells nothing and goes: each new
// one looks at a few others. When there is no room, the fullest of a few goes: floods of new keys push out each other,
// not those who are over a limit. Safe for concurrent use.
//
// A cache that evicts by use would do the contrary, and would bring goroutines that a reload must hand over.
type buckets struct {
	seed      maphash.Seed
	shards    [shardCount]bucketShard
	elsewhere atomic.Pointer[siteWide] // who counts in our place; nil: nobody
}

// steadyTime follows a clock but never goes back: a bucket does not fill before the time at which it was last used, so
// after a clock was set back nobody over a limit would get through until it has caught up.
type steadyTime struct {
	mu     sync.Mutex // guards latest, behind
	latest time.Time
	behind time.Duration // what the clock was set back in all
}

func (s *steadyTime) at(clock time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := clock.Add(s.behind)
	back := s.latest.Sub(now)
	if back > time.Second { // less is two sessions that read the clock at once
		s.behind += back
	}
	if back > 0 {
		return s.latest
	}
	s.latest = now
	return now
}

type bucketShard struct {
	bound int        // of all
	mu    sync.Mutex // guards all
	all   map[bucketKey]*rate.Limiter
}

// bucketKey names a bucket. limit is a limit with all its settings: a changed limit starts afresh after a reload.
type bucketKey struct {
	limit   string
	network netip.Prefix
	text    string
}

// newBuckets makes room for about most buckets.
func newBuckets(most int) *buckets {
	b := &buckets{seed: maphash.MakeSeed()}
	for i := range b.shards {
		b.shards[i].all = make(map[bucketKey]*rate.Limiter)
		b.shards[i].bound = most / shardCount
	}
	return b
}

func (b *buckets) shard(key bucketKey) *bucketShard {
	return &b.shards[maphash.Comparable(b.seed, key)%shardCount]
}

// oneToken allows for rounding: after exactly the time of one token there is one.
const oneToken = 1 - 1e-6

// isEmpty implements counter.
func (b *buckets) isEmpty(ctx context.Context, key bucketKey, l *limit, now time.Time) (bool, error) {
	if other := b.elsewhere.Load(); other != nil {
		return other.isEmpty(ctx, key, l, now)
	}
	s := b.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	bucket, ok := s.all[key]
	return ok && bucket.TokensAt(now) < oneToken, nil
}

// tokens implements counter.
func (b *buckets) tokens(key bucketKey, l *limit, now time.Time) float64 {
	if other := b.elsewhere.Load(); other != nil {
		return other.tokens(key, l, now)
	}
	s := b.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if bucket, ok := s.all[key]; ok {
		return bucket.TokensAt(now)
	}
	return float64(l.burst)
}

// take implements counter.
func (b *buckets) take(key bucketKey, l *limit, n int64, now time.Time) {
	if other := b.elsewhere.Load(); other != nil {
		other.take(key, l, n, now)
		return
	}
	s := b.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.get(key, l, now).ReserveN(now, int(min(n, int64(l.burst))))
}

// allow implements counter.
func (b *buckets) allow(ctx context.Context, key bucketKey, l *limit, now time.Time) (bool, error) {
	if other := b.elsewhere.Load(); other != nil {
		return other.allow(ctx, key, l, now)
	}
	s := b.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.get(key, l, now).AllowN(now, 1), nil
}

// forget makes a bucket full.
func (b *buckets) forget(key bucketKey) {
	s := b.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, key)
}

// get returns the bucket of a key, a full one if there was none. s.mu is held.
func (s *bucketShard) get(key bucketKey, l *limit, now time.Time) *rate.Limiter {
	if bucket, ok := s.all[key]; ok {
		return bucket
	}
	s.makeRoom(now)
	bucket := rate.NewLimiter(rate.Limit(l.perSecond), l.burst)
	s.all[key] = bucket
	return bucket
}

// makeRoom looks at a few buckets (the map's order is random): the full ones go, and if none does and the shard is at
// its bound, the one that is nearest to it. s.mu is held.
func (s *bucketShard) makeRoom(now time.Time) {
	const few = 8
	var fullest bucketKey
	most, looked, removed := -1.0, 0, false
	for key, bucket := range s.all {
		share := bucket.TokensAt(now) / float64(bucket.Burst())
		if share >= 1 {
			delete(s.all, key)
			removed = true
		}
		if share > most || looked == 0 {
			most, fullest = share, key
		}
		if looked++; looked == few {
			break
		}
	}
	if !removed && len(s.all) >= s.bound {
		delete(s.all, fullest)
	}
}

// size is the number of buckets.
func (b *buckets) size() (n int) {
	for i := range b.shards {
		s := &b.shards[i]
		s.mu.Lock()
		n += len(s.all)
		s.mu.Unlock()
	}
	return n
}
