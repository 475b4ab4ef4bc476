package dkim

import "strings"

// maxTags bounds a list of tags. RFC 6376 knows 13 for signatures and 7 for keys.
const maxTags = 50

// tag is one tag=value (RFC 6376, 3.2).
type tag struct {
	name  string
	value string // without the white space around it
	// start and end enclose the value with the white space around it.
	start, end int
}

type tagList []tag

// parseTags reads a list of tags. It is malformed if a tag has no name or no "=", occurs twice, or is one of too many.
func parseTags(text string) (tags tagList, ok bool) {
	tags = make(tagList, 0, 12)
	for start := 0; start < len(text); {
		end := len(text)
		if semicolon := strings.IndexByte(text[start:], ';'); semicolon >= 0 {
			end = start + semicolon
		}
		name, value, hasValue := strings.Cut(text[start:end], "=")
		name = strings.Trim(name, white)
		switch {
		case !hasValue && name == "": // behind the last semicolon, or between two of them
		case !hasValue || !isTagName(name) || len(tags) == maxTags:
			return nil, false
		default:
			if _, again := tags.find(name); again {
				return nil, false
			}
			tags = append(tags, tag{name: name, value: strings.Trim(value, white), start: end - len(value), end: end})
		}
		start = end + 1
	}
	return tags, true
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

// value returns the value of the tag of that name, empty if there is none.
func (l tagList) value(name string) string {
	t, _ := l.find(name)
	return t.value
}

// isTagName is wider than RFC 6376, which has letters, digits and "_": unknown tags do no harm.
func isTagName(s string) bool { return s != "" && !strings.ContainsAny(s, white) }

// white is folding white space.
const white = " \t\r\n"

// squeeze takes all white space out.
func squeeze(s string) string {
	if !strings.ContainsAny(s, white) {
		return s
	}
	squeezed := make([]byte, 0, len(s))
	for i := range len(s) {
		if !isWhite(s[i]) {
			squeezed = append(squeezed, s[i])
		}
	}
	return string(squeezed)
}

// listed tells whether a colon-separated list holds an item, upper and lower case alike.
func listed(list, item string) bool {
	for entry := range strings.SplitSeq(list, ":") {
		if strings.EqualFold(strings.Trim(entry, white), item) {
			return true
		}
	}
	return false
}
