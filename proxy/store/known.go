package store

import (
	"math/bits"

	"gatepost/filters"
)

// maxKnown is how many records of a shard are known lately; as many again are known from before. All together take 2 MB, 5
// with the longest keys.
const maxKnown = 64

// known is what was read from the disk of late, absence included, so that who comes again need not wait for a goroutine
// that reads. Its owner's lock guards it. What changes is forgotten: it is dirty then, and read again when it is clean.
type known struct {
	late, before map[string]filters.Mark
}

func (k *known) get(record string) (filters.Mark, bool) {
	if m, ok := k.late[record]; ok {
		return m, true
	}
	m, ok := k.before[record]
	return m, ok
}

func (k *known) keep(record string, m filters.Mark) {
	if len(k.late) >= maxKnown {
		k.late, k.before = nil, k.late
	}
	if k.late == nil {
		k.late = make(map[string]filters.Mark)
	}
	k.late[record] = m
}

func (k *known) forget(record string) {
	delete(k.late, record)
	delete(k.before, record)
}

// NeverWaitsInAttempt implements [filters.Ready].
func (s *Store) NeverWaitsInAttempt() {}

// peekAtHand is Peek for an attempt: false where it would have to wait.
func (s *Store) peekAtHand(space string, keys []string) ([]filters.Mark, bool) {
	records := make([]string, len(keys))
	var set shardSet
	for i, key := range keys {
		records[i] = recordKey(space, key)
		set = set.with(records[i])
	}
	d := decision{store: s, records: records, onDisk: make([]bool, len(keys)), marks: make([]filters.Mark, len(keys))}
	if !s.takeAtHand(&d, set) {
		return nil, false
	}
	s.marks.unlock(set)
	s.mu.RUnlock()
	return d.marks, true
}

// takeAtHand begins a decision without waiting, be it for a lock whose owner reads from a failing disk: nobody who comes
// from a session needs a goroutine for that, a channel and two hand-overs (20 allocations instead of 25 for a stranger who
// is greylisted). True: s.mu is locked to read,
// and so are the shards of set; the caller gives both back.
func (s *Store) takeAtHand(d *decision, set shardSet) bool {
	if !s.mu.TryRLock() {
		return false
	}
	if !s.closed && s.marks.tryLock(set) {
		if s.readAtHand(d) {
			return true
		}
		s.marks.unlock(set)
	}
	s.mu.RUnlock()
	return false
}

// readAtHand reads the marks of a decision; false: one of them is on the disk alone.
func (s *Store) readAtHand(d *decision) bool {
	d.now = s.now()
	for i, record := range d.records {
		if e, ok := s.marks.get(record); ok {
			d.marks[i], d.onDisk[i] = filters.Mark{}, e.onDisk
			if !e.deleted {
				d.marks[i] = live(e.mark, d.now)
			}
			continue
		}
		m, ok := s.marks.all[shardOf(record)].known.get(record)
		if !ok {
			return false
		}
		d.marks[i], d.onDisk[i] = live(m, d.now), m.Exists()
	}
	return true
}

// tryLock is lock where that needs no waiting.
func (s *shards) tryLock(set shardSet) bool {
	for rest := set; rest != 0; rest &= rest - 1 {
		if !s.all[bits.TrailingZeros64(uint64(rest))].mu.TryLock() {
			s.unlock(set &^ rest)
			return false
		}
	}
	return true
}
