package admin

import (
	"strconv"
	"unicode"
	"unicode/utf8"
)

// visible makes what cannot be seen visible. Whatever of a page is not printable was made by strangers: control
// characters, marks that turn the direction of text or hide it (Unicode Technical Report 36). It is applied to whole
// pages, behind the escaping of HTML, so that no value can be forgotten. Line ends and tabs stay.
func visible(page []byte) []byte {
	clean := 0
	for clean < len(page) && (page[clean] >= ' ' && page[clean] < 0x7f || page[clean] == '\n' || page[clean] == '\t') {
		clean++
	}
	if clean == len(page) {
		return page
	}
	out := append(make([]byte, 0, len(page)+256), page[:clean]...)
	for rest := page[clean:]; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		switch {
		case r == utf8.RuneError && n == 1:
			out = append(out, `\x`...)
			out = append(out, strconv.FormatUint(0x100+uint64(rest[0]), 16)[1:]...)
		case r == '\n' || r == '\t' || unicode.IsPrint(r):
			out = append(out, rest[:n]...)
		case r == '\r': // a text area's lines end so
		default:
			out = append(out, `\u{`...)
			out = strconv.AppendUint(out, uint64(r), 16)
			out = append(out, '}')
		}
		rest = rest[n:]
	}
	return out
}
