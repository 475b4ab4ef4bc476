package rules

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Pos is a place in a file. Line and Column start at 1; Column counts characters.
type Pos struct {
	File         string
	Line, Column int
}

// String is "file:line:column", as compilers print it, or "-" for a place that is not known.
func (p Pos) String() string {
	if p == (Pos{}) {
		return "-"
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Source is a piece of text out of a configuration file. At maps a byte offset in Text to its place, nil for unknown.
type Source struct {
	Text string
	At   func(offset int) Pos
}

func (s Source) at(offset int) Pos {
	if s.At == nil {
		return Pos{}
	}
	return s.At(offset)
}

// Problem is a mistake or a warning at a place.
type Problem struct {
	Pos     Pos
	Message string
	Warning bool
}

func (p Problem) String() string {
	if p.Warning {
		return p.Pos.String() + ": warning: " + p.Message
	}
	return p.Pos.String() + ": " + p.Message
}

// problems collects what is wrong.
type problems struct{ all []Problem }

func (p *problems) fail(at Pos, format string, args ...any) {
	p.all = append(p.all, Problem{Pos: at, Message: fmt.Sprintf(format, args...)})
}

func (p *problems) warn(at Pos, format string, args ...any) {
	p.all = append(p.all, Problem{Pos: at, Message: fmt.Sprintf(format, args...), Warning: true})
}

// failed tells whether anything beyond warnings was found.
func (p *problems) failed() bool {
	return slices.ContainsFunc(p.all, func(problem Problem) bool { return !problem.Warning })
}

// quote shows text that somebody else wrote without letting it disturb a terminal or fill it.
func quote(s string) string {
	const longest = 80
	if len(s) > longest {
		return strconv.QuoteToASCII(s[:longest]) + "…"
	}
	return strconv.Quote(s)
}

// suggest is `, did you mean …?` for the candidate nearest to name, or nothing if none is near.
func suggest(name string, candidates []string) string {
	best, bestDistance := "", max(1, len(name)/3)+1
	for _, candidate := range candidates {
		if d := distance(strings.ToLower(name), strings.ToLower(candidate), bestDistance); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	if best == "" {
		return ""
	}
	return ", did you mean " + best + "?"
}

// distance counts the insertions, deletions, replacements and swaps of neighbours that turn a into b; it stops at limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before, previous, current := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := 1; i <= len(a); i++ {
		current[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			current[j] = min(previous[j]+1, current[j-1]+1, previous[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				current[j] = min(current[j], before[j-2]+1)
			}
		}
		before, previous, current = previous, current, before
	}
	return previous[len(b)]
}
