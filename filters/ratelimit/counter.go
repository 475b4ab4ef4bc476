package ratelimit

import (
	"context"
	"time"

	"gatepost/filters"
)

// counter holds the buckets: in this proxy's memory, or in the site's. An error tells that only this proxy's part is
// known; the answer is good all the same.
type counter interface {
	// allow takes one token if there is one.
	allow(ctx context.Context, key bucketKey, l *limit, now time.Time) (bool, error)
	// isEmpty tells whether there is less than one token.
	isEmpty(ctx context.Context, key bucketKey, l *limit, now time.Time) (bool, error)
	// tokens is how many there are for sure.
	tokens(key bucketKey, l *limit, now time.Time) float64
	// take takes n tokens, at most a whole bucket of them, and leaves the bucket in debt if it has fewer.
	take(key bucketKey, l *limit, n int64, now time.Time)
}

// siteWide counts by a store that all proxies of the site share.
type siteWide struct{ meter filters.Meter }

func (s siteWide) allow(ctx context.Context, key bucketKey, l *limit, _ time.Time) (bool, error) {
	return s.meter.Allow(ctx, key.shared(l))
}

func (s siteWide) isEmpty(ctx context.Context, key bucketKey, l *limit, _ time.Time) (bool, error) {
	return s.meter.IsEmpty(ctx, key.shared(l))
}

// tokens is none: what the others have taken is not known without asking.
func (siteWide) tokens(bucketKey, *limit, time.Time) float64 { return 0 }

func (s siteWide) take(key bucketKey, l *limit, n int64, _ time.Time) {
	s.meter.Take(key.shared(l), n)
}

// shared is the bucket as all proxies name it.
func (k bucketKey) shared(l *limit) filters.Bucket {
	of := k.text
	if l.Per == perClient {
		of = k.network.String()
	}
	return filters.Bucket{Limit: l.sharedID, Of: of, PerSecond: l.perSecond, Burst: int64(l.burst)}
}
