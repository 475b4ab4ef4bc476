package store

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"gatepost/filters"
	"gatepost/policy/grow"
)

// decision is one atomic look at some marks, and perhaps a change of them. Their shards are locked while it lasts.
type decision struct {
	store   *Store
	now     time.Time
	records []string
	onDisk  []bool
	marks   []filters.Mark // without those that have expired
}

// decide locks the keys, reads their marks and lets f decide.
func decide[T any](ctx context.Context, s *Store, space string, keys []string, f func(d *decision) (T, error)) (T, error) {
	return decideRecords(ctx, s, space, recordKeys(space, keys, Shorten), f)
}

func decideRecords[T any](ctx context.Context, s *Store, space string, records []string, f func(d *decision) (T, error)) (T, error) {
	if err := CheckSpace(space); err != nil {
		return *new(T), err
	}
	d := &decision{store: s, records: records, onDisk: make([]bool, len(records)), marks: make([]filters.Mark, len(records))}
	var set shardSet
	for _, record := range records {
		set = set.with(record)
	}
	if s.takeAtHand(d, set) {
		defer s.mu.RUnlock()
		defer s.marks.unlock(set)
		return f(d)
	}
	return within(ctx, s, func() (T, error) {
		s.marks.lock(set)
		defer s.marks.unlock(set)
		d.now = s.now()
		for i, record := range d.records {
			d.marks[i], d.onDisk[i] = s.lookup(record, d.now)
		}
		return f(d)
	})
}

// within runs f beside the caller, who leaves when ctx ends: a read of a failing disk may hang for minutes.
func within[T any](ctx context.Context, s *Store, f func() (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return *new(T), fmt.Errorf("store: too many decisions wait for the disk: %w", ctx.Err())
	}
	result := make(chan outcome, 1)
	go func() {
		grow.Stack() // a read from the disk went through two more sizes of it
		defer func() { <-s.slots }()
		var o outcome
		defer func() { result <- o }()
		s.mu.RLock()
		defer s.mu.RUnlock()
		defer func() {
			// Pebble panics on some inconsistent files.
			if r := recover(); r != nil {
				o = outcome{err: fmt.Errorf("store: %v", r)}
				s.log.Error("store: a decision panicked", "panic", r, "stack", string(debug.Stack()))
				if s.disk != nil {
					s.disk.broken.Store(true)
				}
			}
		}()
		if s.closed {
			o.err = ErrClosed
			return
		}
		o.value, o.err = f()
	}()
	select {
	case o := <-result:
		return o.value, o.err
	case <-ctx.Done():
		return *new(T), fmt.Errorf("store: the disk does not answer: %w", ctx.Err())
	}
}

// lookup returns the live mark of a record, and whether the disk has, or will have, the record.
func (s *Store) lookup(record string, now time.Time) (m filters.Mark, onDisk bool) {
	if e, ok := s.marks.get(record); ok {
		if e.deleted {
			return filters.Mark{}, e.onDisk
		}
		return live(e.mark, now), e.onDisk
	}
	if s.disk == nil {
		return filters.Mark{}, false
	}
	m, onDisk = s.disk.read(record)
	if m.Exists() == onDisk && !s.disk.broken.Load() { // what cannot be read is read again
		s.marks.all[shardOf(record)].known.keep(record, m)
	}
	return live(m, now), onDisk
}

// first leaves the decision its first n records: the others were only read.
func (d *decision) first(n int) {
	d.records, d.onDisk, d.marks = d.records[:n], d.onDisk[:n], d.marks[:n]
}

// remember keeps the changed marks, all of them or none.
func (d *decision) remember() error {
	fresh := 0
	for i, record := range d.records {
		if !d.onDisk[i] && !d.store.marks.isDirty(record) {
			fresh++
		}
	}
	if !d.store.hasRoom(d.records, fresh) {
		d.store.counts.refused.Add(1)
		return ErrFull
	}
	for i, record := range d.records {
		d.store.marks.put(record, entry{mark: d.marks[i], onDisk: d.onDisk[i]})
	}
	return nil
}

// forget removes the marks and counts them.
func (d *decision) forget() (removed int, err error) {
	if !d.store.hasRoom(d.records, 0) {
		return 0, ErrFull
	}
	for i, record := range d.records {
		if !d.marks[i].Exists() {
			continue
		}
		removed++
		d.marks[i] = filters.Mark{}
		d.store.marks.put(record, entry{deleted: true, onDisk: d.onDisk[i]})
	}
	return removed, nil
}

// hasRoom tells whether memory can take the records, of which fresh are new to the store.
func (s *Store) hasRoom(records []string, fresh int) bool {
	waiting := int64(0)
	for _, record := range records {
		if !s.marks.isDirty(record) {
			waiting++
		}
	}
	pending := s.marks.pending.Load()
	if waiting > 0 && pending+waiting > int64(s.bounds.Load().MaxPending) {
		return false
	}
	bound := int64(s.bounds.Load().MaxEntries)
	bound += bound / 10
	return fresh == 0 || s.entries.Load()+pending+int64(fresh) <= bound
}
