package spf

import (
	"net/netip"
	"strings"
)

// kind is a mechanism's name.
type kind uint8

const (
	kindAll kind = iota
	kindInclude
	kindA
	kindMX
	kindPTR
	kindIP4
	kindIP6
	kindExists
)

// term is one directive of a record (RFC 7208, 4.6.1).
type term struct {
	text   string // as written
	kind   kind
	result Result       // what a match means
	spec   string       // domain-spec, or empty for the current domain
	bits4  uint8        // prefix lengths of a and mx
	bits6  uint8        //
	prefix netip.Prefix // of ip4 and ip6
}

// record is a parsed record. Empty modifiers are absent: their domain-spec cannot be empty.
type record struct {
	terms         []term
	redirect, exp string
}

const version = "v=spf1"

// isRecord tells an SPF record from other TXT records (RFC 7208, 4.5).
func isRecord(text string) bool {
	return len(text) >= len(version) && strings.EqualFold(text[:len(version)], version) &&
		(len(text) == len(version) || text[len(version)] == ' ')
}

// parseRecord parses a record into space. bad is the first term with a mistake, empty if there is none.
func parseRecord(text string, space []term) (r record, bad string) {
	r.terms = space
	rest := text[len(version):]
	for rest != "" {
		var word string
		word, rest, _ = strings.Cut(rest, " ")
		if word == "" {
			continue
		}
		name, value, isModifier := cutModifier(word)
		if isModifier {
			if !r.modifier(name, value) {
				return r, word
			}
			continue
		}
		t, ok := parseTerm(word)
		if !ok {
			return r, word
		}
		r.terms = append(r.terms, t)
	}
	return r, ""
}

// cutModifier splits name "=" value. The name is not empty, begins with a letter, and has no ":" or "/".
func cutModifier(word string) (name, value string, ok bool) {
	for i := 0; i < len(word); i++ {
		c := word[i]
		if c == '=' {
			return word[:i], word[i+1:], i > 0
		}
		if !isAlpha(c) && (i == 0 || !isDigit(c) && c != '-' && c != '_' && c != '.') {
			break
		}
	}
	return "", "", false
}

// modifier takes a modifier in and tells whether it is sound (RFC 7208, 6).
func (r *record) modifier(name, value string) bool {
	var target *string
	switch {
	case strings.EqualFold(name, "redirect"):
		target = &r.redirect
	case strings.EqualFold(name, "exp"):
		target = &r.exp
	default:
		return isMacroString(value, allLetters)
	}
	if *target != "" || !isDomainSpec(value) {
		return false
	}
	*target = value
	return true
}

func parseTerm(word string) (t term, ok bool) {
	t = term{text: word, result: Pass, bits4: 32, bits6: 128}
	rest := word
	switch word[0] {
	case '-':
		t.result = Fail
	case '~':
		t.result = SoftFail
	case '?':
		t.result = Neutral
	}
	if t.result != Pass || word[0] == '+' {
		rest = rest[1:]
	}
	end := strings.IndexAny(rest, ":/")
	if end < 0 {
		end = len(rest)
	}
	name, rest := rest[:end], rest[end:]
	known := false
	if t.kind, known = kindOf(name); !known {
		return t, false
	}
	switch t.kind {
	case kindAll:
		return t, rest == ""
	case kindIP4, kindIP6:
		return t, t.network(rest)
	case kindA, kindMX:
		if rest, ok = t.cutLengths(rest); !ok {
			return t, false
		}
		fallthrough
	case kindPTR:
		if rest == "" {
			return t, true
		}
	}
	if rest == "" || rest[0] != ':' {
		return t, false
	}
	t.spec = rest[1:]
	return t, isDomainSpec(t.spec)
}

func kindOf(name string) (kind, bool) {
	for k, n := range [...]string{"all", "include", "a", "mx", "ptr", "ip4", "ip6", "exists"} {
		if strings.EqualFold(name, n) {
			return kind(k), true
		}
	}
	return 0, false
}

// network reads ":" address [ "/" length ] (RFC 7208, 5.6).
func (t *term) network(rest string) bool {
	if rest == "" || rest[0] != ':' {
		return false
	}
	address, length, hasLength := strings.Cut(rest[1:], "/")
	addr, err := netip.ParseAddr(address)
	if err != nil || addr.Zone() != "" || addr.Is4() != (t.kind == kindIP4) {
		return false
	}
	bits := addr.BitLen()
	if hasLength {
		n, ok := parseLength(length, bits)
		if !ok {
			return false
		}
		bits = int(n)
	}
	t.prefix = netip.PrefixFrom(addr, bits)
	return true
}

// cutLengths takes the dual-cidr-length from the end of rest: [ "/" length ] [ "//" length ] (RFC 7208, 5.3). A
// domain-spec may itself have slashes, but does not end in one with digits behind.
func (t *term) cutLengths(rest string) (string, bool) {
	slash := lengthSlash(rest)
	if slash > 0 && rest[slash-1] == '/' {
		n, ok := parseLength(rest[slash+1:], 128)
		if !ok {
			return rest, false
		}
		t.bits6, rest = n, rest[:slash-1]
		slash = lengthSlash(rest)
	}
	if slash >= 0 {
		n, ok := parseLength(rest[slash+1:], 32)
		if !ok {
			return rest, false
		}
		t.bits4, rest = n, rest[:slash]
	}
	return rest, true
}

// lengthSlash is the index of the slash before the digits at the end, or -1.
func lengthSlash(s string) int {
	i := len(s)
	for i > 0 && isDigit(s[i-1]) {
		i--
	}
	if i == len(s) || i == 0 || s[i-1] != '/' {
		return -1
	}
	return i - 1
}

// parseLength reads a prefix length without leading zeros.
func parseLength(s string, limit int) (uint8, bool) {
	if s == "" || len(s) > 3 || s[0] == '0' && len(s) > 1 {
		return 0, false
	}
	n := 0
	for i := 0; i < len(s); i++ {
		if !isDigit(s[i]) {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return uint8(min(n, 255)), n <= limit
}

func isAlpha(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
