package front

import (
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// alphabet is Crockford's base 32: no I, L, O, U, so that an id survives being read aloud.
const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

const idLength = 13

// IDs makes names for sessions: 13 characters that sort by time. 43 bits are milliseconds since 1970, 11 bits order
// the ids of one millisecond, 4 bits are the lane, which is another one for a successor that works beside its predecessor,
// and 6 bits are random; the last ten keep two proxies apart. It is safe for concurrent use.
type IDs struct {
	last atomic.Uint64
	lane atomic.Uint32
}

// lanes is how many processes can go on after each other, each with sessions of its own, without giving a name twice.
const lanes = 16

// NewIDs chooses a lane.
func NewIDs() *IDs {
	g := &IDs{}
	g.lane.Store(rand.Uint32N(lanes))
	return g
}

// Lane is what a successor is told.
func (g *IDs) Lane() uint32 { return g.lane.Load() }

// Follow takes the lane behind that of a predecessor. Call it before the first Next.
func (g *IDs) Follow(lane uint32) { g.lane.Store((lane + 1) % lanes) }

// Next is unique among those of one IDs even if the clock stands still or steps back.
func (g *IDs) Next(now time.Time) string {
	stamp := uint64(now.UnixMilli()) << 11
	for {
		last := g.last.Load()
		if stamp <= last {
			stamp = last + 1
		}
		if g.last.CompareAndSwap(last, stamp) {
			break
		}
	}
	value := stamp<<10 | uint64(g.lane.Load())<<6 | uint64(rand.Uint32()&0x3f)
	var text [idLength]byte
	for i := idLength - 1; i >= 0; i-- {
		text[i] = alphabet[value&31]
		value >>= 5
	}
	return string(text[:])
}
