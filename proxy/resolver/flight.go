package resolver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gatepost/filters"
	"gatepost/policy/grow"
)

// flight is one question on its way, for all who ask it. x/sync/singleflight was not used: it does not bound the
// number of flights, and a panic in one ends the process.
type flight struct {
	key    key
	landed chan struct{} // closed when answer is set
	answer *answer
}

// lookup never returns nil.
func (r *Resolver) lookup(ctx context.Context, k key) *answer {
	if a, ok := r.cache.get(k); ok {
		r.Metrics.Hits.Add(1)
		return a
	}
	if !askable(k.question()) {
		return failed(k, fmt.Errorf("a name that cannot be asked: %w", filters.ErrNXDomain))
	}
	if a := filters.AttemptOf(ctx); a != nil {
		a.Miss()
		return failed(k, filters.ErrNotAtHand)
	}
	f, err := r.board(ctx, k)
	if err != nil {
		return failed(k, err)
	}
	select {
	case <-f.landed:
		return f.answer
	case <-ctx.Done():
		return failed(k, ctx.Err())
	}
}

// board joins the flight for k or starts one, which waits for a slot as long as ctx lasts.
func (r *Resolver) board(ctx context.Context, k key) (*flight, error) {
	if f, err := r.tryBoard(k); f != nil || err != nil {
		return f, err
	}
	r.Metrics.Waits.Add(1)
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("too many questions on their way: %w", ctx.Err())
	case <-r.ctx.Done():
		return nil, errClosed
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := r.join(k)
	if f != nil || err != nil {
		<-r.slots
		return f, err
	}
	return r.start(k), nil
}

// tryBoard returns nil, nil when there is no slot.
func (r *Resolver) tryBoard(k key) (*flight, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f, err := r.join(k); f != nil || err != nil {
		return f, err
	}
	select {
	case r.slots <- struct{}{}:
		return r.start(k), nil
	default:
		return nil, nil
	}
}

// join returns the flight for k, or nil. r.mu is held.
func (r *Resolver) join(k key) (*flight, error) {
	if r.closed {
		return nil, errClosed
	}
	f := r.flights[k]
	if f != nil {
		r.Metrics.Coalesced.Add(1)
	}
	return f, nil
}

// start takes over one slot. r.mu is held.
func (r *Resolver) start(k key) *flight {
	f := &flight{key: k, landed: make(chan struct{})}
	r.flights[k] = f
	r.running.Go(func() { r.fly(f) })
	return f
}

// fly has a deadline of its own: a caller that leaves does not take the answer from the others.
func (r *Resolver) fly(f *flight) {
	defer func() { <-r.slots }()
	grow.Stack()
	started := time.Now()
	f.answer = r.safeAsk(f.key, started.Add(r.timeout))
	r.Metrics.Latency.Observe(time.Since(started))
	r.Metrics.Asked.Add(1)
	if failure, ok := errors.AsType[*Error](f.answer.err); ok && failure.Temporary() {
		r.Metrics.Failed.Add(1)
	}
	if r.ctx.Err() == nil {
		r.cache.put(f.key, f.answer)
	}
	// The cache has the answer before the flight is gone: nobody asks again in between.
	r.mu.Lock()
	delete(r.flights, f.key)
	r.mu.Unlock()
	close(f.landed)
}

// safeAsk turns a panic over a hostile message into that question's failure.
func (r *Resolver) safeAsk(k key, until time.Time) (a *answer) {
	defer func() {
		if p := recover(); p != nil {
			a = temporary(k, fmt.Errorf("panic while asking: %v", p))
		}
	}()
	return r.ask(k, until)
}
