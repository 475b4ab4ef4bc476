package load

import (
	"fmt"
	"sort"
	"strings"
)

// maxKinds bounds how many kinds of errors are told apart.
const maxKinds = 20

// Errors counts what went wrong by its text.
type Errors map[string]int

// Add counts an error. Control characters of servers do not reach the terminal.
func (e *Errors) Add(text string) {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
	if *e == nil {
		*e = Errors{}
	}
	if _, known := (*e)[text]; !known && len(*e) >= maxKinds {
		text = "other errors"
	}
	(*e)[text]++
}

// Count is how many errors there were.
func (e Errors) Count() (n int) {
	for _, times := range e {
		n += times
	}
	return n
}

// String lists them, the most frequent first.
func (e Errors) String() string {
	texts := make([]string, 0, len(e))
	for text := range e {
		texts = append(texts, text)
	}
	sort.Slice(texts, func(i, j int) bool {
		if e[texts[i]] != e[texts[j]] {
			return e[texts[i]] > e[texts[j]]
		}
		return texts[i] < texts[j]
	})
	var b strings.Builder
	for i, text := range texts {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%d × %s", e[text], text)
	}
	return b.String()
}
