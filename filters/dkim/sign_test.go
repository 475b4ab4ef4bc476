package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"math/big"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The keys of all tests.
var (
	edKey  = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	edText = "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(edKey.Public().(ed25519.PublicKey))
	rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		return key
	})
)

func rsaText(key *rsa.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic(err)
	}
	return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der)
}

// fakeKey is a public key of that size whose private half nobody has.
func fakeKey(bits uint) *rsa.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return &rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: 65537}
}

// signSimple signs by hand, with simple canonicalization, without the code under test: the field is given with "b=%s",
// and signed are the raw fields that h= means, in its order.
func signSimple(key crypto.Signer, signature, signed, body string) string {
	bodyHash := sha256.Sum256([]byte(body))
	signature = strings.Replace(signature, "bh=%s", "bh="+base64.StdEncoding.EncodeToString(bodyHash[:]), 1)
	hash := sha256.Sum256([]byte(signed + strings.Replace(signature, "b=%s", "b=", 1)))
	options := crypto.SignerOpts(crypto.Hash(0))
	if _, isRSA := key.(*rsa.PrivateKey); isRSA {
		options = crypto.SHA256
	}
	value, err := key.Sign(rand.Reader, hash[:], options)
	if err != nil {
		panic(err)
	}
	return strings.Replace(signature, "b=%s", "b="+base64.StdEncoding.EncodeToString(value), 1) + "\r\n"
}

const (
	fromField = "From: Joe <joe@example.org>\r\n"
	plainBody = "Hello\r\n"
	plainTags = "DKIM-Signature: v=1; a=ed25519-sha256; d=example.org; s=sel; h=from; bh=%s; b=%s"
)

// signed is a small message with one signature.
func signed(tags string) string {
	return signSimple(edKey, tags, fromField, plainBody) + fromField + "\r\n" + plainBody
}

// plainZone has the key of signed.
func plainZone() *filtertest.Zone { return zoneOf("sel._domainkey.example.org", edText) }

// zoneOf makes a zone of pairs of name and text.
func zoneOf(pairs ...string) *filtertest.Zone {
	zone := filtertest.NewZone()
	for i := 0; i < len(pairs); i += 2 {
		if err := zone.Add(pairs[i], "TXT", pairs[i+1]); err != nil {
			panic(err)
		}
	}
	return zone
}

func newMessage(text string) *filters.Message {
	m := filters.NewMessage(64<<20, nil)
	if _, err := m.Write([]byte(text)); err != nil {
		panic(err)
	}
	m.Complete()
	return m
}

func observe(t testing.TB, resolver filters.Resolver, text string) *Facts {
	t.Helper()
	return observeWith(t, Defaults(), resolver, text)
}

func observeWith(t testing.TB, config Config, resolver filters.Resolver, text string) *Facts {
	t.Helper()
	f, err := New(config, filtertest.NewEnv(resolver))
	if err != nil {
		t.Fatal(err)
	}
	m := newMessage(text)
	defer m.Release()
	facts, err := f.Message(t.Context(), filters.View{Message: m})
	if err != nil {
		t.Fatal(err)
	}
	return facts
}
