// Package deadline has contexts that cost next to nothing until somebody waits for them.
//
// Every command of a client and every look at it by a filter has its time, and nearly all of them end without waiting:
// the answer is in a cache, or at hand. A context.WithDeadline takes 4 allocations (272 bytes, 600 ns), a timer, and a
// place in its parent's map, which keeps its size for as long as the connection lasts; a Context here takes one
// allocation (64 bytes, 230 ns). In a session with one message and all filters there are some 15 of them.
package deadline

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Context is a context.Context that ends with its parent, at its deadline, or by Cancel. It is safe for concurrent use.
type Context struct {
	parent context.Context
	at     time.Duration           // behind epoch: a time.Time takes 16 bytes more
	waits  *atomic.Pointer[string] // nil: nobody wants to know

	mu    sync.Mutex // guards all below
	inner *inner     // nil until somebody has asked for Done
	ended error      // set by Cancel
}

// inner is what package context makes.
type inner struct {
	context.Context
	stop context.CancelFunc
}

var epoch = time.Now()

var _ context.Context = (*Context)(nil)

// New returns a context that ends with parent, and at the given time at the latest. Cancel must be called.
func New(parent context.Context, at time.Time) *Context {
	if t, ok := parent.Deadline(); ok && t.Before(at) {
		at = t
	}
	return &Context{parent: parent, at: at.Sub(epoch)}
}

// Tell has it written down what is waited for with this context. It is called before anybody else has the context.
func (c *Context) Tell(waits *atomic.Pointer[string]) *Context {
	c.waits = waits
	return c
}

// Waits notes what is being waited for; nil: nothing any more.
func (c *Context) Waits(what *string) {
	if c.waits != nil {
		c.waits.Store(what)
	}
}

// Cancel ends the context. It may be called more than once.
func (c *Context) Cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended == nil {
		if c.ended = c.err(); c.ended == nil {
			c.ended = context.Canceled
		}
	}
	if c.inner != nil {
		c.inner.stop()
	}
}

// Parent is what the context was made from: who minds the deadline himself, and knows that nobody else calls Cancel, can
// wait for the parent instead.
func (c *Context) Parent() context.Context { return c.parent }

// Deadline is known always.
func (c *Context) Deadline() (time.Time, bool) { return epoch.Add(c.at), true }

// Err is nil until the context has ended.
func (c *Context) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err()
}

func (c *Context) err() error {
	switch {
	case c.ended != nil:
		return c.ended
	case c.inner != nil:
		return c.inner.Err()
	case c.parent.Err() != nil:
		return c.parent.Err()
	case time.Since(epoch) >= c.at: // asks one clock, and time.Now two
		return context.DeadlineExceeded
	}
	return nil
}

// Done is where the timer starts.
func (c *Context) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner == nil {
		ctx, stop := context.WithDeadline(c.parent, epoch.Add(c.at))
		c.inner = &inner{ctx, stop}
		if c.ended != nil {
			stop()
		}
	}
	return c.inner.Done()
}

// Value asks the parent, through inner once there is one: by that the context package finds what it needs to attach
// further contexts to this one without a goroutine.
func (c *Context) Value(key any) any {
	c.mu.Lock()
	inner := c.inner
	c.mu.Unlock()
	if inner != nil {
		return inner.Value(key)
	}
	return c.parent.Value(key)
}
