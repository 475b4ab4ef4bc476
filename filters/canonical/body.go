package canonical

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math/bits"
)

// Body hashes the body of a message while the message goes through it, from its first byte and in pieces of any size.
// Whatever the body holds, that takes linear time and no memory beside the Body.
type Body struct {
	skip   int64 // what is left of the header
	ends   LineEnds
	hashes [Relaxed + 1]*bodyHash // nil for an algorithm that nobody asked for
}

// NewBody makes a Body of a message with a header of that size.
func NewBody(header int, algorithms ...Algorithm) *Body {
	b := &Body{skip: int64(header) + 2} // the empty line
	for _, a := range algorithms {
		if b.hashes[a] == nil {
			b.hashes[a] = &bodyHash{hash: sha256.New(), relaxed: a == Relaxed}
		}
	}
	return b
}

// Write takes the next piece. It fails with [ErrLineEnds].
func (b *Body) Write(piece []byte) (int, error) {
	p := piece[min(b.skip, int64(len(piece))):]
	b.skip -= int64(len(piece) - len(p))
	if len(p) == 0 {
		return len(piece), nil
	}
	// The hashes get CRLFs as a whole: a CR at the end waits.
	waiting := b.ends.open
	if err := b.ends.Check(p); err != nil {
		return 0, err
	}
	if waiting {
		b.feed([]byte(crlf))
		p = p[1:]
	}
	if b.ends.open {
		p = p[:len(p)-1]
	}
	b.feed(p)
	return len(piece), nil
}

func (b *Body) feed(p []byte) {
	for _, h := range b.hashes {
		switch {
		case h == nil:
		case h.relaxed:
			h.squeeze(p)
		default:
			h.text(p)
		}
	}
}

// End ends the body. It fails with [ErrLineEnds].
func (b *Body) End() error {
	for _, h := range b.hashes {
		if h != nil {
			h.end()
		}
	}
	return b.ends.End()
}

// Sum is the hash by an algorithm that [NewBody] was told of, once the body has ended.
func (b *Body) Sum(a Algorithm) []byte { return b.hashes[a].sum[:] }

// bodyHash is the hash by one algorithm.
type bodyHash struct {
	hash    hash.Hash
	relaxed bool
	space   bool // white space that counts only if the line goes on
	breaks  int  // CRLFs that count only if something follows
	some    bool // something was hashed
	sum     [sha256.Size]byte
}

var (
	crlfs    = bytes.Repeat([]byte(crlf), 512)
	oneSpace = []byte{' '}
)

// squeeze makes each run of white space a single space, and nothing at the end of a line (RFC 6376, 3.4.4). What is so
// already, nearly all of most messages, goes on as it is and in large pieces.
func (h *bodyHash) squeeze(p []byte) {
	for len(p) > 0 {
		if h.space {
			for len(p) > 0 && (p[0] == ' ' || p[0] == '\t') {
				p = p[1:]
			}
			if len(p) == 0 {
				return
			}
			if p[0] != '\r' {
				h.text(oneSpace)
			}
			h.space = false
		}
		n := unsettled(p)
		h.text(p[:n])
		if h.space = n < len(p); h.space {
			p = p[n+1:]
		} else {
			return
		}
	}
}

// unsettled is where the first white space is that may not stay as it is: all but a space in front of a word. Text has a
// space every few bytes, and a branch for each cannot be foreseen: so it looks at eight bytes at once, for those that are
// a tab, or a space in front of something that is no word.
func unsettled(p []byte) int {
	i := 0
	for ; i+8 < len(p); i += 8 {
		here, next := binary.LittleEndian.Uint64(p[i:]), binary.LittleEndian.Uint64(p[i+1:])
		found := equal(here, '\t') | equal(here, ' ')&atMost(next, ' ')
		for ; found != 0; found &= found - 1 {
			if at := i + bits.TrailingZeros64(found)/8; !settled(p, at) {
				return at
			}
		}
	}
	for ; i < len(p); i++ {
		if !settled(p, i) {
			return i
		}
	}
	return len(p)
}

// settled tells whether the byte is no white space inside of a line, or a space that stays.
func settled(p []byte, at int) bool {
	switch p[at] {
	case '\t':
		return false
	case ' ':
		return at+1 < len(p) && p[at+1] != ' ' && p[at+1] != '\t' && p[at+1] != '\r'
	}
	return true
}

// Eight bytes side by side. The top bits of the result tell of which it is true; the others are zero.
const (
	lowBits = 0x0101010101010101
	topBits = 0x80 * lowBits
)

func equal(x uint64, c byte) uint64 {
	x ^= lowBits * uint64(c)
	return ^(x&^topBits + 0x7f*lowBits | x) & topBits
}

// atMost is for c below 0x80.
func atMost(x uint64, c byte) uint64 {
	return ^(x&^topBits + lowBits*uint64(0x7f-c) | x) & topBits
}

// text holds back the line ends at the end of the body (RFC 6376, 3.4.3).
func (h *bodyHash) text(p []byte) {
	end := len(p)
	for end > 0 && p[end-1] == '\n' {
		end -= len(crlf)
	}
	if end > 0 {
		for h.breaks > 0 {
			n := min(h.breaks, len(crlfs)/len(crlf))
			h.hash.Write(crlfs[:n*len(crlf)])
			h.breaks -= n
		}
		h.hash.Write(p[:end])
		h.some = true
	}
	h.breaks += (len(p) - end) / len(crlf)
}

// end: a body without content is a CRLF if it is simple, and nothing if it is relaxed.
func (h *bodyHash) end() {
	if h.some || !h.relaxed {
		h.hash.Write(crlfs[:len(crlf)])
	}
	h.hash.Sum(h.sum[:0])
}
