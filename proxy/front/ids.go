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
// the ids of one millisecond, 10 bits are random and keep two proxies apart. It is safe for concurrent use.
type IDs struct{ last atomic.Uint64 }

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
	value := stamp<<10 | uint64(rand.Uint32()&0x3ff)
	var text [idLength]byte
	for i := idLength - 1; i >= 0; i-- {
		text[i] = alphabet[value&31]
		value >>= 5
	}
	return string(text[:])
}
