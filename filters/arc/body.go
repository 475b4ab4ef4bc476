package arc

import (
	"bytes"
	"crypto/sha256"
	"hash"
)

// bodyHash takes a message piece by piece, from its first byte, and hashes its body in canonical form (RFC 6376, 3.4.3
// and 3.4.4). Whatever the body holds, it takes linear time and constant memory: line ends that count only if something
// follows are a number.
type bodyHash struct {
	skip    int64 // what is left of the header
	relaxed bool
	hash    hash.Hash

	open   bool // the last byte was a CR
	space  bool // white space that counts only if the line goes on
	breaks int  // CRLFs that count only if something follows
	some   bool // something was hashed
	used   int  // of buffer
	buffer [1 << 10]byte
}

// newBodyHash makes a hash of the body behind a header of that size and the empty line.
func newBodyHash(header int, relaxed bool) *bodyHash {
	return &bodyHash{skip: int64(header) + 2, relaxed: relaxed, hash: sha256.New()}
}

// Write refuses bare line ends: verifiers do not agree on what they mean.
func (b *bodyHash) Write(piece []byte) (int, error) {
	p := piece[min(b.skip, int64(len(piece))):]
	b.skip -= int64(len(piece) - len(p))
	if b.open && len(p) > 0 {
		if p[0] != '\n' {
			return 0, errLineEnds
		}
		b.open = false
		b.endLine()
		p = p[1:]
	}
	for len(p) > 0 {
		lf := bytes.IndexByte(p, '\n')
		line := p
		if lf >= 0 {
			line = p[:lf]
		}
		ended := len(line) > 0 && line[len(line)-1] == '\r'
		if ended {
			line = line[:len(line)-1]
		}
		if lf >= 0 && !ended || bytes.IndexByte(line, '\r') >= 0 {
			return 0, errLineEnds
		}
		b.text(line)
		if lf < 0 {
			b.open = ended
			break
		}
		b.endLine()
		p = p[lf+1:]
	}
	return len(piece), nil
}

func (b *bodyHash) endLine() {
	b.space = false
	b.breaks++
}

// text takes a part of a line.
func (b *bodyHash) text(p []byte) {
	if !b.relaxed {
		b.word(p)
		return
	}
	for len(p) > 0 {
		end := 0
		for end < len(p) && p[end] != ' ' && p[end] != '\t' {
			end++
		}
		b.word(p[:end])
		for p = p[end:]; len(p) > 0 && (p[0] == ' ' || p[0] == '\t'); p = p[1:] {
			b.space = true
		}
	}
}

var (
	crlfs    = bytes.Repeat([]byte("\r\n"), 512)
	oneSpace = []byte{' '}
)

// word takes bytes that count, and with them what was waiting for something to follow.
func (b *bodyHash) word(p []byte) {
	if len(p) == 0 {
		return
	}
	for b.breaks > 0 {
		n := min(b.breaks, len(crlfs)/2)
		b.put(crlfs[:2*n])
		b.breaks -= n
	}
	if b.space {
		b.space = false
		b.put(oneSpace)
	}
	b.put(p)
	b.some = true
}

// put gathers small pieces: a hash is quick with large ones only.
func (b *bodyHash) put(p []byte) {
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

// sum ends the body. One without content is a CRLF if it is simple, and nothing if it is relaxed.
func (b *bodyHash) sum() ([]byte, error) {
	if b.open {
		return nil, errLineEnds
	}
	if b.some || !b.relaxed {
		b.put(crlfs[:2])
	}
	b.flush()
	return b.hash.Sum(nil), nil
}
