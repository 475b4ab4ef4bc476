package store

import (
	"context"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"gatepost/filters"
)

const (
	maxTallies        = 65_536 // keys with tallies that wait for the disk; about 200 bytes each
	maxKnownStandings = 4096   // read of late; as many again from before
)

// ledger holds what tallies have changed and the disk does not have yet. Only the store's goroutine writes standings, so
// tallies of one key become one write, and need not read before.
//
//	Tally ──> changes ──(flush)──> taken ──> writing, whole standings, until the batch is on disk ──> known
type ledger struct {
	mu      sync.Mutex // guards the following
	changes map[string]change
	taken   map[string]change           // the disk is read for them
	writing map[string]filters.Standing // zero: removed
	known   map[string]filters.Standing // what the disk has of those read or written of late, absence included
	before  map[string]filters.Standing // known once
	batches uint64                      // how often what is on disk may have changed

	entries atomic.Int64 // on disk
	untold  atomic.Int64
}

// change is what has happened to a standing.
type change struct {
	anew bool // what there was before does not count
	more filters.Standing
}

func (c change) applied(s filters.Standing) filters.Standing {
	if c.anew {
		return c.more
	}
	return s.Add(c.more)
}

// get returns the standing as it is, if that can be told without the disk. mu is held.
func (l *ledger) get(record string) (s filters.Standing, ok bool) {
	if s, ok = l.writing[record]; !ok {
		s, ok = l.known[record]
	}
	if !ok {
		s, ok = l.before[record]
	}
	for _, changes := range [...]map[string]change{l.taken, l.changes} {
		if c, changed := changes[record]; changed {
			s, ok = c.applied(s), ok || c.anew
		}
	}
	return s, ok
}

// keep notes what the disk has. mu is held.
func (l *ledger) keep(record string, s filters.Standing) {
	if len(l.known) >= maxKnownStandings {
		l.known, l.before = nil, l.known
	}
	if l.known == nil {
		l.known = make(map[string]filters.Standing)
	}
	l.known[record] = s
	delete(l.before, record)
}

// note adds a change; false: there is no room. mu is held.
func (l *ledger) note(record string, c change) bool {
	earlier, changed := l.changes[record]
	if !changed && len(l.changes) >= maxTallies {
		l.untold.Add(1)
		return false
	}
	if l.changes == nil {
		l.changes = make(map[string]change)
	}
	if !c.anew {
		c = change{earlier.anew, earlier.more.Add(c.more)}
	}
	l.changes[record] = c
	return true
}

func (l *ledger) isDirty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.changes) > 0
}

// settle forgets what is on disk now.
func (l *ledger) settle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for record, s := range l.writing {
		l.keep(record, s)
	}
	l.writing = nil
	l.batches++
}

// forgetDisk notes that the disk is a fresh one without records.
func (l *ledger) forgetDisk() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known, l.before = nil, nil
	l.batches++
}

// writeStandings puts what has changed into a batch, and commits it where it grows too large.
func (s *Store) writeStandings(batch *pebble.Batch, marks int64) {
	l := &s.ledger
	l.mu.Lock()
	l.taken, l.changes = l.changes, nil
	taken := l.taken
	l.mu.Unlock()
	writing, now := make(map[string]filters.Standing, len(taken)), s.now()
	entries, bound := l.entries.Load(), int64(s.bounds.Load().MaxStandings)
	bound += bound / 10
	var value []byte
	for record, c := range taken {
		old, onDisk := s.disk.readStanding(record)
		after := c.applied(old).Live(now)
		switch {
		case !after.Exists() && onDisk:
			_ = batch.Delete([]byte(record), nil)
			entries--
		case !after.Exists():
		case !onDisk && entries >= bound:
			l.untold.Add(1)
			after = filters.Standing{}
		default:
			value = AppendStanding(append(value[:0], standingVersion), after)
			_ = batch.Set([]byte(record), value, nil)
			after, _ = ParseStanding(value[1:]) // as rounded
			if !onDisk {
				entries++
			}
		}
		writing[record] = after
		if batch.Count() >= batchRecords {
			s.commit(batch, marks)
			batch.Reset()
		}
	}
	l.entries.Store(entries)
	l.mu.Lock()
	l.taken, l.writing = nil, writing
	l.batches++
	l.mu.Unlock()
}

// readStanding returns the standing under record; exists tells that there is a record, even one of no use.
func (d *disk) readStanding(record string) (s filters.Standing, exists bool) {
	value, closer, err := d.db.Get([]byte(record))
	if err != nil {
		if err != pebble.ErrNotFound {
			d.cannotRead(err)
		}
		return filters.Standing{}, false
	}
	s, _ = parseStoredStanding(value)
	_ = closer.Close()
	return s, true
}

func standingRecord(key string) string { return standingPrefix + Shorten(key) }

// Tally implements [filters.Ledger].
func (s *Store) Tally(key string, n filters.Counts, halfLife time.Duration) {
	s.Add(key, filters.NewStanding(s.clock.Now(), n, halfLife))
}

// Add adds a part of a history, made with [filters.NewStanding], to what is known under a key. It does not wait.
func (s *Store) Add(key string, more filters.Standing) {
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	s.ledger.note(standingRecord(key), change{more: more})
}

