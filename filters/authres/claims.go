package authres

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

const fieldName = "Authentication-Results"

// mapping brings a domain name into the one form in which two spellings of it are equal (RFC 5891, 5; UTS 46).
var mapping = idna.New(idna.MapForLookup(), idna.StrictDomainName(false))

const (
	// maxWords is how many words in front of the first semicolon are looked at. There is one in a sound field, two with
	// a version.
	maxWords = 16
	// maxName bounds the bytes of these words: mapping takes quadratic time on labels that are no labels.
	maxName = 1024
	// noNames are the characters, beside white space, that are in no authserv-id of ours and separate its parts.
	noNames = `()<>@,;:\"/[]?=`
)

// ClaimsToBe tells whether a raw field, name included, is an Authentication-Results field that a reader behind us could
// take for one of authservID. A border server removes these (RFC 8601, 5).
//
// Spelling does not matter: case, quoting, comments, folding, a final dot, a version, U-labels and A-labels. Nor does
// it need sound syntax, as the readers to be protected have parsers of their own: a name torn apart by comments or
// strange characters counts, and one that stands among other words.
//
// A field whose authserv-id is absent, empty or unreadable (a comment or quoted string that does not end, an encoded
// word) claims to be ours as well. It is malformed, and what it gets from a careless reader is the trust that
// "no foreign name" gets. The price is that such fields of some large operators disappear; nothing in them could be
// relied on.
func ClaimsToBe(rawField []byte, authservID string) bool {
	name, body, found := strings.Cut(string(rawField), ":")
	if !found || !strings.EqualFold(strings.TrimRight(name, " \t"), fieldName) {
		return false
	}
	want := canonical(authservID)
	joined := ""
	s := scanner{text: body}
	for range maxWords {
		s.skip()
		if s.broken || s.at('=') {
			return true
		}
		if s.done() || s.at(';') {
			return joined == ""
		}
		start := s.pos
		word := s.word(noNames)
		if s.pos == start {
			s.pos++
		}
		joined += word
		if s.broken || len(joined) > maxName || strings.Contains(word, "=?") {
			return true
		}
		if word == "" {
			continue
		}
		if canonical(word) == want || canonical(joined) == want {
			return true
		}
	}
	return true
}

// canonical is the form of an authserv-id that all its spellings share.
func canonical(id string) string {
	id = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || r < utf8.RuneSelf && (isBlank(byte(r)) || strings.ContainsRune(noNames, r)) {
			return -1
		}
		return r
	}, id)
	// What cannot be mapped comes back as far as it could; two spellings of one name come equally far.
	if ascii, _ := mapping.ToASCII(id); ascii != "" {
		id = ascii
	}
	return strings.TrimRight(strings.ToLower(id), ".")
}
