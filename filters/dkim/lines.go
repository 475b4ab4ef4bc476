package dkim

import (
	"bytes"
	"errors"
)

// maxBlank is how many lines with nothing but white space go-msgauth may meet in a row. It keeps such runs in memory, and
// with simple canonicalization looks at all of a run again with each piece that it reads: 1 MiB of empty lines costs it
// 0.2 s.
const maxBlank = 1000

var errBlank = errors.New("the body has more than 1000 blank lines in a row")

// guard stands before go-msgauth and ends a body that it must not see.
type guard struct {
	text  bool // the line so far has something else than white space
	blank int  // blank lines in a row
}

// Write takes the next piece. It fails with errBlank.
func (g *guard) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte{'\n'})
		for i := 0; i < len(line) && !g.text; i++ {
			g.text = !isWhite(line[i])
		}
		if ended {
			if g.blank++; g.text {
				g.blank, g.text = 0, false
			}
			if g.blank > maxBlank {
				return 0, errBlank
			}
		}
		rest = after
	}
	return len(p), nil
}

func isWhite(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }
