package shared

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"gatepost/filters"
	"gatepost/proxy/store/engine"
)

// Meter counts for the whole site. It implements [filters.Meter].
//
// A bucket lives in the engine; each proxy has a view of it, and may spend an allowance of a 32nd of the burst (at least
// one token) before it must tell and ask. Half an allowance is told beside the sessions; a whole one makes the next
// session wait for the round trip. So somebody who stays far below a limit costs no round trip at all, and a hot key
// one for every sixty-fourth of the burst.
//
// The price: N proxies together let through at most N allowances more than the burst, and as many again each time that
// a bucket takes to fill; and, of what counts only when it has ended, what is under way (as with a local limit).
//
// In an outage each proxy counts alone, and says so by an error beside its answer. What it has counted then, at most a
// whole bucket, is told when the engine is back.
type Meter struct {
	store *Store
	views [viewShards]viewShard
	due   chan filters.Bucket // what has half an allowance to tell
}

const (
	allowanceShare = 32
	viewShards     = 64
	maxViews       = 1 << 20 // in all; about 200 bytes each
	maxDue         = 1024
	reporters      = 8 // reports under way
)

// allowance is how many tokens a proxy may spend without asking.
func allowance(b filters.Bucket) int64 { return max(b.Burst/allowanceShare, 1) }

type viewShard struct {
	mu  sync.Mutex // guards all and the views in it
	all map[viewKey]*view
}

type viewKey struct{ limit, of string }

// view is what this proxy knows of a bucket.
type view struct {
	full    time.Time     // when it will be full again, what was not told included
	untold  int64         // tokens that the engine does not know of
	told    int64         // those of the report under way
	telling chan struct{} // closed when the report under way has ended; nil: there is none
	useless time.Time     // when a bucket would be full that is empty now: then what is untold may be forgotten
}

func newMeter(s *Store) *Meter {
	m := &Meter{store: s, due: make(chan filters.Bucket, maxDue)}
	for i := range m.views {
		m.views[i].all = map[viewKey]*view{}
	}
	return m
}

// Allow implements [filters.Meter].
func (m *Meter) Allow(ctx context.Context, b filters.Bucket) (bool, error) {
	for {
		err := m.ask(ctx, b)
		if ok, decided := m.allow(b, err != nil); decided {
			return ok, err
		}
	}
}

// allow takes a token if there is one, unless other sessions have used up the allowance since this one has asked.
func (m *Meter) allow(b filters.Bucket, alone bool) (ok, decided bool) {
	shard, now := m.shard(b), m.store.clock.Now()
	shard.mu.Lock()
	defer shard.mu.Unlock()
	v := shard.view(b, now)
	switch {
	case !v.hasToken(b, now):
		return false, true
	case !alone && v.owes(b):
		return false, false
	}
	m.spend(v, b, 1, now)
	return true, true
}

// IsEmpty implements [filters.Meter].
func (m *Meter) IsEmpty(ctx context.Context, b filters.Bucket) (bool, error) {
	err := m.ask(ctx, b)
	shard, now := m.shard(b), m.store.clock.Now()
	shard.mu.Lock()
	defer shard.mu.Unlock()
	v, known := shard.all[viewKey{b.Limit, b.Of}]
	return known && !v.hasToken(b, now), err
}

// Take implements [filters.Meter].
func (m *Meter) Take(b filters.Bucket, n int64) {
	shard, now := m.shard(b), m.store.clock.Now()
	shard.mu.Lock()
	defer shard.mu.Unlock()
	m.spend(shard.view(b, now), b, min(n, b.Burst), now)
}

// spend takes tokens and has them told in time. The shard's lock is held.
func (m *Meter) spend(v *view, b filters.Bucket, n int64, now time.Time) {
	if v.full.Before(now) {
		v.full = now
	}
	v.full = v.full.Add(engine.Cost(b, n))
	v.useless = now.Add(engine.Cost(b, b.Burst))
	v.untold = min(v.untold+n, b.Burst)
	if v.telling == nil && 2*v.untold >= allowance(b) && m.store.usable() != nil {
		select {
		case m.due <- b:
		default: // the next one who comes tells it, or waits for it
		}
	}
}

