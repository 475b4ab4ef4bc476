package store

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"gatepost/filters"
)

// shardCount is the width of a shardSet.
const shardCount = 64

// shards hold the marks that differ from the disk: dirty ones, and those of the batch that is being written.
type shards struct {
	all     [shardCount]shard
	pending atomic.Int64 // entries in all maps
}

type shard struct {
	mu       sync.Mutex // guards dirty, flushing, known
	dirty    map[string]entry
	flushing map[string]entry // only read between takeDirty and settle
	known    known            // of what is in neither
}

// entry is a mark, or its removal, that the disk does not have yet.
type entry struct {
	mark    filters.Mark
	deleted bool
	onDisk  bool // the disk has a record under this key; keeps the number of marks exact
}

// shardSet names the shards of one decision's keys.
type shardSet uint64

func (set shardSet) with(record string) shardSet { return set | 1<<shardOf(record) }

// lock locks the shards of set in ascending order, so that two decisions never wait for each other.
func (s *shards) lock(set shardSet) {
	for ; set != 0; set &= set - 1 {
		s.all[bits.TrailingZeros64(uint64(set))].mu.Lock()
	}
}

func (s *shards) unlock(set shardSet) {
	for ; set != 0; set &= set - 1 {
		s.all[bits.TrailingZeros64(uint64(set))].mu.Unlock()
	}
}

// get returns what memory knows. The record's shard must be locked.
func (s *shards) get(record string) (entry, bool) {
	sh := &s.all[shardOf(record)]
	if e, ok := sh.dirty[record]; ok {
		return e, true
	}
	e, ok := sh.flushing[record]
	if ok {
		e.onDisk = !e.deleted // as it will be when this dirty entry's turn comes
	}
	return e, ok
}

// isDirty tells whether put would need no more memory. The record's shard must be locked.
func (s *shards) isDirty(record string) bool {
	_, dirty := s.all[shardOf(record)].dirty[record]
	return dirty
}

// put makes e the newest truth. The record's shard must be locked.
func (s *shards) put(record string, e entry) {
	sh := &s.all[shardOf(record)]
	if _, known := sh.dirty[record]; !known {
		s.pending.Add(1)
		if sh.dirty == nil {
			sh.dirty = make(map[string]entry)
		}
	}
	sh.dirty[record] = e
	sh.known.forget(record)
}

// takeDirty moves all dirty entries into flushing and calls each for them, shard by shard.
func (s *shards) takeDirty(each func(record string, e entry)) {
	for i := range s.all {
		sh := &s.all[i]
		sh.mu.Lock()
		sh.dirty, sh.flushing = nil, sh.dirty
		batch := sh.flushing
		sh.mu.Unlock()
		for record, e := range batch {
			each(record, e)
		}
	}
}

// settle forgets the entries in flushing: they are on disk.
func (s *shards) settle() {
	for i := range s.all {
		sh := &s.all[i]
		sh.mu.Lock()
		s.pending.Add(-int64(len(sh.flushing)))
		sh.flushing = nil
		sh.mu.Unlock()
	}
}

// forgetDisk notes that the disk is a fresh one without records. Nothing may be in flushing.
func (s *shards) forgetDisk() {
	for i := range s.all {
		sh := &s.all[i]
		sh.mu.Lock()
		for record, e := range sh.dirty {
			e.onDisk = false
			sh.dirty[record] = e
		}
		sh.known = known{}
		sh.mu.Unlock()
	}
}

// meet joins what was decided without the disk to what the disk has: it is older and may know more.
func (s *shards) meet(d *disk, now time.Time) {
	for i := range s.all {
		sh := &s.all[i]
		sh.mu.Lock()
		for record, e := range sh.dirty {
			m, onDisk := d.read(record)
			if e.onDisk = onDisk; !e.deleted {
				e.mark = MergeMarks(e.mark, live(m, now))
			}
			sh.dirty[record] = e
		}
		sh.known = known{}
		sh.mu.Unlock()
	}
}

// copyRange copies the entries whose record key is not before start and before end (empty: no end).
func (s *shards) copyRange(start, end string) map[string]entry {
	isIn := func(record string) bool { return record >= start && (end == "" || record < end) }
	found := make(map[string]entry)
	for i := range s.all {
		sh := &s.all[i]
		sh.mu.Lock()
		for record, e := range sh.flushing {
			if isIn(record) {
				found[record] = e
			}
		}
		for record, e := range sh.dirty {
			if isIn(record) {
				found[record] = e
			}
		}
		sh.mu.Unlock()
	}
	return found
}
