package config

import (
	"fmt"
	"sort"
	"strings"

	"gatepost/rules"
)

// Problem is a mistake in the configuration, or a warning, with its place.
type Problem struct {
	rules.Problem
	excerpt string // the line that Pos names
}

// String gives `file:line:column: message` and, where the place is known, the line with a caret under the spot.
func (p Problem) String() string {
	var b strings.Builder
	if p.Pos.File != "" {
		b.WriteString(p.Pos.File)
		if p.Pos.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", p.Pos.Line, p.Pos.Column)
		}
		b.WriteString(": ")
	}
	if p.Warning {
		b.WriteString("warning: ")
	}
	b.WriteString(p.Message)
	if p.excerpt == "" {
		return b.String()
	}
	number := fmt.Sprintf("%4d | ", p.Pos.Line)
	fmt.Fprintf(&b, "\n%s%s\n%s%s", number, p.excerpt, strings.Repeat(" ", len(number)-2)+"| ", caret(p.excerpt, p.Pos.Column))
	return b.String()
}

// caret points at a column; tabs stay tabs so that it stands under the right character.
func caret(line string, column int) string {
	var b strings.Builder
	at := 1
	for _, r := range line {
		if at >= column {
			break
		}
		if r != '\t' {
			r = ' '
		}
		b.WriteRune(r)
		at++
	}
	return b.String() + "^"
}

// Problems is everything that is wrong with a configuration, in the order of the file.
type Problems []Problem

// Failed tells whether one of them is more than a warning.
func (ps Problems) Failed() bool {
	for _, p := range ps {
		if !p.Warning {
			return true
		}
	}
	return false
}

// Error makes Problems an error, for callers that need only one value.
func (ps Problems) Error() string {
	texts := make([]string, len(ps))
	for i, p := range ps {
		texts[i] = p.String()
	}
	return strings.Join(texts, "\n")
}

// at tells whether one of them, more than a warning, is at a place that is known.
func (ps Problems) at(pos rules.Pos) bool {
	for _, p := range ps {
		if p.Pos == pos && pos.Line > 0 && !p.Warning {
			return true
		}
	}
	return false
}

func (ps Problems) sort() {
	sort.SliceStable(ps, func(i, j int) bool {
		a, b := ps[i].Pos, ps[j].Pos
		if a.File != b.File {
			return a.File < b.File
		}
		if a.Line != b.Line {
			return a.Line < b.Line
		}
		return a.Column < b.Column
	})
}
