package dkim

import (
	"bytes"
	"errors"
)

// maxBlank is how many lines with nothing but white space a body may have in a row. go-msgauth keeps such runs in
// memory, and with simple canonicalization looks at all of a run again with each piece that it reads: 1 MiB of empty
// lines costs it 0.2 s.
const maxBlank = 1000

var (
	errLineEnds = errors.New("the message has a bare CR or LF")
	errBlank    = errors.New("the body has more than 1000 blank lines in a row")
)

// guard takes a message piece by piece, from its first byte, and refuses a body that go-msgauth must not see.
type guard struct {
	skip  int64 // what is left of the header
	ends  lineEnds
	text  bool // the line so far has something else than white space
	blank int  // blank lines in a row
}

// Write returns errLineEnds or errBlank.
func (g *guard) Write(p []byte) (int, error) {
	body := p[min(g.skip, int64(len(p))):]
	g.skip -= int64(len(p) - len(body))
	if !g.ends.crlfOnly(body) {
		return 0, errLineEnds
	}
	for len(body) > 0 {
		lf := bytes.IndexByte(body, '\n')
		line, rest := body, body[len(body):]
		if lf >= 0 {
			line, rest = body[:lf], body[lf+1:]
		}
		for i := 0; i < len(line) && !g.text; i++ {
			g.text = !isWhite(line[i])
		}
		if lf >= 0 {
			if g.blank++; g.text {
				g.blank, g.text = 0, false
			}
			if g.blank > maxBlank {
				return 0, errBlank
			}
		}
		body = rest
	}
	return len(p), nil
}

func isWhite(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// lineEnds watches a text for a CR or LF that is not part of a CRLF: verifiers do not agree on what those mean.
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
