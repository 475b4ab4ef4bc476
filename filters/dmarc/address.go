package dmarc

import (
	"strings"

	"gatepost/filters"
)

// maxFrom bounds the value of a From field.
const maxFrom = 16 << 10

// addressDomain finds the one domain in the unfolded value of a From field: an address-list (RFC 5322, 3.4; RFC 6854 for
// groups, RFC 6532 for UTF-8). Several addresses of one domain are fine. Of what RFC 5322 calls obsolete, source routes
// and empty list elements are read, white space within a domain is not. Beyond it, an "@" and dots may stand in a display
// name without quotes, and a local part may have its dots anywhere: both are common, and no program reads them otherwise.
func addressDomain(value string) (string, error) {
	tokens, err := scan(value)
	if err != nil {
		return "", err
	}
	var (
		l                    addressList
		element              []token
		inAngle, inGroup, ok = false, false, true
		behindGroup          bool
	)
	for i := 0; i < len(tokens) && ok && l.err == nil; i++ {
		t := tokens[i]
		switch {
		case inAngle || t.kind == '<':
			element = append(element, t)
			ok = !(inAngle && t.kind == '<') && !behindGroup
			inAngle = t.kind != '>'
		case t.kind == ',':
			l.add(element)
			element, behindGroup = element[:0], false
		case t.kind == ':':
			ok = !inGroup && !behindGroup && isPhrase(element)
			element, inGroup = element[:0], true
		case t.kind == ';':
			ok = inGroup
			l.add(element)
			element, inGroup, behindGroup = element[:0], false, true
		default:
			element = append(element, t)
			ok = !behindGroup
		}
	}
	if !ok || inAngle || inGroup {
		return "", errSyntax
	}
	l.add(element)
	if l.err == nil && l.domain == "" {
		l.err = errNoAddress
	}
	return l.domain, l.err
}

// addressList is what the addresses so far have in common.
type addressList struct {
	domain string
	err    error
}

// add reads one element of the list: a mailbox, or nothing.
func (l *addressList) add(element []token) {
	if len(element) == 0 || l.err != nil {
		return
	}
	domain, err := mailboxDomain(element)
	switch {
	case err != nil:
		l.domain, l.err = "", err
	case l.domain != "" && l.domain != domain:
		l.domain, l.err = "", errDomains
	default:
		l.domain = domain
	}
}

// mailboxDomain reads an addr-spec, or one in angle brackets behind a display name.
func mailboxDomain(element []token) (string, error) {
	open := 0
	for open < len(element) && element[open].kind != '<' {
		open++
	}
	if open == len(element) {
		return addrSpecDomain(element)
	}
	inner := element[open+1 : len(element)-1]
	if element[len(element)-1].kind != '>' || open > 0 && !isDisplayName(element[:open]) {
		return "", errSyntax
	}
	if len(inner) > 0 && inner[0].kind == '@' { // obs-route
		for inner[0].kind != ':' {
			if strings.IndexByte("@.,a", inner[0].kind) < 0 || len(inner) == 1 {
				return "", errSyntax
			}
			inner = inner[1:]
		}
		inner = inner[1:]
	}
	return addrSpecDomain(inner)
}

func isPhrase(tokens []token) bool {
	for _, t := range tokens {
		if t.kind != word && t.kind != quoted && t.kind != '.' {
			return false
		}
	}
	return len(tokens) > 0
}

func isDisplayName(tokens []token) bool {
	for _, t := range tokens {
		if t.kind != word && t.kind != quoted && t.kind != '.' && t.kind != '@' {
			return false
		}
	}
	return true
}

// addrSpecDomain reads local-part "@" domain. White space and comments may stand around the two, not within them.
func addrSpecDomain(tokens []token) (string, error) {
	at := 0
	for at < len(tokens) && tokens[at].kind != '@' {
		if k := tokens[at].kind; at > 0 && tokens[at].spaced || k != word && k != quoted && k != '.' {
			return "", errSyntax
		}
		at++
	}
	if at == 0 || at >= len(tokens)-1 {
		return "", errSyntax
	}
	domain := tokens[at+1:]
	if len(domain) == 1 && domain[0].kind == literal {
		return "", errLiteral
	}
	for i, t := range domain {
		if i > 0 && t.spaced || i%2 == 0 && t.kind != word || i%2 == 1 && t.kind != '.' {
			return "", errSyntax
		}
	}
	if len(domain)%2 == 0 {
		return "", errSyntax
	}
	var name strings.Builder
	for _, t := range domain {
		name.WriteString(t.text)
	}
	if ascii, ok := filters.ASCIIName(name.String()); ok {
		return ascii, nil
	}
	return "", errSyntax
}

// Kinds of tokens besides the special characters, which are their own.
const (
	word    = 'a'
	quoted  = 'q'
	literal = 'l'
)

// token is a word, a quoted string, a domain literal or a special character (RFC 5322, 3.2.3).
type token struct {
	kind   byte
	text   string // as written
	spaced bool   // white space or a comment stands before it
}

// scan splits a value into tokens. Nothing in it recurses.
func scan(value string) ([]token, error) {
	if len(value) > maxFrom {
		return nil, errSyntax
	}
	tokens := make([]token, 0, 16)
	spaced := false
	for pos := 0; pos < len(value); {
		start := pos
		kind := value[pos]
		switch {
		case kind == ' ' || kind == '\t':
			pos++
			spaced = true
			continue
		case kind == '(':
			if pos = behindComment(value, pos); pos < 0 {
				return nil, errSyntax
			}
			spaced = true
			continue
		case kind == '"':
			kind, pos = quoted, behindQuotes(value, pos, '"')
		case kind == '[':
			kind, pos = literal, behindQuotes(value, pos, ']')
		case isSpecial(kind):
			pos++
		default:
			for pos < len(value) && isAtomByte(value[pos]) {
				pos++
			}
			if pos == start {
				return nil, errSyntax // a control character
			}
			kind = word
		}
		if pos < 0 || kind == '\\' || kind == ')' || kind == ']' {
			return nil, errSyntax
		}
		tokens = append(tokens, token{kind, value[start:pos], spaced})
		spaced = false
	}
	return tokens, nil
}

func isSpecial(c byte) bool { return strings.IndexByte(`()<>[]:;@\,."`, c) >= 0 }

func isAtomByte(c byte) bool { return c > ' ' && c != 0x7f && !isSpecial(c) }

// behindQuotes is where a quoted string or domain literal ends that begins at pos, or -1 if it does not.
func behindQuotes(value string, pos int, end byte) int {
	for pos++; pos < len(value); pos++ {
		switch value[pos] {
		case '\\':
			pos++
		case end:
			return pos + 1
		}
	}
	return -1
}

// behindComment is where a comment ends that begins at pos, or -1 if it does not. Comments nest.
func behindComment(value string, pos int) int {
	for depth := 0; pos < len(value); pos++ {
		switch value[pos] {
		case '\\':
			pos++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return pos + 1
			}
		}
	}
	return -1
}
