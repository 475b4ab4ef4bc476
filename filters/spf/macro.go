package spf

import (
	"strconv"
	"strings"
)

// Letters of macros (RFC 7208, 7.2): c, r and t stand in explanations only.
const (
	nameLetters = "slodipvh"
	allLetters  = nameLetters + "crt"
)

// maxExpansion bounds a text while its macros are expanded. A name needs 253 bytes of it.
const maxExpansion = 16 << 10

// macro is one macro-expand. For "%%", "%_" and "%-" letter is the second character.
type macro struct {
	letter  byte
	escape  bool // upper case: escape for URLs
	parts   int  // how many parts on the right stay; 0 for all
	reverse bool
	delims  string
}

// parseMacro reads the macro at the start of s, which is "%". size is 0 for a syntax error.
func parseMacro(s, letters string) (m macro, size int) {
	if len(s) < 2 {
		return m, 0
	}
	switch s[1] {
	case '%', '_', '-':
		return macro{letter: s[1]}, 2
	case '{':
	default:
		return m, 0
	}
	end := strings.IndexByte(s, '}')
	if end < 3 {
		return m, 0
	}
	m.letter = s[2] | 0x20
	m.escape = s[2] != m.letter
	if !isAlpha(s[2]) || strings.IndexByte(letters, m.letter) < 0 {
		return m, 0
	}
	i := 3
	for ; isDigit(s[i]); i++ {
		m.parts = min(m.parts*10+int(s[i]-'0'), 1<<16)
	}
	if i > 3 && m.parts == 0 {
		return m, 0
	}
	if s[i]|0x20 == 'r' {
		m.reverse = true
		i++
	}
	m.delims = s[i:end]
	for j := 0; j < len(m.delims); j++ {
		if !isDelimiter(m.delims[j]) {
			return m, 0
		}
	}
	return m, end + 1
}

func isDelimiter(c byte) bool { return strings.IndexByte(".-+,/_=", c) >= 0 }

// isMacroString checks *( macro-expand / visible character ) (RFC 7208, 7.1).
func isMacroString(s, letters string) bool {
	_, ok := lastMacro(s, letters)
	return ok
}

// lastMacro checks a macro-string and tells where its last macro ends.
func lastMacro(s, letters string) (end int, ok bool) {
	for i := 0; i < len(s); {
		c := s[i]
		if c <= ' ' || c >= 0x7f {
			return 0, false
		}
		if c != '%' {
			i++
			continue
		}
		_, size := parseMacro(s[i:], letters)
		if size == 0 {
			return 0, false
		}
		i += size
		end = i
	}
	return end, true
}

// isDomainSpec checks macro-string domain-end: the end is a macro, or a dot and a top label (RFC 7208, 7.1).
func isDomainSpec(s string) bool {
	end, ok := lastMacro(s, nameLetters)
	if !ok || s == "" {
		return false
	}
	if end == len(s) {
		return true
	}
	tail := strings.TrimSuffix(s[end:], ".")
	dot := strings.LastIndexByte(tail, '.')
	return dot >= 0 && isTopLabel(tail[dot+1:])
}

// isTopLabel checks a toplabel (RFC 7208, 7.1): letters, digits and hyphens, but not digits alone, and no hyphen at an
// end.
func isTopLabel(s string) bool {
	if s == "" || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	numeric := true
	for i := 0; i < len(s); i++ {
		if !isDigit(s[i]) {
			numeric = false
			if !isAlpha(s[i]) && s[i] != '-' {
				return false
			}
		}
	}
	return !numeric
}

// usesMacro tells whether a domain-spec has a macro with one of letters.
func usesMacro(spec, letters string) bool {
	for i := strings.IndexByte(spec, '%'); i >= 0 && i < len(spec); {
		m, size := parseMacro(spec[i:], nameLetters)
		if strings.IndexByte(letters, m.letter) >= 0 {
			return true
		}
		i += size
		next := strings.IndexByte(spec[i:], '%')
		if next < 0 {
			return false
		}
		i += next
	}
	return false
}

// expand appends the expansion of a sound macro-string. ok is false when it grows beyond all reason.
func (c *checker) expand(b []byte, s, letters, domain string) (_ []byte, ok bool) {
	for {
		percent := strings.IndexByte(s, '%')
		if percent < 0 {
			return append(b, s...), len(b)+len(s) <= maxExpansion
		}
		b = append(b, s[:percent]...)
		m, size := parseMacro(s[percent:], letters)
		s = s[percent+size:]
		switch m.letter {
		case '%':
			b = append(b, '%')
		case '_':
			b = append(b, ' ')
		case '-':
			b = append(b, "%20"...)
		default:
			b = m.transform(b, c.value(m.letter, domain))
		}
		if len(b) > maxExpansion {
			return b, false
		}
	}
}

// value is what a macro letter stands for (RFC 7208, 7.2 and 7.3).
func (c *checker) value(letter byte, domain string) string {
	switch letter {
	case 's':
		return c.local + "@" + c.origin
	case 'l':
		return c.local
	case 'o':
		return c.origin
	case 'd':
		return domain
	case 'i':
		return c.dotted()
	case 'p':
		return c.clientName(domain)
	case 'v':
		if c.client.Is4() {
			return "in-addr"
		}
		return "ip6"
	case 'h':
		return c.helo
	case 'c':
		return c.client.String()
	case 'r':
		if c.receiver == "" {
			return "unknown"
		}
		return c.receiver
	default: // t
		return strconv.FormatInt(c.now.Unix(), 10)
	}
}

// dotted is the client's address with dots: between the octets, or between the nibbles of IPv6.
func (c *checker) dotted() string {
	if c.client.Is4() {
		return c.client.String()
	}
	const digits = "0123456789ABCDEF"
	b := make([]byte, 0, 63)
	for _, octet := range c.client.As16() {
		b = append(b, digits[octet>>4], '.', digits[octet&15], '.')
	}
	return string(b[:63])
}

// transform appends value after splitting, reversing, cutting and escaping (RFC 7208, 7.3).
func (m *macro) transform(b []byte, value string) []byte {
	if m.parts == 0 && !m.reverse && m.delims == "" {
		return m.append(b, value)
	}
	delims := m.delims
	if delims == "" {
		delims = "."
	}
	var space [40]string
	parts := space[:0]
	for {
		i := strings.IndexAny(value, delims)
		if i < 0 {
			break
		}
		parts, value = append(parts, value[:i]), value[i+1:]
	}
	parts = append(parts, value)
	first := 0
	if m.parts > 0 && m.parts < len(parts) {
		first = len(parts) - m.parts
	}
	for i := first; i < len(parts); i++ {
		if i > first {
			b = append(b, '.')
		}
		if m.reverse {
			b = m.append(b, parts[len(parts)-1-i])
		} else {
			b = m.append(b, parts[i])
		}
	}
	return b
}

func (m *macro) append(b []byte, value string) []byte {
	if !m.escape {
		return append(b, value...)
	}
	const digits = "0123456789ABCDEF"
	for i := 0; i < len(value); i++ {
		c := value[i]
		if isAlpha(c) || isDigit(c) || strings.IndexByte("-._~", c) >= 0 {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}
