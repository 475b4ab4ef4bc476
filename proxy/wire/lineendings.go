package wire

import "fmt"

// LineEndings says what is done with bare CR, bare LF and NUL in a message.
type LineEndings uint8

const (
	// Normalize makes a bare LF a CRLF and a bare CR a space; a message with NUL is refused.
	Normalize LineEndings = iota
	// Strict refuses a message with any of the three.
	Strict
)

var lineEndingsNames = [...]string{Normalize: "normalize", Strict: "strict"}

func (m LineEndings) String() string { return lineEndingsNames[m] }

// MarshalText writes the name that UnmarshalText reads.
func (m LineEndings) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads "normalize" or "strict".
func (m *LineEndings) UnmarshalText(text []byte) error {
	for mode, name := range lineEndingsNames {
		if name == string(text) {
			*m = LineEndings(mode)
			return nil
		}
	}
	return fmt.Errorf("%q is not a way to treat line ends: normalize or strict", text)
}

// Refuses tells whether a message in which that was found must be refused (550 5.6.0).
func (m LineEndings) Refuses(found Oddities) bool {
	return found.NUL > 0 || m == Strict && found.BareLF+found.BareCR > 0
}

// Oddities tells what is not clean SMTP data. LongestLine is in bytes, CRLF included.
type Oddities struct{ BareLF, BareCR, NUL, LongestLine int64 }
