package ratelimit

import (
	"context"
	"math"
	"net/netip"

	"gatepost/filters"
)

// What this proxy has counted can go to another process that takes its place, which then counts for both: for that the
// filter is a [filters.Meter] of its own buckets.
var _ filters.Meter = (*Filter)(nil)

// CountElsewhere lets m count from now on, nil: this filter again. It does so for all filters that have adopted each other.
// Where the site counts anyway, nothing changes.
func (f *Filter) CountElsewhere(m filters.Meter) {
	b, ok := f.counter.(*buckets)
	switch {
	case !ok:
	case m == nil:
		b.elsewhere.Store(nil)
	default:
		b.elsewhere.Store(&siteWide{m})
	}
}

// Taken calls yield for each bucket that is not full, with the tokens that it lacks, until that returns false: to
// [Filter.Take] them elsewhere makes the same bucket there.
func (f *Filter) Taken(yield func(b filters.Bucket, n int64) bool) {
	b, ok := f.counter.(*buckets)
	if !ok {
		return
	}
	limits := map[string]*limit{}
	for i := range f.limits {
		limits[f.limits[i].id] = &f.limits[i]
	}
	now := f.time.at(f.clock.Now())
	for i := range b.shards {
		var list []taken
		s := &b.shards[i]
		s.mu.Lock()
		for key, bucket := range s.all {
			// Tokens are whole: half of one more or less is all that this can be wrong by.
			if l, n := limits[key.limit], math.Round(float64(bucket.Burst())-bucket.TokensAt(now)); l != nil && n >= 1 {
				list = append(list, taken{key.shared(l), int64(n)})
			}
		}
		s.mu.Unlock()
		for _, t := range list {
			for n := t.n; n > 0; n -= t.bucket.Burst { // a debt is more than one take can bring about
				if !yield(t.bucket, min(n, t.bucket.Burst)) {
					return
				}
			}
		}
	}
}

type taken struct {
	bucket filters.Bucket
	n      int64
}

// Allow implements [filters.Meter]. Of a limit that is not configured everything is allowed.
func (f *Filter) Allow(ctx context.Context, b filters.Bucket) (bool, error) {
	key, l := f.own(b)
	if l == nil {
		return true, nil
	}
	return f.counter.allow(ctx, key, l, f.time.at(f.clock.Now()))
}

// IsEmpty implements [filters.Meter].
func (f *Filter) IsEmpty(ctx context.Context, b filters.Bucket) (bool, error) {
	key, l := f.own(b)
	if l == nil {
		return false, nil
	}
	return f.counter.isEmpty(ctx, key, l, f.time.at(f.clock.Now()))
}

// Take implements [filters.Meter].
func (f *Filter) Take(b filters.Bucket, n int64) {
	if key, l := f.own(b); l != nil {
		f.counter.take(key, l, n, f.time.at(f.clock.Now()))
	}
}

// own is what this filter calls a bucket; nil: there is no such limit with the same settings.
func (f *Filter) own(b filters.Bucket) (bucketKey, *limit) {
	for i := range f.limits {
		l := &f.limits[i]
		if l.sharedID != b.Limit {
			continue
		}
		key := bucketKey{limit: l.id, text: b.Of}
		if l.Per == perClient {
			key.text = ""
			key.network, _ = netip.ParsePrefix(b.Of) // the zero one stands for clients without an address
		}
		return key, l
	}
	return bucketKey{}, nil
}
