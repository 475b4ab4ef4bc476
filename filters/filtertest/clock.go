package filtertest

import (
	"sync"
	"time"
)

// Clock is a [filters.Clock] that stands still until it is moved. It is safe for concurrent use.
type Clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

// Start is the time at which a clock of [NewClock] stands: a round number, so that tests read well.
var Start = time.Date(2026, time.January, 5, 12, 0, 0, 0, time.UTC)

// NewClock returns a clock that stands at [Start].
func NewClock() *Clock { return &Clock{now: Start} }

// NewClockAt returns a clock that stands at t.
func NewClockAt(t time.Time) *Clock { return &Clock{now: t} }

// Now returns where the clock stands.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock by d.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Set moves the clock to t.
func (c *Clock) Set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}
