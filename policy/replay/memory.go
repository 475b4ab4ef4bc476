package replay

import (
	"context"
	"time"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

// Memory is the store and the clock for an engine that is to be backtested: compile it with them. It is for one
// Backtest.
type Memory struct {
	*filtertest.Store
	clock *clock

	learning bool // calls only tell their keys
	space    string
	keys     []string // of the last attempt
	terms    filters.Terms
}

var _ filters.Store = (*Memory)(nil)

// maxMarks bounds the senders that are remembered; 200 bytes each.
const maxMarks = 500_000

// NewMemory returns an empty memory.
func NewMemory() *Memory {
	c := &clock{}
	return &Memory{Store: filtertest.NewStoreFor(c, maxMarks), clock: c}
}

// Clock follows the recordings.
func (m *Memory) Clock() filters.Clock { return m.clock }

// clock stands where the recording at hand was made.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

// Peek implements filters.Store.
func (m *Memory) Peek(ctx context.Context, space string, keys []string) ([]filters.Mark, error) {
	if m.learning {
		return make([]filters.Mark, len(keys)), nil
	}
	return m.Store.Peek(ctx, space, keys)
}

// Attempt implements filters.Store.
func (m *Memory) Attempt(ctx context.Context, space string, keys []string, t filters.Terms) ([]filters.Mark, error) {
	m.space, m.keys, m.terms = space, append(m.keys[:0], keys...), t
	if m.learning {
		return make([]filters.Mark, len(keys)+len(t.Unless)), nil
	}
	return m.Store.Attempt(ctx, space, keys, t)
}

// at does something at another time.
func (m *Memory) at(t time.Time, do func()) {
	now := m.clock.now
	m.clock.now = t
	do()
	m.clock.now = now
}
