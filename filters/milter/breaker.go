package milter

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"gatepost/filters"
)

// breaker keeps a milter that fails again and again from being asked for a while: every message would wait for it. When
// that time is over one message tries.
type breaker struct {
	name  string
	limit int
	pause time.Duration
	clock filters.Clock
	log   *slog.Logger

	mu     sync.Mutex // guards all below
	row    int        // failures in a row
	until  time.Time  // not asked before
	trying bool       // one message tries
	pauses uint64     // so far
}

// state tells whether the milter is left alone now, and how often that has begun.
func (b *breaker) state() (paused bool, pauses uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.row >= b.limit, b.pauses
}

// ask tells why the milter is not asked now. Whoever hears nil says afterwards how it went.
func (b *breaker) ask() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.row < b.limit {
		return nil
	}
	if b.trying || b.clock.Now().Before(b.until) {
		return fmt.Errorf("not asked after %d failures in a row", b.row)
	}
	b.trying = true
	return nil
}

func (b *breaker) succeeded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.row >= b.limit {
		b.log.Info("the milter answers again", "milter", b.name)
	}
	b.row, b.trying = 0, false
}

func (b *breaker) failed(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.row++
	b.trying = false
	if b.row >= b.limit {
		b.until = b.clock.Now().Add(b.pause)
	}
	if b.row == b.limit {
		b.pauses++
		b.log.Error("the milter fails and is not asked for a while", "milter", b.name, "failures", b.row, "pause", b.pause, "error", err)
	}
}

// gaveUp: the message was not played to its end, which says nothing about the milter.
func (b *breaker) gaveUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
}

func (b *breaker) circuit() filters.Circuit {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := filters.Circuit{Open: b.row >= b.limit, Failures: b.row}
	if c.Open {
		c.Until = b.until
	}
	return c
}

func (b *breaker) adopt(old *breaker) {
	old.mu.Lock()
	row, until, pauses := old.row, old.until, old.pauses
	old.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.row, b.until, b.pauses = row, until, pauses
}
