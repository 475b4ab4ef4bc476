package authres

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"gatepost/filters"
)

const (
	maxLine    = 78  // RFC 5322, 2.1.1: should
	maxValue   = 400 // bytes; escaped and with its name it stays below the 998 of RFC 5322, 2.1.1
	maxKeyword = 64
)

// Format writes a complete Authentication-Results field: name, folding and final CRLF included. Without results it says
// "none" (RFC 8601, 2.2).
//
// The field is ASCII. Names under a U-label are written with A-labels; any other character that is not printable ASCII
// becomes "?", as does what is no UTF-8, since the field may end up in a message that is not internationalised. Values
// are cut after 400 bytes. A result whose method or value is no keyword cannot be written and is left out, and so is
// such a property.
func Format(authservID string, results []filters.AuthResult) []byte {
	w := writer{out: make([]byte, 0, 512)}
	w.raw(fieldName + ":")
	w.word("", authservID)
	written := false
	for i := range results {
		written = w.result(&results[i]) || written
	}
	if !written {
		w.raw(";")
		w.atom("none")
	}
	return append(w.out, "\r\n"...)
}

// writer lays words out in lines of at most maxLine characters where there is a space to break at.
type writer struct {
	out  []byte
	line int // where the current line starts in out
}

func (w *writer) result(r *filters.AuthResult) bool {
	if !isKeyword(r.Method) || !isKeyword(r.Result) {
		return false
	}
	w.raw(";")
	w.fold()
	w.raw(r.Method + "=" + r.Result)
	if r.Reason != "" {
		w.word("reason=", r.Reason)
	}
	for _, p := range r.Properties {
		if isKeyword(p.Type) && isKeyword(p.Name) {
			w.word(p.Type+"."+p.Name+"=", p.Value)
		}
	}
	return true
}

func (w *writer) raw(text string) { w.out = append(w.out, text...) }

func (w *writer) fold() {
	w.raw("\r\n")
	w.line = len(w.out)
	w.raw("\t")
}

// fits tells whether n more characters and the semicolon that may follow them have room in the line.
func (w *writer) fits(n int) bool { return len(w.out)-w.line+n+1 <= maxLine }

// atom writes text that needs no quoting behind a space or a fold.
func (w *writer) atom(text string) {
	if w.fits(1 + len(text)) {
		w.raw(" ")
	} else {
		w.fold()
	}
	w.raw(text)
}

// word writes prefix and value, the value quoted unless it is a plain word. A quoted one may be folded at its spaces:
// unfolding gives them back (RFC 5322, 2.2.3).
func (w *writer) word(prefix, value string) {
	value = clean(value)
	if isPlain(value) {
		w.atom(prefix + value)
		return
	}
	quoted := prefix + quote(value)
	if w.fits(1+len(quoted)) || 1+len(quoted)+1 <= maxLine {
		w.atom(quoted)
		return
	}
	first := true
	for quoted != "" {
		part := firstPart(quoted)
		quoted = quoted[len(part):]
		switch {
		case first:
			w.atom(part)
		case w.fits(len(part)):
			w.raw(part)
		default:
			w.raw("\r\n")
			w.line = len(w.out)
			w.raw(part)
		}
		first = false
	}
}

// firstPart cuts text before the first space that has something other than spaces before it: no line is ever blank.
func firstPart(text string) string {
	word := len(text) - len(strings.TrimLeft(text, " "))
	if space := strings.IndexByte(text[word:], ' '); space >= 0 {
		return text[:word+space]
	}
	return text
}

// clean makes value printable ASCII of bounded length.
func clean(value string) string {
	value = toASCIIDomain(value[:min(len(value), maxValue)])
	value = value[:min(len(value), maxValue)]
	for i := 0; i < len(value); i++ {
		if value[i] < ' ' || value[i] >= 0x7f {
			return strings.Map(printable, value)
		}
	}
	return value
}

func printable(r rune) rune {
	if r == '\t' || r == '\r' || r == '\n' {
		return ' '
	}
	if r >= utf8.RuneSelf || unicode.IsControl(r) {
		return '?'
	}
	return r
}

// toASCIIDomain writes the domain of an address, or a bare domain, with A-labels if it has U-labels.
func toASCIIDomain(value string) string {
	at := strings.LastIndexByte(value, '@') + 1
	domain := value[at:]
	if isASCII(domain) || !utf8.ValidString(domain) || strings.ContainsAny(domain, " \t\r\n\x00") {
		return value
	}
	ascii, err := mapping.ToASCII(domain)
	if err != nil || !isASCII(ascii) {
		return value
	}
	return value[:at] + ascii
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func isKeyword(s string) bool {
	if s == "" || len(s) > maxKeyword || !isAlphanumeric(s[len(s)-1]) {
		return false
	}
	for i := 0; i < len(s); i++ {
		if !isKeywordByte(s[i]) {
			return false
		}
	}
	return true
}

// isPlain tells what may stand without quotes: a token, or [[local-part] "@"] domain-name (RFC 8601, 2.2). Local parts
// with characters that are no token ("=", "/", "?") are legal bare too, but other parsers stumble over them.
func isPlain(value string) bool {
	local, domain, isAddress := strings.Cut(value, "@")
	if !isAddress {
		return value != "" && isToken(value)
	}
	if strings.HasPrefix(local, ".") || strings.HasSuffix(local, ".") || strings.Contains(local, "..") {
		return false
	}
	return isToken(local) && isDomainName(domain)
}

func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isTokenByte(s[i]) {
			return false
		}
	}
	return true
}

// isDomainName tells labels of letters, digits, hyphens and underscores, with single dots between them.
func isDomainName(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if label == "" {
			return false
		}
		for i := 0; i < len(label); i++ {
			if !isKeywordByte(label[i]) && label[i] != '_' {
				return false
			}
		}
	}
	return true
}

func quote(value string) string {
	var b strings.Builder
	b.Grow(len(value) + 8)
	b.WriteByte('"')
	for i := 0; i < len(value); i++ {
		if value[i] == '"' || value[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(value[i])
	}
	b.WriteByte('"')
	return b.String()
}
