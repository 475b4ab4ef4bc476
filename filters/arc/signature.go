package arc

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"gatepost/filters"
	"gatepost/filters/canonical"
)

// maxSigned bounds the names in h=. The longest lists seen in the wild have some 60.
const maxSigned = 200

// signed is what seals and message signatures have in common (RFC 8617, 4.1.2 and 4.1.3).
type signed struct {
	label                string // names it in reasons
	field                *filters.Field
	domain, selector     string // d= and s= with A-labels and in lower case
	algorithm            string // the first part of a=: "rsa" or "ed25519"
	value                []byte // b=
	valueStart, valueEnd int    // what of field.Raw is the value of b=
}

// messageSignature is the message signature that counts: that of the newest set.
type messageSignature struct {
	signed
	header, body canonical.Algorithm // c=
	names        []string            // h=; names and white space as written, without that around them
	bodyHash     []byte              // bh=
}

// keyName is where the key is published (RFC 6376, 3.6.2.1).
func (s *signed) keyName() string { return s.selector + "._domainkey." + s.domain }

// readSigned judges what can be seen of a signature without its key.
func readSigned(sets []set, index, kind int) (signed, error) {
	field, tags := sets[index].fields[kind], sets[index].tags[kind]
	s := signed{label: fieldNames[kind] + " " + strconv.Itoa(index+1), field: field}
	var ok bool
	if s.domain, ok = filters.ASCIIName(squeeze(tags.value("d"))); !ok {
		return s, s.problem("d= is no domain")
	}
	if s.selector, ok = filters.ASCIIName(squeeze(tags.value("s"))); !ok || len(s.keyName()) > filters.MaxName {
		return s, s.problem("s= is no selector")
	}
	switch tags.value("a") {
	case "rsa-sha256":
		s.algorithm = "rsa"
	case "ed25519-sha256":
		s.algorithm = "ed25519"
	case "rsa-sha1":
		return s, s.problem("rsa-sha1 is broken") // RFC 8301, 3.1
	default:
		return s, s.problem("unknown algorithm in a=")
	}
	if t, found := tags.find("t"); found && !isDigits(t.value, 12) { // RFC 6376, 3.5
		return s, s.problem("t= is no time")
	}
	if q, found := tags.find("q"); found && !listed(q.value, "dns/txt") {
		return s, s.problem("unknown query method in q=")
	}
	b, _ := tags.find("b")
	body := bytes.IndexByte(field.Raw, ':') + 1
	s.valueStart, s.valueEnd = body+b.start, body+b.end
	if s.value, ok = decode(b.value); !ok {
		return s, s.problem("b= holds no signature")
	}
	return s, nil
}

func (s *signed) problem(text string) error { return errors.New(s.label + ": " + text) }

// decode reads base64. It is strict about the bits that stand for nothing: no two texts are the same signature.
func decode(text string) (value []byte, ok bool) {
	value, err := base64.StdEncoding.Strict().DecodeString(squeeze(text))
	return value, err == nil && len(value) > 0
}

// readSeals reads all seals, oldest first.
func readSeals(sets []set) ([]signed, error) {
	seals := make([]signed, len(sets))
	for i := range sets {
		s, err := readSigned(sets, i, seal)
		if err == nil && sets[i].tags[seal].has("h") {
			err = s.problem("h= is not allowed") // RFC 8617, 4.1.3: what a seal covers is fixed
		}
		if err != nil {
			return nil, err
		}
		seals[i] = s
	}
	return seals, nil
}

// readMessageSignature reads the newest message signature.
func readMessageSignature(sets []set, now time.Time) (*messageSignature, error) {
	s, err := readSigned(sets, len(sets)-1, signature)
	if err != nil {
		return nil, err
	}
	m, tags := &messageSignature{signed: s}, sets[len(sets)-1].tags[signature]
	if err := m.readCanonicalization(tags); err != nil {
		return nil, err
	}
	var ok bool
	if m.bodyHash, ok = decode(tags.value("bh")); !ok {
		return nil, m.problem("bh= holds no hash")
	}
	if tags.has("l") { // RFC 6376, 8.2
		return nil, m.problem("l= leaves the end of the body unsigned")
	}
	if x, found := tags.find("x"); found {
		seconds, _ := strconv.ParseInt(x.value, 10, 64)
		if !isDigits(x.value, 12) || now.Unix() > seconds {
			return nil, m.problem("x= is no time, or has passed")
		}
	}
	return m, m.readNames(tags)
}

func (m *messageSignature) readCanonicalization(tags tagList) error {
	c, found := tags.find("c")
	header, body, hasBody := strings.Cut(c.value, "/")
	if !found {
		header = "simple" // RFC 6376, 3.5
	}
	if !hasBody {
		body = "simple"
	}
	var headerOK, bodyOK bool
	m.header, headerOK = canonical.Named(header)
	m.body, bodyOK = canonical.Named(body)
	if !headerOK || !bodyOK {
		return m.problem("unknown canonicalization in c=")
	}
	return nil
}

// readNames reads h=. Other than in DKIM it may be empty, hold empty names, and leave out From: signers with such lists
// exist, and what they are worth is for [trusts] to say.
func (m *messageSignature) readNames(tags tagList) error {
	h, found := tags.find("h")
	if !found {
		return m.problem("h= is missing")
	}
	if strings.Count(h.value, ":") >= maxSigned {
		return m.problem(fmt.Sprintf("more than %d names in h=", maxSigned))
	}
	m.names = strings.Split(h.value, ":")
	for i, name := range m.names {
		m.names[i] = strings.Trim(name, white)
		if strings.EqualFold(m.names[i], fieldNames[seal]) { // RFC 8617, 4.1.2
			return m.problem("h= holds ARC-Seal")
		}
	}
	return nil
}

// coversFrom tells whether every From field is signed, and there is one: otherwise somebody could have put his own in.
func (m *messageSignature) coversFrom(fields []filters.Field) bool {
	present, covered := 0, 0
	for i := range fields {
		if strings.EqualFold(fields[i].Name, "From") {
			present++
		}
	}
	for _, name := range m.names {
		if strings.EqualFold(name, "From") {
			covered++
		}
	}
	return present > 0 && covered >= present
}
