package telemetry

import (
	"io"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// escaper writes log lines so that they can be shown on a terminal: slog's JSON escapes the control characters of ASCII
// only, and a client's words may hold DEL, those of ISO 6429's upper half (U+009B starts an escape sequence), and marks
// that turn the direction of text. The text format quotes all of these itself, but for DEL.
type escaper struct{ w io.Writer }

// Write takes whole lines, as slog writes them. What it escapes can only stand in values: all else is ASCII.
func (e escaper) Write(p []byte) (int, error) {
	clean := 0
	for clean < len(p) && p[clean] < 0x7f {
		clean++
	}
	if clean == len(p) {
		return e.w.Write(p)
	}
	if _, err := e.w.Write(escape(p, clean)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// escape writes what cannot be shown as \uXXXX. The first clean bytes need no look.
func escape(p []byte, clean int) []byte {
	out := append(make([]byte, 0, len(p)+64), p[:clean]...)
	for rest := p[clean:]; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		switch {
		case r < 0x7f || unicode.IsPrint(r):
			out = append(out, rest[:n]...)
		case r > 0xffff: // as a pair of surrogates, which strconv does not make
			out = append(out, `\ufffd`...)
		default:
			out = append(out, `\u`...)
			hex := strconv.FormatUint(0x10000+uint64(r), 16)
			out = append(out, hex[1:]...)
		}
		rest = rest[n:]
	}
	return out
}
