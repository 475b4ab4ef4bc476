package canonical

import (
	"bytes"
	"errors"
)

// ErrLineEnds refuses a message: verifiers do not agree on what a CR or LF means that is not part of a CRLF.
var ErrLineEnds = errors.New("the message has a bare CR or LF")

// LineEnds watches a text for bare CR and LF, piece by piece. The zero value is ready.
type LineEnds struct {
	open bool // a CR was the last byte
}

// Check looks at the next piece. A CR at its end is judged with the next one.
func (l *LineEnds) Check(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if l.open != (p[0] == '\n') {
		return ErrLineEnds
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
			return ErrLineEnds
		}
		rest = rest[lf+1:]
	}
	// Each LF has its CR, so only the numbers are left to compare.
	l.open = len(p) > 0 && p[len(p)-1] == '\r'
	if l.open {
		feeds++
	}
	if bytes.Count(p, []byte{'\r'}) != feeds {
		return ErrLineEnds
	}
	return nil
}

// End tells whether the text ends in a bare CR.
func (l *LineEnds) End() error {
	if l.open {
		return ErrLineEnds
	}
	return nil
}
