package engine

import (
	"encoding/binary"
	"time"

	"gatepost/filters"
)

// markSize is the length of a mark in the engine: expires, first, last and passed (Unix milliseconds, 6 bytes each,
// little-endian, signed; passed 0: it has not), and the attempts (4 bytes). With its header it fills an allocation of
// 48 bytes, so varints would save nothing, and Lua reads it in one call.
const markSize = 4*6 + 4

func appendMark(b []byte, m filters.Mark) []byte {
	passed := int64(0)
	if !m.Passed.IsZero() {
		passed = m.Passed.UnixMilli()
	}
	for _, ms := range [...]int64{m.Expires.UnixMilli(), m.First.UnixMilli(), m.Last.UnixMilli(), passed} {
		var eight [8]byte
		binary.LittleEndian.PutUint64(eight[:], uint64(ms))
		b = append(b, eight[:6]...)
	}
	return binary.LittleEndian.AppendUint32(b, m.Attempts)
}

// parseMark reads a mark; anything else, and one that has expired, is the zero Mark.
func parseMark(value string, now time.Time) filters.Mark {
	if len(value) != markSize {
		return filters.Mark{}
	}
	expires := readTime(value[0:6])
	if !expires.After(now) {
		return filters.Mark{}
	}
	m := filters.Mark{
		Expires: expires, First: readTime(value[6:12]), Last: readTime(value[12:18]),
		Attempts: binary.LittleEndian.Uint32([]byte(value[24:28])),
	}
	if passed := readTime(value[18:24]); passed.UnixMilli() != 0 {
		m.Passed = passed
	}
	return m
}

func readTime(six string) time.Time {
	var eight [8]byte
	copy(eight[2:], six)
	return time.UnixMilli(int64(binary.LittleEndian.Uint64(eight[:])) >> 16).UTC()
}
