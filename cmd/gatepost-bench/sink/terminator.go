package sink

import "bytes"

// terminator looks for CRLF.CRLF in a stream that comes in pieces. Its value is how many of the five bytes the stream
// ends with.
type terminator int

const endOfData = "\r\n.\r\n"

// reset prepares for a message. The line end of the DATA command counts as the first CRLF (RFC 5321, 4.1.1.4).
func (t *terminator) reset() { *t = 2 }

// find returns how many bytes of p belong to the message, terminator included, and whether it is complete.
func (t *terminator) find(p []byte) (n int, complete bool) {
	for *t > 0 && n < len(p) {
		t.step(p[n])
		n++
		if int(*t) == len(endOfData) {
			return n, true
		}
	}
	if n == len(p) {
		return n, false
	}
	if i := bytes.Index(p[n:], []byte(endOfData)); i >= 0 {
		return n + i + len(endOfData), true
	}
	for _, b := range p[max(n, len(p)-len(endOfData)+1):] {
		t.step(b)
	}
	return len(p), false
}

func (t *terminator) step(b byte) {
	switch {
	case endOfData[*t] == b:
		*t++
	case b == '\r':
		*t = 1
	default:
		*t = 0
	}
}
