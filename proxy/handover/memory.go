package handover

import (
	"context"
	"time"

	"gatepost/filters"
)

// Memory is the site's memory, whoever owns it now. It implements [filters.Store] and
// [filters.Ledger], and never waits in an attempt.
type Memory struct {
	Seat[filters.Store]
	untold owed[tally]
}

var (
	_ filters.Store  = (*Memory)(nil)
	_ filters.Ledger = (*Memory)(nil)
	_ filters.Ready  = (*Memory)(nil)
)

// NeverWaitsInAttempt implements [filters.Ready].
func (m *Memory) NeverWaitsInAttempt() {}

// Peek implements [filters.Store].
func (m *Memory) Peek(ctx context.Context, space string, keys []string) (marks []filters.Mark, err error) {
	if a := filters.AttemptOf(ctx); a != nil {
		if !m.AskNow(func(s filters.Store) { marks, err = s.Peek(ctx, space, keys) }) {
			a.Miss()
			return nil, filters.ErrNotAtHand
		}
		return marks, err
	}
	err = m.Ask(ctx, func(s filters.Store) (err error) {
		marks, err = s.Peek(ctx, space, keys)
		return err
	})
	return marks, err
}

// Attempt implements [filters.Store].
func (m *Memory) Attempt(ctx context.Context, space string, keys []string, t filters.Terms) (marks []filters.Mark, err error) {
	err = m.Ask(ctx, func(s filters.Store) (err error) {
		marks, err = s.Attempt(ctx, space, keys, t)
		return err
	})
	return marks, err
}

// Pass implements [filters.Store].
func (m *Memory) Pass(ctx context.Context, space string, keys []string, keep time.Duration) error {
	return m.Ask(ctx, func(s filters.Store) error { return s.Pass(ctx, space, keys, keep) })
}

// Forget implements [filters.Store].
func (m *Memory) Forget(ctx context.Context, space string, keys []string) (n int, err error) {
	err = m.Ask(ctx, func(s filters.Store) (err error) {
		n, err = s.Forget(ctx, space, keys)
		return err
	})
	return n, err
}

// Range implements [filters.Store].
func (m *Memory) Range(ctx context.Context, space, prefix string, yield func(key string, m filters.Mark) bool) error {
	return m.Ask(ctx, func(s filters.Store) error { return s.Range(ctx, space, prefix, yield) })
}

// SharedMemory is a Memory whose owners count for the whole site: each of them is a [filters.Meter] too.
type SharedMemory struct {
	*Memory
	*Counter
}

// Counter is who counts for limits, whoever that is now. It implements [filters.Meter]. What is taken while nobody counts
// is kept for the next, within a bound.
type Counter struct {
	Seat[filters.Meter]
	owed owed[count]
}

var (
	_ filters.Meter  = (*Counter)(nil)
	_ filters.Store  = SharedMemory{}
	_ filters.Ledger = SharedMemory{}
	_ filters.Meter  = SharedMemory{}
)

// Allow implements [filters.Meter].
func (c *Counter) Allow(ctx context.Context, b filters.Bucket) (ok bool, err error) {
	if asked := c.Ask(ctx, func(m filters.Meter) error { ok, err = m.Allow(ctx, b); return nil }); asked != nil {
		return true, asked
	}
	return ok, err
}

// IsEmpty implements [filters.Meter].
func (c *Counter) IsEmpty(ctx context.Context, b filters.Bucket) (empty bool, err error) {
	if asked := c.Ask(ctx, func(m filters.Meter) error { empty, err = m.IsEmpty(ctx, b); return nil }); asked != nil {
		return false, asked
	}
	return empty, err
}

// Take implements [filters.Meter].
func (c *Counter) Take(b filters.Bucket, n int64) {
	if !c.AskNow(func(m filters.Meter) { m.Take(b, n) }) {
		c.owed.add(count{b, n})
		c.AskNow(c.pay) // somebody may have sat down meanwhile
	}
}

// Settle lets an owner count, beginning with what is owed.
func (c *Counter) Settle(m filters.Meter) {
	c.Seat.Take(m)
	c.pay(m)
}

func (c *Counter) pay(m filters.Meter) { c.owed.pay(func(one count) { m.Take(one.Bucket, one.N) }) }
