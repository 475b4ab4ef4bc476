package dkim

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"hash"
)

var errLineEnds = errors.New("the message has a bare CR or LF")

// bodyReader takes a message piece by piece, from its first byte, and hashes its body in the ways that are wanted.
type bodyReader struct {
	skip            int64 // what is left of the header
	ends            lineEnds
	simple, relaxed *bodyHash // nil where no signature wants it
}

// Write refuses bare line ends: verifiers do not agree on what they mean.
func (r *bodyReader) Write(p []byte) (int, error) {
	body := p[min(r.skip, int64(len(p))):]
	r.skip -= int64(len(p) - len(body))
	if !r.ends.crlfOnly(body) {
		return 0, errLineEnds
	}
	if r.simple != nil {
		r.simple.writeSimple(body)
	}
	if r.relaxed != nil {
		r.relaxed.writeRelaxed(body)
	}
	return len(p), nil
}

// sums ends the body.
func (r *bodyReader) sums() (simple, relaxed []byte) {
	if r.simple != nil {
		simple = r.simple.sumSimple()
	}
	if r.relaxed != nil {
		relaxed = r.relaxed.sumRelaxed()
	}
	return simple, relaxed
}

// lineEnds watches a text for a CR or LF that is not part of a CRLF.
type lineEnds struct {
	open bool // a CR was the last byte
}

// crlfOnly looks at the next piece. A CR at its end is judged with the next one.
func (l *lineEnds) crlfOnly(p []byte) bool {
	if len(p) == 0 {
		return true
	}
	if l.open != (p[0] == '\n') {
		return false
	}
	if l.open {
		p = p[1:]
	}
	feeds := 0
	for rest := p; ; feeds++ {
		lf := bytes.IndexByte(rest, '\n')
		if lf < 0 {
			break
		}
		if lf == 0 || rest[lf-1] != '\r' {
			return false
		}
		rest = rest[lf+1:]
	}
	// Each LF has its CR, so only the numbers are left to compare.
	l.open = len(p) > 0 && p[len(p)-1] == '\r'
	returns := bytes.Count(p, []byte{'\r'})
	return returns == feeds || l.open && returns == feeds+1
}

// bodyHash hashes a canonical body (RFC 6376, 3.4.3 and 3.4.4). Whatever the body holds, it works in linear time and
// in constant memory: line ends that count only if something follows are a number.
type bodyHash struct {
	hash   hash.Hash
	breaks int  // CRLFs that count only if something follows
	space  bool // white space that counts only if the line goes on
	some   bool // something was written
	used   int
	buffer [1 << 10]byte
}

func newBodyHash() *bodyHash { return &bodyHash{hash: sha256.New()} }

var crlfs = bytes.Repeat([]byte("\r\n"), 512)

// flushBreaks writes the line ends that turned out to count.
func (b *bodyHash) flushBreaks() {
	for b.breaks > 0 {
		n := min(b.breaks, len(crlfs)/2)
		b.put(crlfs[:2*n])
		b.breaks -= n
	}
}

func (b *bodyHash) put(p []byte) {
	b.some = true
	if len(p) > len(b.buffer)-b.used {
		b.flush()
		if len(p) > len(b.buffer) {
			b.hash.Write(p)
			return
		}
	}
	b.used += copy(b.buffer[b.used:], p)
}

func (b *bodyHash) flush() {
	b.hash.Write(b.buffer[:b.used])
	b.used = 0
}

// writeSimple hashes all but the empty lines at the end.
func (b *bodyHash) writeSimple(p []byte) {
	start, end := 0, len(p)
	for ; start < end && isLineEnd(p[start]); start++ {
		if p[start] == '\n' {
			b.breaks++
		}
	}
	for end > start && isLineEnd(p[end-1]) {
		end--
	}
	if start < end {
		b.flushBreaks()
		b.put(p[start:end])
	}
	b.breaks += bytes.Count(p[end:], []byte{'\n'})
}

func isLineEnd(c byte) bool { return c == '\r' || c == '\n' }

var isWhite = [256]bool{' ': true, '\t': true, '\r': true, '\n': true}

// writeRelaxed hashes all but the white space at the end of lines and the empty lines at the end, and each other run
// of white space as one space.
func (b *bodyHash) writeRelaxed(p []byte) {
	for i := 0; i < len(p); {
		switch p[i] {
		case ' ', '\t':
			b.space = true
			i++
		case '\r':
			i++
		case '\n':
			b.space = false
			b.breaks++
			i++
		default:
			end := i + 1
			for end < len(p) && !isWhite[p[end]] {
				end++
			}
			if b.breaks > 0 {
				b.flushBreaks()
			}
			if b.space {
				b.space = false
				b.putSpace()
			}
			b.put(p[i:end])
			i = end
		}
	}
}

func (b *bodyHash) putSpace() {
	if b.used == len(b.buffer) {
		b.flush()
	}
	b.buffer[b.used] = ' '
	b.used++
}

// sumSimple ends the body: an empty one is a CRLF.
func (b *bodyHash) sumSimple() []byte {
	b.put(crlfs[:2])
	b.flush()
	return b.hash.Sum(nil)
}

// sumRelaxed ends the body: an empty one is nothing.
func (b *bodyHash) sumRelaxed() []byte {
	if b.some {
		b.put(crlfs[:2])
	}
	b.flush()
	return b.hash.Sum(nil)
}
