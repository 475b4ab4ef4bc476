package store

import (
	"encoding/binary"
	"math"
	"slices"
	"time"

	"gatepost/filters"
)

// markVersion begins every value on disk. A value with another one, or of another form, is as if it were not there; what
// a later release has added behind a mark is passed over, and gone when the mark changes.
const markVersion = 1

// Marks are kept to the millisecond, in memory as on disk, so that a mark does not change by being written.
const resolution = time.Millisecond

// appendMark writes: version; then as varints the expiry in Unix milliseconds, by how much first and last came before
// it, 0 or 1 and the same of the pass, and the attempts.
func appendMark(b []byte, m filters.Mark) []byte {
	expires, first, last := m.Expires.UnixMilli(), m.First.UnixMilli(), m.Last.UnixMilli()
	b = append(b, markVersion)
	b = binary.AppendVarint(b, expires)
	b = binary.AppendVarint(b, expires-first)
	b = binary.AppendVarint(b, expires-last)
	if m.Passed.IsZero() {
		b = append(b, 0)
	} else {
		b = append(b, 1)
		b = binary.AppendVarint(b, expires-m.Passed.UnixMilli())
	}
	return binary.AppendUvarint(b, uint64(m.Attempts))
}

// parseMark reads what appendMark wrote; ok is false for anything else.
func parseMark(b []byte) (m filters.Mark, ok bool) {
	if len(b) == 0 || b[0] != markVersion {
		return filters.Mark{}, false
	}
	r := varints{rest: b[1:]}
	expires := r.signed()
	first, last := expires-r.signed(), expires-r.signed()
	var passed int64
	hasPassed := r.flag()
	if hasPassed {
		passed = expires - r.signed()
	}
	attempts := r.unsigned()
	if r.bad || attempts > math.MaxUint32 || expires == 0 {
		return filters.Mark{}, false
	}
	m = filters.Mark{First: fromMilli(first), Last: fromMilli(last), Expires: fromMilli(expires), Attempts: uint32(attempts)}
	if hasPassed {
		m.Passed = fromMilli(passed)
	}
	return m, true
}

func fromMilli(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// varints reads a row of numbers; bad is set, and stays, once one is malformed.
type varints struct {
	rest []byte
	bad  bool
}

func (r *varints) signed() int64 {
	v, n := binary.Varint(r.rest)
	return take(r, v, n)
}

func (r *varints) unsigned() uint64 {
	v, n := binary.Uvarint(r.rest)
	return take(r, v, n)
}

func (r *varints) flag() bool {
	v := r.unsigned()
	r.bad = r.bad || v > 1
	return v == 1
}

func take[T any](r *varints, v T, n int) T {
	if n <= 0 || r.bad {
		r.bad = true
		return *new(T)
	}
	r.rest = r.rest[n:]
	return v
}

// live is m, or the zero Mark if it has expired.
func live(m filters.Mark, now time.Time) filters.Mark {
	if m.Exists() && !m.Expires.After(now) {
		return filters.Mark{}
	}
	return m
}

// attempt counts one attempt on every mark and decides: if any has passed, or was first seen delay ago, all pass.
func attempt(marks []filters.Mark, now time.Time, t filters.Terms) {
	passes := false
	for i := range marks {
		m := &marks[i]
		switch {
		case !m.Exists():
			*m = filters.Mark{First: now, Expires: now.Add(t.Window)}
		case m.First.After(now):
			// The clock was ahead when this mark was made. Left alone, its sender would wait until then.
			m.First, m.Expires = now, now.Add(t.Window)
		}
		m.Attempts += min(t.Count(), math.MaxUint32-m.Attempts)
		m.Last = now
		passes = passes || !m.Passed.IsZero() || now.Sub(m.First) >= t.Delay
	}
	if !passes {
		return
	}
	for i := range marks {
		pass(&marks[i], now, t.Keep)
	}
}

func hasPassed(marks []filters.Mark) bool {
	return slices.ContainsFunc(marks, func(m filters.Mark) bool { return !m.Passed.IsZero() })
}

// pass marks m as passed, unless it is already, and keeps it from now on.
func pass(m *filters.Mark, now time.Time, keep time.Duration) {
	if !m.Exists() {
		m.First = now
	}
	if m.Passed.IsZero() {
		m.Passed = now
	}
	m.Last, m.Expires = now, now.Add(keep)
}
