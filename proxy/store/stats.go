package store

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Stats tell how the store is.
type Stats struct {
	Entries   int64 // marks on disk, expired ones that are not swept yet included
	Bytes     int64 // on disk
	Pending   int64 // changed marks that are not on disk yet
	Refused   int64 // decisions that found no room, since the start
	Expired   int64 // marks swept away after their time, since the start
	Evicted   int64 // marks swept away before their time, to keep the bound, since the start
	Dropped   int64 // marks lost on the way to disk, since the start
	Standings int64 // on disk, those that are not swept yet included
	SetAside  int64 // folders that could not be read and were set aside, since the start
	Untold    int64 // tallies for which there was no room, since the start

	Failing error // why the disk does not take marks; nil if it does
	Closed  bool  // Close was called

	Operations [operations]OperationStats // by operation, since the start
}

// Operation is a method of [filters.Store], or a merge with another memory.
type Operation uint8

const (
	Peek Operation = iota
	Attempt
	Pass
	Forget
	Range
	Merge
	operations
)

// String is the operation's name in metrics.
func (o Operation) String() string {
	return [...]string{Peek: "peek", Attempt: "attempt", Pass: "pass", Forget: "forget", Range: "range", Merge: "merge"}[o]
}

// OperationStats counts calls of an operation, and those that failed.
type OperationStats struct{ Calls, Errors int64 }

type counts struct {
	refused, expired, evicted, dropped, setAside atomic.Int64

	operations [operations]struct{ calls, errors atomic.Int64 }
}

// called counts a call. It passes err on.
func (c *counts) called(o Operation, err error) error {
	c.operations[o].calls.Add(1)
	if err != nil {
		c.operations[o].errors.Add(1)
	}
	return err
}

// Stats returns how the store is now. Bytes is 0 after Close.
func (s *Store) Stats() Stats {
	st := Stats{
		Entries: s.entries.Load(),
		Pending: s.marks.pending.Load(),
		Refused: s.counts.refused.Load(),
		Expired: s.counts.expired.Load(),
		Evicted: s.counts.evicted.Load(),
		Dropped: s.counts.dropped.Load(),
		Failing: s.trouble.now(),

		SetAside: s.counts.setAside.Load(),

		Standings: s.ledger.entries.Load(),
		Untold:    s.ledger.untold.Load(),
	}
	for o := range st.Operations {
		n := &s.counts.operations[o]
		st.Operations[o] = OperationStats{n.calls.Load(), n.errors.Load()}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	st.Closed = s.closed
	if s.disk != nil && !s.closed {
		st.Bytes = int64(s.disk.db.Metrics().DiskSpaceUsage())
	}
	return st
}

// trouble logs errors of the disk, once a minute.
type trouble struct {
	log *slog.Logger

	mu     sync.Mutex // guards err, logged
	err    error
	logged time.Time
}

func (t *trouble) note(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = err
	if time.Since(t.logged) >= time.Minute {
		t.logged = time.Now()
		t.log.Error("store: the disk does not take marks; going on from memory and trying again", "error", err)
	}
}

// over is called when the disk has taken marks.
func (t *trouble) over() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		t.err, t.logged = nil, time.Time{}
		t.log.Info("store: the disk takes marks again")
	}
}

func (t *trouble) now() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}
