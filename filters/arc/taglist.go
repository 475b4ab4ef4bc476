package arc

import "strings"

// maxTags bounds a list of tags. No signature and no key record has more than 15 by the standards.
const maxTags = 50

// white is what may stand around tags and inside of some values (RFC 6376, 2.8: FWS).
const white = " \t\r\n"

// tag is one tag=value (RFC 6376, 3.2).
type tag struct {
	name  string
	value string // without the white space around it
	// start and end enclose the value with the white space around it.
	start, end int
}

type tagList []tag

// parseTags reads a list of tags to the letter of the grammar: an empty one between two semicolons, one that occurs
// twice, or a name that is none spoils the list. Only behind the last semicolon there may be nothing.
func parseTags(text string) (tags tagList, ok bool) {
	tags = make(tagList, 0, 12)
	for start := 0; start < len(text); {
		end := len(text)
		if semicolon := strings.IndexByte(text[start:], ';'); semicolon >= 0 {
			end = start + semicolon
		}
		name, value, hasValue := strings.Cut(text[start:end], "=")
		name = strings.Trim(name, white)
		if !hasValue && name == "" && end == len(text) && len(tags) > 0 {
			break
		}
		if !hasValue || !isTagName(name) || len(tags) == maxTags || tags.has(name) {
			return nil, false
		}
		tags = append(tags, tag{name: name, value: strings.Trim(value, white), start: end - len(value), end: end})
		start = end + 1
	}
	return tags, len(tags) > 0
}

// find returns the tag of that name; names are case-sensitive.
func (l tagList) find(name string) (tag, bool) {
	for i := range l {
		if l[i].name == name {
			return l[i], true
		}
	}
	return tag{}, false
}

func (l tagList) has(name string) bool {
	_, found := l.find(name)
	return found
}

// value returns the value of the tag of that name, empty if there is none.
func (l tagList) value(name string) string {
	t, _ := l.find(name)
	return t.value
}

func isTagName(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		case i > 0 && (c >= '0' && c <= '9' || c == '_'):
		default:
			return false
		}
	}
	return s != ""
}

// squeeze takes all white space out, for values that may be folded anywhere (base64, names, lists).
func squeeze(s string) string {
	if !strings.ContainsAny(s, white) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(white, r) {
			return -1
		}
		return r
	}, s)
}

// listed tells whether one of the words between colons is word.
func listed(list, word string) bool {
	for item := range strings.SplitSeq(list, ":") {
		if strings.Trim(item, white) == word {
			return true
		}
	}
	return false
}

func isDigits(s string, longest int) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != "" && len(s) <= longest
}
