package arc

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

// The signer of the tests. It canonicalizes by regular expressions over whole texts, as RFC 6376 words it, and has
// nothing in common with what it tests.

var (
	blanks      = regexp.MustCompile(`[ \t]+`)
	folds       = regexp.MustCompile(`\r\n([ \t])`)
	lineBlanks  = regexp.MustCompile(`[ \t]+\r\n`)
	lastBreaks  = regexp.MustCompile(`(\r\n)*$`)
	fieldStarts = regexp.MustCompile(`(?m)^[^ \t\r\n]`)
)

func relaxedField(field string) string {
	name, value, _ := strings.Cut(field, ":")
	value = blanks.ReplaceAllString(folds.ReplaceAllString(strings.TrimSuffix(value, "\r\n"), "$1"), " ")
	return strings.ToLower(strings.TrimRight(name, " \t")) + ":" + strings.Trim(value, " ") + "\r\n"
}

func simpleField(field string) string { return field }

func simpleBody(body string) string { return lastBreaks.ReplaceAllString(body, "") + "\r\n" }

func relaxedBody(body string) string {
	body = lineBlanks.ReplaceAllString(body+"\r\n", "\r\n")
	if body = lastBreaks.ReplaceAllString(blanks.ReplaceAllString(body, " "), ""); body == "" {
		return ""
	}
	return body + "\r\n"
}

// signer is a server that seals what passes through it.
type signer struct {
	domain, selector string
	key              crypto.Signer
	names            string // h=
	canonical        string // c=
	results          string // authentication results, without the authserv-id
	extraSeal        string // more tags
	extraMessage     string
	sealsOnly        bool // its message signatures are none
}

func (s *signer) record() string {
	if public, ok := s.key.Public().(ed25519.PublicKey); ok {
		return "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(public)
	}
	der, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		panic(err)
	}
	return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der)
}

func (s *signer) sign(text string) string {
	hash := sha256.Sum256([]byte(text))
	options := crypto.SignerOpts(crypto.SHA256)
	if _, ok := s.key.(ed25519.PrivateKey); ok {
		options = crypto.Hash(0)
	}
	value, err := s.key.Sign(rand.Reader, hash[:], options)
	if err != nil {
		panic(err)
	}
	encoded := base64.StdEncoding.EncodeToString(value)
	half := len(encoded) / 2
	return encoded[:half] + "\r\n\t" + encoded[half:]
}

func (s *signer) algorithm() string {
	if _, ok := s.key.(ed25519.PrivateKey); ok {
		return "ed25519-sha256"
	}
	return "rsa-sha256"
}

// seal puts the next set on top of a message.
func (s *signer) seal(message string) string {
	header, body, _ := strings.Cut(message, "\r\n\r\n")
	fields := splitFields(header + "\r\n")
	var sets []string // relaxed, oldest first
	n := 1
	for ; ; n++ {
		set := ""
		for _, name := range fieldNames {
			for _, f := range fields {
				if strings.HasPrefix(f, name+":") && strings.Contains(f, fmt.Sprintf(" i=%d;", n)) {
					set += relaxedField(f)
				}
			}
		}
		if set == "" {
			break
		}
		sets = append(sets, set)
	}
	cv := "pass"
	if n == 1 {
		cv = "none"
	}
	aar := fmt.Sprintf("ARC-Authentication-Results: i=%d; mx.%s;\r\n\t%s\r\n", n, s.domain, s.results)

	headerKind, bodyKind, _ := strings.Cut(s.canonical, "/")
	canonical, canonicalBody := simpleField, simpleBody
	if headerKind == "relaxed" {
		canonical = relaxedField
	}
	if bodyKind == "relaxed" {
		canonicalBody = relaxedBody
	}
	bodyHash := sha256.Sum256([]byte(canonicalBody(body)))
	signed := ""
	rest := append([]string(nil), fields...)
	for _, name := range strings.Split(s.names, ":") {
		for i := len(rest) - 1; i >= 0; i-- {
			if strings.HasPrefix(strings.ToLower(rest[i]), strings.ToLower(name)+":") {
				signed += canonical(rest[i])
				rest[i] = ""
				break
			}
		}
	}
	ams := fmt.Sprintf("ARC-Message-Signature: i=%d; a=%s; c=%s; d=%s; s=%s;%s\r\n\th=%s;\r\n\tbh=%s; b=", n, s.algorithm(), s.canonical,
		s.domain, s.selector, s.extraMessage, s.names, base64.StdEncoding.EncodeToString(bodyHash[:]))
	if s.sealsOnly {
		ams += "bm8=\r\n"
	} else {
		ams += s.sign(signed+strings.TrimSuffix(canonical(ams+"\r\n"), "\r\n")) + "\r\n"
	}
	as := fmt.Sprintf("ARC-Seal: i=%d; a=%s; cv=%s; d=%s; s=%s;%s\r\n\tb=", n, s.algorithm(), cv, s.domain, s.selector, s.extraSeal)
	as += s.sign(strings.Join(sets, "")+relaxedField(aar)+relaxedField(ams)+strings.TrimSuffix(relaxedField(as+"\r\n"), "\r\n")) + "\r\n"
	return as + ams + aar + message
}

func splitFields(header string) []string {
	starts := fieldStarts.FindAllStringIndex(header, -1)
	fields := make([]string, len(starts))
	for i := range starts {
		end := len(header)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		fields[i] = header[starts[i][0]:end]
	}
	return fields
}

// rsaKey is one key for all tests: making them takes long.
var rsaKey = sync.OnceValue(func() *rsa.PrivateKey { return newRSAKey(2048) })

func newRSAKey(bits int) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return key
}

// newSigner makes a server of a domain whose key is in the zone.
func newSigner(zone *filtertest.Zone, domain string) *signer {
	s := &signer{domain: domain, selector: "arc", key: rsaKey(), names: "from:to:subject", canonical: "relaxed/relaxed", results: "dmarc=pass header.from=example.com"}
	s.publish(zone)
	return s
}

func (s *signer) publish(zone *filtertest.Zone) {
	name := s.selector + "._domainkey." + s.domain
	zone.Remove(name)
	if err := zone.Add(name, "TXT", s.record()); err != nil {
		panic(err)
	}
}

const letter = "Received: from a.example.com by b.example.net;\r\n\tMon, 5 Jan 2026 11:59:00 +0000\r\nFrom: Alice <alice@example.com>\r\n" +
	"To: list@lists.example.org\r\nSubject: hello\r\n  there \r\nMessage-ID: <1@example.com>\r\n\r\n" +
	"Hello  all,\r\n\r\nthis is \t a test. \r\n\r\n-- \r\nAlice\r\n\r\n\r\n"

func newMessage(text string) *filters.Message {
	m := filters.NewMessage(1<<30, nil)
	if _, err := io.WriteString(m, text); err != nil {
		panic(err)
	}
	m.Complete()
	return m
}

// validateText validates a whole message.
func validateText(t testing.TB, resolver filters.Resolver, text string) chain {
	t.Helper()
	m := newMessage(text)
	defer m.Release()
	c, err := validate(context.Background(), resolver, filtertest.Start, m)
	if err != nil {
		t.Fatal(err)
	}
	if (c.result == Pass || c.result == None) != (c.reason == "") {
		t.Errorf("%s with the reason %q", c.result, c.reason)
	}
	return c
}