// Standings implements [filters.Ledger].
func (s *Store) Standings(ctx context.Context, keys []string) ([]filters.Standing, error) {
	found, now := make([]filters.Standing, len(keys)), s.now()
	if s.standingsAtHand(keys, found, now) {
		return found, s.counts.called(Peek, nil)
	}
	if a := filters.AttemptOf(ctx); a != nil {
		a.Miss()
		return nil, filters.ErrNotAtHand
	}
	found, err := within(ctx, s, func() ([]filters.Standing, error) {
		read := make([]filters.Standing, len(keys))
		for i, key := range keys {
			s.withStanding(standingRecord(key), func(standing filters.Standing) { read[i] = standing.Live(now) })
		}
		return read, nil
	})
	return found, s.counts.called(Peek, err)
}

func (s *Store) standingsAtHand(keys []string, found []filters.Standing, now time.Time) bool {
	l := &s.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, key := range keys {
		standing, ok := l.get(standingRecord(key))
		if !ok {
			return false
		}
		found[i] = standing.Live(now)
	}
	return true
}

// withStanding calls do with what is known under a record. The ledger is locked then. It is called within a decision.
func (s *Store) withStanding(record string, do func(filters.Standing)) {
	l := &s.ledger
	for {
		l.mu.Lock()
		standing, ok := l.get(record)
		if ok || s.disk == nil {
			do(standing)
			l.mu.Unlock()
			return
		}
		batches := l.batches
		l.mu.Unlock()
		onDisk, _ := s.disk.readStanding(record)
		l.mu.Lock()
		if batches == l.batches { // else it may have been written meanwhile
			l.keep(record, onDisk)
		}
		l.mu.Unlock()
	}
}

// ForgetStandings implements [filters.Ledger].
func (s *Store) ForgetStandings(ctx context.Context, keys []string) (int, error) {
	now := s.now()
	n, err := within(ctx, s, func() (removed int, err error) {
		for _, key := range keys {
			record := standingRecord(key)
			s.withStanding(record, func(standing filters.Standing) {
				if !standing.Live(now).Exists() {
					return
				}
				if !s.ledger.note(record, change{anew: true}) {
					err = ErrFull
					return
				}
				removed++
			})
		}
		return removed, err
	})
	return n, s.counts.called(Forget, err)
}

// MergeStandings joins standings of another memory, one per key, to those that are here (see [filters.Standing.Merge]).
func (s *Store) MergeStandings(ctx context.Context, keys []string, theirs []filters.Standing) error {
	now := s.now()
	_, err := within(ctx, s, func() (none struct{}, err error) {
		for i, key := range keys {
			record := standingPrefix + StoredKey(key)
			s.withStanding(record, func(standing filters.Standing) {
				merged := standing.Live(now).Merge(theirs[i].Live(now))
				if merged != standing && merged.Exists() && !s.ledger.note(record, change{true, merged}) {
					err = ErrFull
				}
			})
		}
		return none, err
	})
	return s.counts.called(Merge, err)
}

// RangeStandings implements [filters.Ledger]. What changes meanwhile may be missed or come as it was.
func (s *Store) RangeStandings(ctx context.Context, prefix string, yield func(key string, s filters.Standing) bool) error {
	now := s.now()
	l := &s.ledger
	inMemory := map[string]filters.Standing{}
	l.mu.Lock()
	for record := range l.writing {
		inMemory[record], _ = l.get(record)
	}
	changed := make(map[string]struct{})
	for _, changes := range [...]map[string]change{l.taken, l.changes} {
		for record := range changes {
			changed[record] = struct{}{}
		}
	}
	l.mu.Unlock()
	_, err := within(ctx, s, func() (struct{}, error) {
		for record := range changed {
			s.withStanding(record, func(standing filters.Standing) { inMemory[record] = standing })
		}
		return struct{}{}, nil
	})
	if err != nil {
		return s.counts.called(Range, err)
	}
	start := []byte(standingPrefix + prefix)
	end := successor(start)
	for record, standing := range inMemory {
		if standing = standing.Live(now); standing.Exists() && strings.HasPrefix(record, string(start)) && !yield(record[len(standingPrefix):], standing) {
			return s.counts.called(Range, nil)
		}
	}
	for start != nil {
		found := map[string]filters.Standing{}
		if start, err = within(ctx, s, func() ([]byte, error) {
			if s.disk == nil {
				return nil, nil
			}
			return s.disk.walk(start, end, 512, func(record, value []byte) {
				if standing, ok := parseStoredStanding(value); ok {
					found[string(record)] = standing.Live(now)
				}
			}), nil
		}); err != nil {
			return s.counts.called(Range, err)
		}
		maps.DeleteFunc(found, func(record string, standing filters.Standing) bool {
			_, newer := inMemory[record]
			return newer || !standing.Exists()
		})
		for record, standing := range found {
			if !yield(record[len(standingPrefix):], standing) {
				return s.counts.called(Range, nil)
			}
		}
	}
	return s.counts.called(Range, nil)
}

func (s *Store) standingsSweeper() *sweeper {
	return &sweeper{store: s, sweepable: sweepable{
		entries: &s.ledger.entries, bound: func() int64 { return int64(s.bounds.Load().MaxStandings) },
		first: []byte(standingPrefix), end: successor([]byte(standingPrefix)), unit: 12 * time.Hour,
		expires: func(value []byte) (time.Time, bool) {
			standing, ok := parseStoredStanding(value)
			return standing.Expires(), ok
		},
		remove: s.ledger.sweepAway,
	}}
}

// sweepAway removes a standing that nothing has changed since.
func (l *ledger) sweepAway(record string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, changed := l.changes[record]; changed {
		return false
	}
	return l.note(record, change{anew: true})
}
