package called

import (
	"strings"
	"unicode/utf8"
)

// Clean keeps what goes into records, logs and other protocols short (limit bytes), and free of control characters.
func Clean(text string, limit int) string {
	text = text[:min(len(text), limit)]
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "?")
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, text)
}
