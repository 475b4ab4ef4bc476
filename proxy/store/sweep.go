package store

import (
	"sync/atomic"
	"time"
)

const (
	sweepPeriod  = time.Hour // one round over all marks, while there is room
	minSweep     = 16        // marks a step
	maxSweep     = 4096
	pressedSweep = 32768 // above the bound
)

// firstMark sorts before every mark and behind what is not a mark.
var firstMark = []byte{1}

// sweeper walks over all records of a kind in small steps, round after round, and removes those that have expired. It
// counts how long the others have left; above the bound it so knows below which rest of life enough of them are. It
// belongs to the store's goroutine: no batch is written while it looks, so what it sees on disk is true unless memory
// knows better.
type sweeper struct {
	sweepable
	store     *Store
	cursor    []byte // nil at the start of a round
	cutoff    time.Time
	lifetimes lifetimes // of the round under way
	last      lifetimes // of the last complete one
}

// sweepable is a kind of records.
type sweepable struct {
	entries    *atomic.Int64
	bound      func() int64
	first, end []byte
	unit       time.Duration // in which lifetimes are counted
	expires    func(value []byte) (t time.Time, ok bool)
	remove     func(record string) bool // false: memory has a newer one
}

func (s *Store) marksSweeper() *sweeper {
	return &sweeper{store: s, sweepable: sweepable{
		entries: &s.entries, bound: func() int64 { return int64(s.bounds.Load().MaxEntries) }, first: firstMark, unit: time.Hour,
		expires: func(value []byte) (time.Time, bool) {
			m, ok := parseMark(value)
			return m.Expires, ok
		},
		remove: s.sweepAway,
	}}
}

// step does the share of a round that falls into interval.
func (w *sweeper) step(interval time.Duration) {
	s := w.store
	entries := w.entries.Load()
	if s.disk == nil || entries == 0 || s.marks.pending.Load() > int64(s.bounds.Load().MaxPending)/2 {
		return
	}
	limit := min(max(int(entries*int64(interval)/int64(sweepPeriod)), minSweep), maxSweep)
	if entries > w.bound() {
		limit = pressedSweep
	}
	now := s.now()
	if w.cursor == nil {
		w.start(now, entries)
	}
	type victim struct {
		record  string
		evicted bool
	}
	var victims []victim
	excess := w.excess(entries)
	next := s.disk.walk(w.cursor, w.end, limit, func(record, value []byte) {
		expires, ok := w.expires(value)
		switch {
		case !ok && len(value) > 0 && value[0] > max(markVersion, standingVersion): // a later release's, and for that to sweep
		case !ok || !expires.After(now):
			victims = append(victims, victim{record: string(record)})
		case excess > 0 && expires.Before(w.cutoff):
			victims = append(victims, victim{string(record), true})
			excess--
		default:
			w.lifetimes[min(int(expires.Sub(now)/w.unit), len(w.lifetimes)-1)]++
		}
	})
	for _, v := range victims {
		if !w.remove(v.record) {
			continue
		}
		if v.evicted {
			s.counts.evicted.Add(1)
		} else {
			s.counts.expired.Add(1)
		}
	}
	w.cursor = next
	if next == nil {
		w.last, w.lifetimes = w.lifetimes, lifetimes{}
	}
}

// start begins a round.
func (w *sweeper) start(now time.Time, entries int64) {
	w.cursor, w.cutoff = w.first, time.Time{}
	if excess := w.excess(entries); excess > 0 {
		w.cutoff = now.Add(time.Duration(w.last.shortest(excess)) * w.unit)
	}
}

// excess is how many have to go: a little more than are too many, so that there is some peace.
func (w *sweeper) excess(entries int64) int64 {
	if entries <= w.bound() && w.cutoff.IsZero() {
		return 0
	}
	return entries - (w.bound() - w.bound()/20)
}

// sweepAway removes a mark from the disk, unless memory has a newer one.
func (s *Store) sweepAway(record string) bool {
	set := shardSet(0).with(record)
	s.marks.lock(set)
	defer s.marks.unlock(set)
	if _, newer := s.marks.get(record); newer {
		return false
	}
	s.marks.put(record, entry{deleted: true, onDisk: true})
	return true
}

// lifetimes counts records by the units of time that they have left; the last one stands for all above.
type lifetimes [1024]int64

// shortest is the rest of life, in units, below which there are at least n records.
func (l *lifetimes) shortest(n int64) int {
	for units, count := range l {
		if n -= count; n <= 0 {
			return units + 1
		}
	}
	return 0 // not counted yet: this round counts
}
