package wire

import (
	"bytes"
	"errors"
)

var (
	// ErrIncomplete: the buffer holds no whole line or reply yet.
	ErrIncomplete = errors.New("incomplete")
	// ErrLineTooLong: no CRLF within the limit.
	ErrLineTooLong = errors.New("line too long")
	// ErrBareLineEnd: a CR or LF alone in a command line.
	ErrBareLineEnd = errors.New("bare CR or LF")
	// ErrControlByte: a control character other than HT in a command line, as when a client speaks TLS to a plain port.
	ErrControlByte = errors.New("control character")
)

// NextLine finds the first line of buf. Only CRLF ends a line. line is without CRLF and aliases buf; n is the number of
// bytes it takes with CRLF. limit bounds n.
//
// With [ErrBareLineEnd] and [ErrControlByte] line and n are set: the session answers 500 5.5.2 and goes on behind the
// line. With [ErrIncomplete] and [ErrLineTooLong] they are not: in the first case more bytes are needed, in the second
// the session calls [DiscardLine] until it is done, and answers 500 5.5.2 then.
func NextLine(buf []byte, limit int) (line []byte, n int, err error) {
	end := crlf(buf[:min(len(buf), limit)])
	switch {
	case end >= 0:
	case len(buf) >= limit:
		return nil, 0, ErrLineTooLong
	default:
		return nil, 0, ErrIncomplete
	}
	line = buf[:end]
	for _, b := range line {
		switch {
		case b == '\r' || b == '\n':
			// The whole line is thrown away: whatever stands behind a bare line end must not become a command.
			return line, end + 2, ErrBareLineEnd
		case b < ' ' && b != '\t' || b == 0x7f:
			err = ErrControlByte
		}
	}
	return line, end + 2, err
}

// DiscardLine tells how many bytes at the start of buf belong to a line that is too long. done is true when they
// include its CRLF; else the session drops them, reads on and calls again. A CR at the very end of buf is not counted
// until the next byte is known, so n may be 0.
func DiscardLine(buf []byte) (n int, done bool) {
	if end := crlf(buf); end >= 0 {
		return end + 2, true
	}
	if n = len(buf); n > 0 && buf[n-1] == '\r' {
		n--
	}
	return n, false
}

// crlf is the index of the first CRLF, or -1.
func crlf(buf []byte) int {
	for at := 0; ; {
		lf := bytes.IndexByte(buf[at:], '\n')
		if lf < 0 {
			return -1
		}
		if at += lf; at > 0 && buf[at-1] == '\r' {
			return at - 1
		}
		at++
	}
}
