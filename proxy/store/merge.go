package store

import (
	"context"
	"strings"

	"gatepost/filters"
)

// MergeMarks is what two memories of one key know together: the earliest first attempt, the latest use, pass and expiry,
// the most attempts. It is commutative, associative and idempotent, so memories can be merged in any order, and again.
func MergeMarks(a, b filters.Mark) filters.Mark {
	switch {
	case !a.Exists():
		return b
	case !b.Exists():
		return a
	}
	if b.First.Before(a.First) {
		a.First = b.First
	}
	if b.Last.After(a.Last) {
		a.Last = b.Last
	}
	if b.Passed.After(a.Passed) {
		a.Passed = b.Passed
	}
	if b.Expires.After(a.Expires) {
		a.Expires = b.Expires
	}
	a.Attempts = max(a.Attempts, b.Attempts)
	return a
}

// Merge joins marks of another memory, one per key, to those that are here (see [MergeMarks]). Keys are as Range and Each
// of that memory give them.
func (s *Store) Merge(ctx context.Context, space string, keys []string, marks []filters.Mark) error {
	_, err := decideRecords(ctx, s, space, recordKeys(space, keys, StoredKey), func(d *decision) (struct{}, error) {
		changed := false
		for i := range d.marks {
			if merged := MergeMarks(d.marks[i], live(truncated(marks[i]), d.now)); merged != d.marks[i] {
				d.marks[i], changed = merged, true
			}
		}
		if !changed {
			return struct{}{}, nil
		}
		d.dropEmpty()
		return struct{}{}, d.remember()
	})
	return s.counts.called(Merge, err)
}

// dropEmpty leaves out keys without a mark: there is nothing to remember of them.
func (d *decision) dropEmpty() {
	kept := 0
	for i := range d.marks {
		if d.marks[i].Exists() {
			d.records[kept], d.onDisk[kept], d.marks[kept] = d.records[i], d.onDisk[i], d.marks[i]
			kept++
		}
	}
	d.first(kept)
}

// truncated is m in the resolution of marks.
func truncated(m filters.Mark) filters.Mark {
	if m.Exists() {
		m.First, m.Last, m.Expires = m.First.Truncate(resolution).UTC(), m.Last.Truncate(resolution).UTC(), m.Expires.Truncate(resolution).UTC()
		if !m.Passed.IsZero() {
			m.Passed = m.Passed.Truncate(resolution).UTC()
		}
	}
	return m
}

// Each calls yield for every mark of every space, until it returns false. As with Range, marks that change meanwhile may
// be missed or come as they were.
func (s *Store) Each(ctx context.Context, yield func(space, key string, m filters.Mark) bool) error {
	return s.counts.called(Range, s.scan(ctx, firstMark, nil, func(record string, m filters.Mark) bool {
		space, key, _ := strings.Cut(record, "\x00")
		return yield(space, key, m)
	}))
}
