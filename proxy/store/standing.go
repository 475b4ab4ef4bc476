package store

import (
	"encoding/binary"
	"math"
	"time"

	"gatepost/filters"
)

// standingVersion begins every standing on disk. A value with another one, or of less length, is as if it were not there;
// what a later release has added behind it is passed over.
const standingVersion = 1

// StandingSize is the length of a standing as stores keep it: the moment (Unix milliseconds, 6 bytes), the half-life
// (seconds, 4 bytes), then delivered, refused, unknown and trapped (32-bit floats). All is little-endian.
const StandingSize = 6 + 4 + 4*4

// AppendStanding appends what ParseStanding reads. The counts are rounded to 32-bit floats.
func AppendStanding(b []byte, s filters.Standing) []byte {
	var eight [8]byte
	binary.LittleEndian.PutUint64(eight[:], uint64(s.At.UnixMilli()))
	b = append(b, eight[:6]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(min(max(s.HalfLife/time.Second, 0), math.MaxUint32)))
	for _, n := range [...]float64{s.Delivered, s.Refused, s.Unknown, s.Trapped} {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(n)))
	}
	return b
}

// ParseStanding reads a standing; ok is false for anything else.
func ParseStanding(b []byte) (s filters.Standing, ok bool) {
	if len(b) != StandingSize {
		return filters.Standing{}, false
	}
	var eight [8]byte
	copy(eight[2:], b[:6])
	s.At = fromMilli(int64(binary.LittleEndian.Uint64(eight[:])) >> 16)
	s.HalfLife = time.Duration(binary.LittleEndian.Uint32(b[6:])) * time.Second
	for i, n := range [...]*float64{&s.Delivered, &s.Refused, &s.Unknown, &s.Trapped} {
		*n = float64(math.Float32frombits(binary.LittleEndian.Uint32(b[10+4*i:])))
		if !(*n >= 0 && *n <= filters.MaxCount) {
			return filters.Standing{}, false
		}
	}
	return s, s.HalfLife > 0
}

// parseStoredStanding reads a standing on disk.
func parseStoredStanding(value []byte) (s filters.Standing, ok bool) {
	if len(value) < 1+StandingSize || value[0] != standingVersion {
		return filters.Standing{}, false
	}
	return ParseStanding(value[1 : 1+StandingSize])
}
