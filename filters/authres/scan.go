package authres

import "strings"

// scanner walks over the body of a structured field (RFC 5322, 3.2). Nothing in it recurses, so nesting costs nothing.
type scanner struct {
	text string
	pos  int
	// broken tells that a comment or a quoted string did not end before the text did: everything behind its start is
	// swallowed, so that it cannot be taken for syntax.
	broken bool
}

func (s *scanner) done() bool { return s.pos >= len(s.text) }

// at tells whether c is the next byte.
func (s *scanner) at(c byte) bool { return s.pos < len(s.text) && s.text[s.pos] == c }

// accept steps over c if it is the next byte.
func (s *scanner) accept(c byte) bool {
	if !s.at(c) {
		return false
	}
	s.pos++
	return true
}

// isBlank is white space in the wide sense: line ends are folding, and a control character separates like a space.
func isBlank(c byte) bool { return c <= ' ' || c == 0x7f }

// skip steps over comments, folding and white space (CFWS, RFC 5322, 3.2.2).
func (s *scanner) skip() {
	for !s.done() {
		switch c := s.text[s.pos]; {
		case isBlank(c):
			s.pos++
		case c == '(':
			s.comment()
		default:
			return
		}
	}
}

// comment moves from an opening parenthesis to behind the one that closes it.
func (s *scanner) comment() {
	for depth := 0; !s.done(); s.pos++ {
		switch s.text[s.pos] {
		case '\\':
			s.pos++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				s.pos++
				return
			}
		}
	}
	s.pos, s.broken = len(s.text), true
}

// quoted reads a quoted string and returns what it means. Line ends in it are folding.
func (s *scanner) quoted(b *strings.Builder) {
	for s.pos++; !s.done(); s.pos++ {
		switch c := s.text[s.pos]; c {
		case '"':
			s.pos++
			return
		case '\r', '\n':
		case '\\':
			if s.pos++; s.done() {
				s.broken = true
				return
			}
			b.WriteByte(s.text[s.pos])
		default:
			b.WriteByte(c)
		}
	}
	s.broken = true
}

// word reads bare characters and quoted strings as long as nothing separates them: up to white space, a comment, a
// semicolon, or one of stop. Behind skip, and before the end and a semicolon, it moves unless it is at one of stop.
func (s *scanner) word(stop string) string {
	var b strings.Builder
	for !s.done() {
		c := s.text[s.pos]
		if c == '"' {
			s.quoted(&b)
			continue
		}
		if isBlank(c) || c == '(' || c == ';' || strings.IndexByte(stop, c) >= 0 {
			break
		}
		b.WriteByte(c)
		s.pos++
	}
	return b.String()
}

// name reads a run of characters that make up keywords; never anything quoted.
func (s *scanner) name() string {
	start := s.pos
	for !s.done() && (isKeywordByte(s.text[s.pos]) || s.text[s.pos] == '_') {
		s.pos++
	}
	return s.text[start:s.pos]
}

// nextSegment steps behind the next semicolon that is neither in a comment nor in a quoted string.
func (s *scanner) nextSegment() {
	for {
		s.skip()
		if s.done() || s.accept(';') {
			return
		}
		s.word("")
	}
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// isKeywordByte tells the characters of a Keyword (RFC 8601, 2.2, from RFC 5321, 4.1.2).
func isKeywordByte(c byte) bool { return isAlphanumeric(c) || c == '-' }

// isTokenByte tells the characters of a token (RFC 2045, 5.1).
func isTokenByte(c byte) bool {
	return c > ' ' && c < 0x7f && strings.IndexByte(`()<>@,;:\"/[]?=`, c) < 0
}
