package dkim

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"gatepost/filters"
	"gatepost/filters/canonical"
)

const (
	fieldName = "DKIM-Signature"
	// maxSigned bounds the names in h=. The longest lists seen in the wild have some 60.
	maxSigned = 200
	// maxAhead is how far a signer's clock may be ahead of ours.
	maxAhead = 24 * time.Hour
)

// verdict is what became of one signature. The zero result means that it is still open.
type verdict struct {
	result Result
	reason string
}

// signature is one DKIM-Signature field (RFC 6376, 3.5). Where it is malformed, what could be read before the mistake
// is there for reports.
type signature struct {
	field *filters.Field
	tags  tagList
	verdict
	domain, selector, identity string // d= and s= with A-labels and in lower case; i= as written
	algorithm                  string // a= in lower case
	keyType                    string // its first part: "rsa" or "ed25519"
	bits                       int    // of the key that was used last
	lengthUsed, expired, test  bool

	headerAlgorithm, bodyAlgorithm canonical.Algorithm // c=

	signed               []string // h= in lower case
	bodyHash, value      []byte   // bh= and b=
	prefix               string   // the first characters of b=
	valueStart, valueEnd int      // what of field.Raw is the value of b=
	expires              int64    // x=, or 0

	keyName string  // where the key is published (RFC 6376, 3.6.2.1)
	answer  *answer // what is published there; nil if nobody asked
}

func (s *signature) decide(result Result, reason string) { s.result, s.reason = result, reason }

// marks names what is peculiar about the signature.
func (s *signature) marks() string {
	text := ""
	for _, mark := range [...]struct {
		is   bool
		name string
	}{{s.lengthUsed, " length"}, {s.expired, " expired"}, {s.test, " testing"}} {
		if mark.is {
			text += mark.name
		}
	}
	return strings.TrimPrefix(text, " ")
}

// readSignature judges what can be seen without the key and without the rest of the message. Only a signature that is
// still open afterwards is worth a look-up.
func readSignature(field *filters.Field, now time.Time) *signature {
	s := &signature{field: field}
	raw := string(field.Raw)
	body := strings.IndexByte(raw, ':') + 1
	tags, ok := parseTags(raw[body:])
	if !ok {
		s.decide(Neutral, "malformed list of tags")
		return s
	}
	s.tags = tags
	if b, found := tags.find("b"); found {
		s.valueStart, s.valueEnd = body+b.start, body+b.end
	}
	for _, read := range [...]func(*signature, tagList){
		(*signature).readSigner, (*signature).readMethod, (*signature).readValues,
		(*signature).readSignedFields, (*signature).readIdentity,
	} {
		if read(s, tags); s.result != "" {
			return s
		}
	}
	s.readTimes(tags, now)
	if _, s.lengthUsed = tags.find("l"); s.lengthUsed && s.result == "" {
		s.decide(Policy, "l= leaves the end of the body unsigned") // RFC 6376, 8.2
	}
	return s
}

func (s *signature) readSigner(tags tagList) {
	var domainOK, selectorOK bool
	s.domain, domainOK = filters.ASCIIName(squeeze(tags.value("d")))
	s.selector, selectorOK = filters.ASCIIName(squeeze(tags.value("s")))
	s.keyName = s.selector + "._domainkey." + s.domain
	s.prefix = prefix(tags.value("b"))
	switch {
	case tags.value("v") != "1":
		s.decide(Neutral, "v= is not 1")
	case !domainOK:
		s.domain = ""
		s.decide(Neutral, "d= is no domain")
	case !selectorOK || len(s.keyName) > filters.MaxName:
		s.selector = ""
		s.decide(Neutral, "s= is no selector")
	}
}

// prefix is what header.b shows of a signature (RFC 6008, 4).
func prefix(value string) string {
	shown := make([]byte, 0, 8)
	for i := 0; i < len(value) && len(shown) < cap(shown); i++ {
		if !isWhite(value[i]) {
			shown = append(shown, value[i])
		}
	}
	return string(shown)
}

