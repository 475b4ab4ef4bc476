package store

import "time"

const (
	sweepPeriod  = time.Hour // one round over all marks, while there is room
	minSweep     = 16        // marks a step
	maxSweep     = 4096
	pressedSweep = 32768 // above the bound
)

// firstMark sorts before every mark and behind what is not a mark.
var firstMark = []byte{1}

// sweeper walks over all marks in small steps, round after round, and removes those that have expired. It counts how
// long the others have left; above the bound it so knows below which rest of life enough of them are. It belongs to
// the store's goroutine: no batch is written while it looks, so what it sees on disk is true unless memory knows better.
type sweeper struct {
	store     *Store
	cursor    []byte // nil at the start of a round
	cutoff    time.Time
	lifetimes lifetimes // of the round under way
	last      lifetimes // of the last complete one
}

// step does the share of a round that falls into interval.
func (w *sweeper) step(interval time.Duration) {
	s := w.store
	entries := s.entries.Load()
	if s.disk == nil || entries == 0 || s.marks.pending.Load() > int64(s.config.MaxPending)/2 {
		return
	}
	limit := min(max(int(entries*int64(interval)/int64(sweepPeriod)), minSweep), maxSweep)
	if entries > int64(s.config.MaxEntries) {
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
	next := s.disk.walk(w.cursor, nil, limit, func(record, value []byte) {
		m, ok := parseMark(value)
		switch {
		case !ok || !m.Expires.After(now):
			victims = append(victims, victim{record: string(record)})
		case excess > 0 && m.Expires.Before(w.cutoff):
			victims = append(victims, victim{string(record), true})
			excess--
		default:
			w.lifetimes.add(m.Expires.Sub(now))
		}
	})
	for _, v := range victims {
		if !s.sweepAway(v.record) {
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
	w.cursor, w.cutoff = firstMark, time.Time{}
	if excess := w.excess(entries); excess > 0 {
		w.cutoff = now.Add(w.last.shortest(excess))
	}
}

// excess is how many marks have to go: a little more than are too many, so that there is some peace.
func (w *sweeper) excess(entries int64) int64 {
	bound := int64(w.store.config.MaxEntries)
	if entries <= bound && w.cutoff.IsZero() {
		return 0
	}
	return entries - (bound - bound/20)
}

// sweepAway removes a record from the disk, unless memory has a newer one.
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

// lifetimes counts marks by the hours they have left; the last hour stands for all above.
type lifetimes [1024]int64

func (l *lifetimes) add(left time.Duration) {
	l[min(int(left/time.Hour), len(l)-1)]++
}

// shortest is the rest of life below which there are at least n marks.
func (l *lifetimes) shortest(n int64) time.Duration {
	for hour, count := range l {
		if n -= count; n <= 0 {
			return time.Duration(hour+1) * time.Hour
		}
	}
	return 0 // not counted yet: this round counts
}