// oneToken allows for rounding: after exactly the time of one token there is one.
const oneToken = 1 - 1e-6

func (v *view) hasToken(b filters.Bucket, now time.Time) bool {
	missing := max(v.full.Sub(now).Seconds(), 0) * b.PerSecond
	return float64(b.Burst)-missing >= oneToken
}

// owes tells that the allowance is used up.
func (v *view) owes(b filters.Bucket) bool { return v.untold+v.told >= allowance(b) }

// ask makes the view good enough to decide by, which it is while the allowance is not used up.
func (m *Meter) ask(ctx context.Context, b filters.Bucket) error {
	if o := m.store.outage.Load(); o != nil {
		return fmt.Errorf("limits are counted by this proxy alone: %w", o.cause)
	}
	shard := m.shard(b)
	shard.mu.Lock()
	v, known := shard.all[viewKey{b.Limit, b.Of}]
	if !known || !v.owes(b) {
		shard.mu.Unlock()
		return nil
	}
	telling := v.telling
	shard.mu.Unlock()
	if telling == nil {
		return m.tell(ctx, b)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(m.store.config.Timeout))
	defer cancel()
	select {
	case <-telling:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tell reports what is untold of a bucket, and takes over what the engine knows.
func (m *Meter) tell(ctx context.Context, b filters.Bucket) error {
	shard := m.shard(b)
	shard.mu.Lock()
	v, known := shard.all[viewKey{b.Limit, b.Of}]
	if !known || v.telling != nil || v.untold == 0 {
		shard.mu.Unlock()
		return nil
	}
	done := make(chan struct{})
	v.telling, v.told, v.untold = done, v.untold, 0
	told := v.told
	shard.mu.Unlock()

	full, err := decide(ctx, m.store, func() string { return engine.LimitPlace(b) }, func(ctx context.Context, e *engine.Engine) (time.Time, error) {
		return e.Spend(ctx, b, told)
	}, func() (time.Time, error) { return time.Time{}, errAlone })

	shard.mu.Lock()
	defer shard.mu.Unlock()
	close(done)
	v.telling, v.told = nil, 0
	if err != nil {
		v.untold = min(v.untold+told, b.Burst)
		return err
	}
	v.full = full.Add(engine.Cost(b, v.untold))
	return nil
}

// report tells what is due until ctx ends.
func (m *Meter) report(ctx context.Context) {
	var running sync.WaitGroup
	for range reporters {
		running.Go(func() {
			for {
				select {
				case b := <-m.due:
					_ = m.tell(ctx, b) // an error has begun an outage, and what was to be told is kept
				case <-ctx.Done():
					return
				}
			}
		})
	}
	running.Wait()
}

func (m *Meter) shard(b filters.Bucket) *viewShard {
	return &m.views[hash(b)%viewShards]
}

// view returns the view of a bucket, a full one if there was none. The lock is held.
func (s *viewShard) view(b filters.Bucket, now time.Time) *view {
	key := viewKey{b.Limit, b.Of}
	if v, known := s.all[key]; known {
		return v
	}
	s.makeRoom(now)
	v := &view{full: now, useless: now}
	s.all[key] = v
	return v
}

// makeRoom looks at a few views (the map's order is random): the useless ones go, and if none does and the shard is at its
// bound, the one of the fullest bucket: floods of new keys push out each other. The lock is held.
func (s *viewShard) makeRoom(now time.Time) {
	const few = 8
	var fullest viewKey
	least, looked, removed := time.Duration(math.MaxInt64), 0, false
	for key, v := range s.all {
		left := v.full.Sub(now)
		switch {
		case v.telling != nil:
		case left <= 0 && !v.useless.After(now):
			delete(s.all, key)
			removed = true
		case left < least:
			least, fullest = left, key
		}
		if looked++; looked == few {
			break
		}
	}
	if !removed && len(s.all) >= maxViews/viewShards {
		delete(s.all, fullest)
	}
}
