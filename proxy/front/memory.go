package front

import (
	"sync/atomic"

	"gatepost/filters"
)

// Memory is what all messages on their way keep in memory together (limits.memory). It is safe for concurrent use.
type Memory struct{ used atomic.Int64 }

// Used is how many bytes are claimed now.
func (m *Memory) Used() int64 { return m.used.Load() }

// firstClaim is what a message may keep in memory before more is claimed for it: most never need more.
const firstClaim = 64 << 10

// Claim is one message's part of a Memory. It belongs to the message's writer. The zero Claim holds nothing.
type Claim struct {
	memory *Memory
	total  int64 // limits.memory
	limit  int64 // limits.message_memory
	held   int64
	spills bool
}

// Claim begins a message that may keep up to limit bytes in memory, as long as all of them keep no more than total.
func (m *Memory) Claim(limit, total int64) Claim {
	c := Claim{memory: m, limit: limit, total: total}
	c.take(min(firstClaim, limit))
	return c
}

// Held is how many bytes the message may keep in memory now.
func (c *Claim) Held() int64 { return c.held }

// Spills tells that what follows goes to a file: once some of the message does, the rest does too.
func (c *Claim) Spills() bool { return c.spills }

// take claims n more bytes: none if messages have taken all there is.
func (c *Claim) take(n int64) bool {
	if c.memory.used.Add(n) > c.total {
		c.memory.used.Add(-n)
		return false
	}
	c.held += n
	return true
}

// Widen lets a message that has grown to size and used up its memory have as much again, within its limit.
func (c *Claim) Widen(m *filters.Message, size int64) {
	if c.spills || size < c.held {
		return
	}
	more := min(c.held, c.limit-c.held)
	if c.spills = more <= 0 || !c.take(more); !c.spills {
		m.Allow(c.held)
	}
}

// Release gives everything back.
func (c *Claim) Release() {
	if c.memory != nil {
		c.memory.used.Add(-c.held)
	}
	*c = Claim{}
}
