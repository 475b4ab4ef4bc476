package doctor

import (
	"fmt"
	"strings"
	"unicode"
)

// Severity says how bad a finding is.
type Severity int

const (
	OK      Severity = iota // as it should be
	Notice                  // good to know
	Warning                 // mail flows, but something will hurt
	Error                   // mail is lost, refused, or relayed for strangers
)

func (s Severity) String() string { return [...]string{"ok", "notice", "warning", "error"}[s] }

// MarshalText writes the severity's name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Finding is one thing that was looked at. Its texts are printable and of bounded length, whatever servers have said.
type Finding struct {
	Check    string   `json:"check"` // resolver, lists, backend, …
	Severity Severity `json:"severity"`
	Subject  string   `json:"subject"` // which server, list, file
	Message  string   `json:"message"`
	// Evidence is what was seen, in the words of who said it. Remedy is what to do; empty where all is well.
	Evidence string `json:"evidence,omitempty"`
	Remedy   string `json:"remedy,omitempty"`
}

// Report is all findings, in the order of the checks.
type Report struct {
	Worst    Severity  `json:"worst"`
	Findings []Finding `json:"findings"`
}

// findings collects what one check has found.
type findings struct {
	check string
	list  []Finding
}

// add notes a finding and returns it for evidence and remedy.
func (f *findings) add(s Severity, subject, format string, args ...any) *Finding {
	f.list = append(f.list, Finding{Check: f.check, Severity: s, Subject: printable(subject), Message: printable(fmt.Sprintf(format, args...))})
	return &f.list[len(f.list)-1]
}

func (f *Finding) saw(format string, args ...any) *Finding {
	f.Evidence = printable(fmt.Sprintf(format, args...))
	return f
}

func (f *Finding) advise(format string, args ...any) *Finding {
	f.Remedy = printable(fmt.Sprintf(format, args...))
	return f
}

// maxText bounds a text in bytes.
const maxText = 600

// printable is fit for a terminal: servers' banners may hold escape sequences.
func printable(s string) string {
	if len(s) > maxText {
		s = s[:maxText] + "…"
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r == unicode.ReplacementChar || !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s)
}
