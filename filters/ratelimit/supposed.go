package ratelimit

import (
	"math"
	"slices"
	"time"

	"gatepost/filters"
)

// Bucket is one of a filter, and the same one of its twins.
type Bucket struct {
	key   bucketKey
	limit *limit
}

// Limit is the name of the bucket's limit.
func (b Bucket) Limit() string { return b.limit.Name }

// Burst is how many tokens the bucket holds.
func (b Bucket) Burst() int { return b.limit.burst }

// Fill is how long an empty one takes to be full.
func (b Bucket) Fill() time.Duration {
	return time.Duration(float64(b.limit.burst) / b.limit.perSecond * float64(time.Second))
}

// Twin returns a filter with the same limits and clock that counts for itself, beginning with full buckets: whoever does
// not know for sure what came counts the least in one and the most in the other, and knows what both say.
func (f *Filter) Twin() *Filter {
	return &Filter{limits: f.limits, clock: f.clock, time: f.time, counter: newBuckets(maxBuckets), strict: f.strict}
}

// LookedAt appends the buckets that an observation looks at.
func (f *Filter) LookedAt(dst []Bucket, stage filters.Stage, v filters.View) []Bucket {
	switch stage {
	case filters.AtConnect:
		return f.buckets(dst, &v, atConnect)
	case filters.AtMail:
		return f.buckets(dst, &v, atMail)
	default:
		return f.buckets(dst, &v, atRcpt)
	}
}

// CountedIn appends the buckets in which a recipient or a message may be counted, however it ends.
func (f *Filter) CountedIn(dst []Bucket, kind filters.OutcomeKind, v filters.View) []Bucket {
	if kind == filters.RecipientOutcome {
		return f.buckets(dst, &v, atRcpt)
	}
	return f.buckets(dst, &v, atMail)
}

func (f *Filter) buckets(dst []Bucket, v *filters.View, counts []string) []Bucket {
	for i := range f.limits {
		l := &f.limits[i]
		if !slices.Contains(counts, l.Count) {
			continue
		}
		if key, ok := l.key(v); ok {
			dst = append(dst, Bucket{key, l})
		}
	}
	return dst
}

// Anybodys appends a bucket of nobody's for each limit by which something was counted of which v does not tell for whom.
func (f *Filter) Anybodys(dst []Bucket, kind filters.OutcomeKind, v filters.View) []Bucket {
	counts := atMail
	if kind == filters.RecipientOutcome {
		counts = atRcpt
	}
	for i := range f.limits {
		l := &f.limits[i]
		unknown := l.Per == perSenderDomain && v.Envelope == nil || l.Per == perRecipient && v.Recipient == nil
		if unknown && slices.Contains(counts, l.Count) {
			dst = append(dst, Bucket{limit: l})
		}
	}
	return dst
}

// Tokens is how many there are in a bucket, at most its burst; below zero is what it owes.
func (f *Filter) Tokens(b Bucket) float64 {
	return f.counter.tokens(b.key, b.limit, f.time.at(f.clock.Now()))
}

// CopyFrom makes a bucket what it is in a twin, but for rounding.
func (f *Filter) CopyFrom(twin *Filter, b Bucket) {
	own, ok := f.counter.(*buckets)
	if !ok {
		return
	}
	now, burst := f.time.at(f.clock.Now()), float64(b.limit.burst)
	own.forget(b.key)
	lacking := burst - twin.Tokens(b)
	if lacking <= 0 {
		return
	}
	// Tokens are taken whole, so that is done a little earlier: what is too much has come back by now.
	whole := math.Ceil(lacking)
	at := now.Add(-time.Duration((whole - lacking) / b.limit.perSecond * float64(time.Second)))
	for ; whole > 0; whole -= burst {
		own.take(b.key, b.limit, int64(min(whole, burst)), at)
	}
}

// Drain takes as many tokens as a bucket can hold.
func (f *Filter) Drain(b Bucket) {
	f.counter.take(b.key, b.limit, int64(b.limit.burst), f.time.at(f.clock.Now()))
}
