package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// Paper is what the demo prints on: coloured on a terminal, plain elsewhere.
type Paper struct {
	w     io.Writer
	color bool
}

// NewPaper writes to w. Colours are used if w is a terminal and NO_COLOR is not set.
func NewPaper(w io.Writer) *Paper {
	p := &Paper{w: w}
	if f, ok := w.(*os.File); ok && os.Getenv("NO_COLOR") == "" {
		info, err := f.Stat()
		p.color = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

func (p *Paper) line(style, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if p.color && style != "" {
		text = "\x1b[" + style + "m" + text + "\x1b[0m"
	}
	fmt.Fprintln(p.w, text)
}

// Title begins a scenario.
func (p *Paper) Title(number int, text string) {
	fmt.Fprintln(p.w)
	p.line(bold, "%d. %s", number, text)
}

// Say explains.
func (p *Paper) Say(format string, args ...any) { p.line(dim, "   "+format, args...) }

// Client shows what a client sends.
func (p *Paper) Client(line string) { p.line(cyan, "   C: %s", line) }

// Server shows what the proxy answers, in the colour of its class.
func (p *Paper) Server(line string) {
	style := green
	switch {
	case strings.HasPrefix(line, "4"):
		style = yellow
	case strings.HasPrefix(line, "5"):
		style = red
	}
	p.line(style, "   S: %s", line)
}

// Verdict shows what was decided and by what.
func (p *Paper) Verdict(format string, args ...any) { p.line(bold, "   => "+format, args...) }

// Outcome says whether a scenario ended as it should.
func (p *Paper) Outcome(err error) {
	if err != nil {
		p.line(red, "   NOT AS EXPECTED: %v", err)
		return
	}
	p.line(green, "   as expected")
}
