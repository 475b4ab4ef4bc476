package dkim

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"

	"gatepost/filters"
)

const (
	maxKeyRecord = 16 << 10
	// maxKeys bounds the records of one name that are tried.
	maxKeys = 4
	// RSA keys outside of these sizes are not used: below, they can be broken (RFC 8301, 3.2); above, they are out of
	// use, and cost more than they are worth.
	minBits, maxBits = 1024, 4096
	// maxExponent is the exponent of nearly all keys. Larger ones cost many times as much.
	maxExponent = 65537
)

// answer is what the DNS says about one name.
type answer struct {
	name    string
	records []string
	err     error
}

func (a *answer) ask(ctx context.Context, resolver filters.Resolver) {
	a.records, a.err = resolver.LookupTXT(ctx, a.name)
}

// lookups are those for the keys of one message. Each name is asked for once, all at the same time. The answers may be
// read when asked is done; abandon must be called in any case.
type lookups struct {
	cancel  context.CancelFunc
	asked   sync.WaitGroup
	answers [maxSignatures]answer
}

// askForKeys starts the look-ups for the signatures that are still open and tells them where the answer will be.
func askForKeys(ctx context.Context, resolver filters.Resolver, signatures []*signature) *lookups {
	l := &lookups{cancel: func() {}}
	attempt := filters.AttemptOf(ctx) != nil // it waits for nothing, so nothing is started either
	if !attempt {
		ctx, l.cancel = context.WithCancel(ctx)
	}
	for i, s := range signatures {
		if s.result != "" {
			continue
		}
		if same := slices.IndexFunc(signatures[:i], func(t *signature) bool { return t.answer != nil && t.keyName == s.keyName }); same >= 0 {
			s.answer = signatures[same].answer
			continue
		}
		a := &l.answers[i]
		a.name, s.answer = s.keyName, a
		if attempt {
			a.ask(ctx, resolver)
		} else {
			l.asked.Go(func() { a.ask(ctx, resolver) })
		}
	}
	return l
}

// abandon ends what is left of the look-ups and waits for them.
func (l *lookups) abandon() {
	l.cancel()
	l.asked.Wait()
}

// failure tells why there is no record to try.
func (a *answer) failure() verdict {
	switch {
	case errors.Is(a.err, filters.ErrNXDomain), a.err == nil && len(a.records) == 0:
		return verdict{PermError, "no key"}
	case a.err != nil:
		return verdict{TempError, "the key cannot be had now"}
	case len(a.records) > maxKeys:
		return verdict{PermError, "too many key records"}
	}
	return verdict{}
}

// key is a key record (RFC 6376, 3.6.1).
type key struct {
	public crypto.PublicKey
	bits   int
	test   bool   // t=y
	strict bool   // t=s
	record string // what go-msgauth gets: the bare key, since it takes less liberal a view of the rest than readKey
}

// readKey reads a record for use with a signature. A record for another purpose is a failure.
func readKey(record string, s *signature) (k *key, failed verdict) {
	k = &key{}
	broken := verdict{PermError, "malformed key record"}
	if len(record) > maxKeyRecord {
		return k, broken
	}
	tags, ok := parseTags(record)
	if !ok {
		return k, broken
	}
	if v, found := tags.find("v"); found && (v.value != "DKIM1" || tags[0].name != "v") {
		return k, verdict{PermError, "unknown version of the key record"}
	}
	p, found := tags.find("p")
	kind, hasKind := tags.find("k")
	hashes, hasHashes := tags.find("h")
	services, hasServices := tags.find("s")
	switch {
	case !found:
		return k, broken
	case squeeze(p.value) == "":
		return k, verdict{PermError, "the key is revoked"}
	case hasKind && kind.value != s.keyType, !hasKind && s.keyType != "rsa":
		return k, verdict{PermError, "the key is for another algorithm"}
	case hasHashes && !listed(hashes.value, "sha256"):
		return k, verdict{PermError, "the key is for another hash"}
	case hasServices && !listed(services.value, "*") && !listed(services.value, "email"):
		return k, verdict{PermError, "the key is not for mail"}
	}
	flags := tags.value("t")
	k.test, k.strict = listed(flags, "y"), listed(flags, "s")
	text := squeeze(p.value)
	k.record = "v=DKIM1; k=" + s.keyType + "; p=" + text
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return k, broken
	}
	return k, k.readPublic(raw, s.keyType)
}

func (k *key) readPublic(raw []byte, kind string) verdict {
	if kind == "ed25519" { // RFC 8463, 4.2
		if len(raw) != ed25519.PublicKeySize {
			return verdict{PermError, "malformed key"}
		}
		k.public, k.bits = ed25519.PublicKey(raw), 8*ed25519.PublicKeySize
		return verdict{}
	}
	public, err := x509.ParsePKIXPublicKey(raw)
	if err != nil {
		public, err = x509.ParsePKCS1PublicKey(raw) // erratum 3017 of RFC 6376
	}
	rsaKey, ok := public.(*rsa.PublicKey)
	if err != nil || !ok {
		return verdict{PermError, "malformed key"}
	}
	k.public, k.bits = rsaKey, rsaKey.N.BitLen()
	if k.bits < minBits || k.bits > maxBits {
		return verdict{Policy, "RSA key of " + strconv.Itoa(k.bits) + " bits"}
	}
	if rsaKey.E > maxExponent {
		return verdict{Policy, "RSA key with an exponent above 65537"}
	}
	return verdict{}
}

// allows tells whether the key's t=s lets it sign for i= (RFC 6376, 3.6.1).
func (k *key) allows(s *signature) bool {
	domain, ok := s.identityDomain()
	return !k.strict || ok && strings.EqualFold(domain, s.domain)
}
