package dkim

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"

	"gatepost/filters"
	"gatepost/filters/canonical"
)

// content is what the signatures of one message are about: fields of its header, and the hashes of its body, which are
// the same for all of them.
type content struct {
	fields []filters.Field
	body   *canonical.Body // has ended
}

// verify tells whether a signature is good, and by which of the keys, of which there is at least one. Without a good one
// the first stands for all.
func (c *content) verify(s *signature, keys []*key) (verdict, *key) {
	if !bytes.Equal(c.body.Sum(s.bodyAlgorithm), s.bodyHash) {
		return verdict{Fail, "the body was changed"}, keys[0]
	}
	hash := c.signedHash(s)
	for _, k := range keys {
		if k.verifies(hash[:], s.value) {
			return verdict{Pass, ""}, k
		}
	}
	return verdict{Fail, "the signature does not match"}, keys[0]
}

// signedHash is the hash that is signed (RFC 6376, 3.7).
func (c *content) signedHash(s *signature) [sha256.Size]byte {
	text := s.headerAlgorithm.AppendSigned(make([]byte, 0, 2<<10), c.fields, s.signed, s.field)
	return sha256.Sum256(s.headerAlgorithm.AppendUnsigned(text, s.field.Raw, s.valueStart, s.valueEnd))
}

// verifies tells whether value is the signature of hash.
func (k *key) verifies(hash, value []byte) bool {
	switch public := k.public.(type) {
	case ed25519.PublicKey: // RFC 8463, 3: the hash is what is signed
		return ed25519.Verify(public, hash, value)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, hash, value) == nil
	}
	return false
}
