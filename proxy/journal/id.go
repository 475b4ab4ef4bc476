package journal

import (
	"strings"
	"time"
)

// An id begins with when its session began: 13 characters of Crockford's base 32, of which the upper 43 bits are
// milliseconds since 1970 (proxy/id.go). A transaction's adds "." and a number.
const (
	idAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	idLength   = 13
	idBelow    = 21 // bits below the time
)

// FindID returns the first id of a session or transaction in a text, such as a bounce that somebody forwards, and where it
// ends. It takes small letters, too.
func FindID(text string) (id string, end int, ok bool) {
	text = upperASCII(text)
	for start := 0; start+idLength <= len(text); start++ {
		if start > 0 && isAlphanumeric(text[start-1]) {
			continue
		}
		end := start
		for end < len(text) && isAlphanumeric(text[end]) {
			end++
		}
		if end-start != idLength {
			continue
		}
		id := text[start:end]
		if at, ok := IDTime(id); !ok || at.Year() < 2020 || at.Year() > 2200 { // a word of 13 letters is hardly an id
			continue
		}
		digits := end + 1
		for end < len(text) && text[end] == '.' && digits < len(text) && text[digits] >= '0' && text[digits] <= '9' && digits-end <= 9 {
			digits++
		}
		if digits > end+1 {
			id, end = text[start:digits], digits
		}
		return id, end, true
	}
	return "", 0, false
}

// upperASCII keeps the length of the text.
func upperASCII(text string) string {
	upper := []byte(text)
	for i, c := range upper {
		if c >= 'a' && c <= 'z' {
			upper[i] = c - 'a' + 'A'
		}
	}
	return string(upper)
}

func isAlphanumeric(c byte) bool { return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' }

// IDTime is when the session of an id began.
func IDTime(id string) (at time.Time, ok bool) {
	id = sessionOf(id)
	if len(id) != idLength {
		return time.Time{}, false
	}
	value := uint64(0)
	for i := range len(id) {
		digit := strings.IndexByte(idAlphabet, id[i])
		if digit < 0 {
			return time.Time{}, false
		}
		value = value<<5 | uint64(digit)
	}
	return time.UnixMilli(int64(value >> idBelow)), true
}
