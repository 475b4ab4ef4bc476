package filters

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// Attempt is the context of an observation that is tried on the session's own goroutine, which must not wait: a
// [Resolver] or a [Store] that would have to ask somebody calls Miss instead, and fails with [ErrNotAtHand]. Whoever made
// the attempt then throws away what came of it, and has the observation made beside the session.
//
// It has neither deadline nor Done: there is nothing to wait for. The zero Attempt is ready; it is safe for concurrent use.
type Attempt struct{ missed atomic.Bool }

var _ context.Context = (*Attempt)(nil)

// ErrNotAtHand is what a look-up fails with in an [Attempt] whose answer is not in memory.
var ErrNotAtHand = errors.New("the answer is not at hand")

// AttemptOf returns the attempt that a context belongs to, or nil.
func AttemptOf(ctx context.Context) *Attempt {
	a, _ := ctx.Value(attemptKey{}).(*Attempt)
	return a
}

// Miss notes that something was not at hand, and ends the context.
func (a *Attempt) Miss() { a.missed.Store(true) }

// Missed tells whether something was not at hand.
func (a *Attempt) Missed() bool { return a.missed.Load() }

// Deadline implements [context.Context].
func (a *Attempt) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done implements [context.Context].
func (a *Attempt) Done() <-chan struct{} { return nil }

// Err implements [context.Context].
func (a *Attempt) Err() error {
	if a.Missed() {
		return context.Canceled
	}
	return nil
}

// Value implements [context.Context].
func (a *Attempt) Value(key any) any {
	if key == (attemptKey{}) {
		return a
	}
	return nil
}

type attemptKey struct{}

// Ready is a [Resolver] or a [Store] that never waits in an [Attempt]. Of any other nothing counts as at hand.
type Ready interface{ NeverWaitsInAttempt() }