func (s *signature) readMethod(tags tagList) {
	switch a := strings.ToLower(squeeze(tags.value("a"))); a {
	case "rsa-sha256", "ed25519-sha256":
		s.algorithm = a
		s.keyType, _, _ = strings.Cut(a, "-")
	case "rsa-sha1":
		s.algorithm = a
		s.decide(Policy, "rsa-sha1 is broken") // RFC 8301, 3.1
		return
	default:
		s.decide(Neutral, "unknown algorithm in a=")
		return
	}
	if q, found := tags.find("q"); found && !listed(q.value, "dns/txt") {
		s.decide(Neutral, "unknown query method in q=")
		return
	}
	header, body, hasBody := strings.Cut(strings.ToLower(squeeze(tags.value("c"))), "/")
	if header == "" && !hasBody {
		header = "simple"
	}
	if !hasBody {
		body = "simple"
	}
	var headerOK, bodyOK bool
	s.headerAlgorithm, headerOK = canonical.Named(header)
	s.bodyAlgorithm, bodyOK = canonical.Named(body)
	if !headerOK || !bodyOK {
		s.decide(Neutral, "unknown canonicalization in c=")
	}
}

func (s *signature) readValues(tags tagList) {
	var errValue, errHash error
	s.value, errValue = base64.StdEncoding.DecodeString(squeeze(tags.value("b")))
	s.bodyHash, errHash = base64.StdEncoding.DecodeString(squeeze(tags.value("bh")))
	switch {
	case errValue != nil || len(s.value) == 0:
		s.decide(Neutral, "b= holds no signature")
	case errHash != nil || len(s.bodyHash) == 0:
		s.decide(Neutral, "bh= holds no hash")
	}
}

func (s *signature) readSignedFields(tags tagList) {
	list := strings.ToLower(squeeze(tags.value("h")))
	if strings.Count(list, ":") >= maxSigned {
		s.decide(Policy, "more than 200 names in h=")
		return
	}
	if !listed(list, "from") { // RFC 6376, 5.4
		s.decide(Neutral, "h= does not hold From")
		return
	}
	s.signed = strings.Split(list, ":")
}

// readIdentity compares i= and d=, for which upper and lower case are the same (RFC 6376, 3.5).
func (s *signature) readIdentity(tags tagList) {
	i, found := tags.find("i")
	if !found {
		return
	}
	s.identity = squeeze(i.value)
	if domain, ok := s.identityDomain(); !ok || !filters.IsWithin(domain, s.domain) {
		s.decide(Neutral, "i= is not within d=")
	}
}

func (s *signature) identityDomain() (string, bool) {
	if s.identity == "" {
		return s.domain, true
	}
	at := strings.LastIndexByte(s.identity, '@')
	if at < 0 {
		return "", false
	}
	return filters.ASCIIName(s.identity[at+1:])
}

func (s *signature) readTimes(tags tagList, now time.Time) {
	signed, hasSigned, signedOK := seconds(tags, "t")
	expires, hasExpiry, expiryOK := seconds(tags, "x")
	s.expires = expires
	switch {
	case !signedOK:
		s.decide(Neutral, "t= is no time")
	case !expiryOK:
		s.decide(Neutral, "x= is no time")
	case hasSigned && hasExpiry && expires <= signed:
		s.decide(Neutral, "x= is not after t=")
	case hasExpiry && expires < now.Unix():
		s.expired = true
		s.decide(Policy, "expired")
	case hasSigned && signed > now.Add(maxAhead).Unix():
		s.decide(Policy, "signed in the future")
	}
}

// seconds reads a time (RFC 6376, 3.5: digits; at least 12 of them must be understood). found is false without the tag.
func seconds(tags tagList, name string) (value int64, found, ok bool) {
	t, found := tags.find(name)
	if !found {
		return 0, false, true
	}
	n, err := strconv.ParseUint(squeeze(t.value), 10, 62)
	return int64(n), true, err == nil
}
