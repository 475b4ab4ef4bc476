package dkim

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"time"
)

// Own verification, only where go-msgauth v0.7.0 cannot do right: signatures for which beyondLibrary gives a reason, the
// second and later records of one key name (the library takes one record only), and signatures for which no pass of
// the body is left, which the library makes for each. It is about the header alone: whether the body is as such a
// signature says is still found out by go-msgauth.

// maxFolding bounds the bytes that go-msgauth copies to join folded lines: it copies what it has of a field with each
// line, so that a field of 64 KiB can cost it 0.2 s and a gigabyte.
const maxFolding = 256 << 10

// beyondLibrary tells whether a signature is one that go-msgauth would refuse if it were good, or that would cost it too
// much. head is what it would be shown.
func (v *verifier) beyondLibrary(s *signature, head []byte) bool {
	i, hasIdentity := s.tags.find("i")
	q, hasMethods := s.tags.find("q")
	c := squeeze(s.tags.value("c"))
	switch {
	case hasIdentity && !endsWithDomain(squeeze(i.value), squeeze(s.tags.value("d"))):
		return true // it compares d= and i= byte for byte, but readSignature knows them to fit
	case squeeze(s.tags.value("a")) != s.algorithm, c != strings.ToLower(c),
		hasMethods && !slices.Contains(strings.Split(squeeze(q.value), ":"), "dns/txt"):
		return true // it knows only the lower case, ABNF does not care (RFC 5234, 2.3)
	case s.expires != 0 && time.Unix(s.expires, 0).Before(time.Now().Add(time.Minute)):
		return true // it goes by the clock of the machine, and readSignature by that of the check
	case cutsTooMuch(s):
		return true
	case count(s.signed, fieldName) > v.count-1:
		return true // it counts the signature among the fields that h= can mean (RFC 6376, 3.5 forbids)
	}
	return folding(head) > maxFolding
}

func endsWithDomain(identity, domain string) bool {
	return strings.HasSuffix(identity, "@"+domain) || strings.HasSuffix(identity, "."+domain)
}

// cutsTooMuch tells whether there is a "b=" in the field beside the tag b=, as there can be in z=. The library takes the
// value of each out before it hashes the field.
func cutsTooMuch(s *signature) bool {
	n := 0
	for _, part := range [...][]byte{s.field.Raw[:s.valueStart], s.field.Raw[s.valueEnd:]} {
		for {
			before, after, found := bytes.Cut(part, []byte{'='})
			if !found {
				break
			}
			if bytes.HasSuffix(bytes.TrimRight(before, " \t\r\n\f"), []byte{'b'}) {
				n++
			}
			part = after
		}
	}
	return n > 1
}

func count(names []string, name string) (n int) {
	for _, candidate := range names {
		if strings.EqualFold(candidate, name) {
			n++
		}
	}
	return n
}

// folding is the number of bytes that are copied if each line is joined to what is there of its field.
func folding(head []byte) (copied int) {
	field := 0
	for line := range bytes.Lines(head) {
		if line[0] != ' ' && line[0] != '\t' {
			field = len(line)
			continue
		}
		field += len(line)
		copied += field
	}
	return copied
}

// bodyProbe is a header with a signature that says the same of the body, and that go-msgauth can read. It does not
// match, but go-msgauth says so only if the body does.
func bodyProbe(s *signature) []byte {
	canonicalization := "simple/simple"
	if s.bodyRelaxed {
		canonicalization = "simple/relaxed"
	}
	return []byte("DKIM-Signature: v=1; a=" + s.algorithm + "; c=" + canonicalization + "; d=" + s.domain + "; s=" + s.selector +
		"; h=from; bh=" + base64.StdEncoding.EncodeToString(s.bodyHash) + "; b=AAAA\r\n\r\n")
}

// verifyHeader returns the first key that verifies a signature whose body is intact, or nil.
func (v *verifier) verifyHeader(s *signature, keys []*key) *key {
	if len(keys) == 0 {
		return nil
	}
	hash := sha256.Sum256(v.signedHeader(s))
	for _, k := range keys {
		if k.verifies(hash[:], s.value) {
			return k
		}
	}
	return nil
}

// signedHeader is what a signature signs of the header (RFC 6376, 3.7): the fields that h= names, each name taking the
// next one from the bottom up, and at last the signature itself without its value. Names that are left over stand for
// nothing. The signature is not among the fields that h= can mean.
func (v *verifier) signedHeader(s *signature) []byte {
	var text []byte
	taken := make([]bool, len(v.header.Fields))
	for _, name := range s.signed {
		for i := len(taken) - 1; i >= 0; i-- {
			f := &v.header.Fields[i]
			if !taken[i] && f != s.field && f.Name != "" && strings.EqualFold(f.Name, name) {
				taken[i] = true
				text = appendField(text, f.Raw, s.headerRelaxed)
				break
			}
		}
	}
	unsigned := slices.Concat(s.field.Raw[:s.valueStart], s.field.Raw[s.valueEnd:])
	return bytes.TrimRight(appendField(text, unsigned, s.headerRelaxed), "\r\n")
}

// appendField appends a canonical field (RFC 6376, 3.4.1 and 3.4.2). raw has a name.
func appendField(dst, raw []byte, relaxed bool) []byte {
	if !relaxed {
		return appendWhole(dst, raw)
	}
	name, value, _ := bytes.Cut(raw, []byte{':'})
	dst = append(dst, bytes.ToLower(bytes.TrimRight(name, " \t"))...)
	dst = append(dst, ':')
	for i, word := range bytes.FieldsFunc(value, func(r rune) bool { return r < 0x80 && isWhite(byte(r)) }) {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = append(dst, word...)
	}
	return append(dst, "\r\n"...)
}

// verifies tells whether value is the signature of hash.
func (k *key) verifies(hash, value []byte) bool {
	switch public := k.public.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(public, hash, value)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, hash, value) == nil
	}
	return false
}
