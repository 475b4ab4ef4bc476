package arc

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"

	"gatepost/filters"
)

const (
	maxKeyRecord = 16 << 10
	// RSA keys outside of these sizes are not used: below, they can be broken (RFC 8301, 3.2); above, they are out of
	// use, and cost more than they are worth.
	minBits, maxBits = 1024, 4096
	// The time that a check takes grows with the exponent. Nobody signs with a larger one than this.
	maxExponent = 65537
)

// errTemporary is wrapped by what may be different at another time.
var errTemporary = errors.New("the key cannot be had now")

// keyring holds the keys of one chain. Each name is asked for once, all at the same time: at most 50 seals and a message
// signature have 51 names. The answers may be read when asked is done; abandon must be called in any case.
type keyring struct {
	cancel  context.CancelFunc
	asked   sync.WaitGroup
	answers []*answer
}

// answer is what the DNS says about one name.
type answer struct {
	name    string
	records []string
	err     error

	read   bool // the fields below are set
	public crypto.PublicKey
	kind   string // k=
	broken error  // why there is no public key
}

func askForKeys(ctx context.Context, resolver filters.Resolver, m *messageSignature, seals []signed) *keyring {
	k := &keyring{}
	ctx, k.cancel = context.WithCancel(ctx)
	k.ask(ctx, resolver, &m.signed)
	for i := range seals {
		k.ask(ctx, resolver, &seals[i])
	}
	return k
}

func (k *keyring) ask(ctx context.Context, resolver filters.Resolver, s *signed) {
	name := s.keyName()
	if k.find(name) != nil {
		return
	}
	a := &answer{name: name}
	k.answers = append(k.answers, a)
	if filters.AttemptOf(ctx) != nil {
		a.records, a.err = resolver.LookupTXT(ctx, name)
		return
	}
	k.asked.Go(func() { a.records, a.err = resolver.LookupTXT(ctx, name) })
}

// abandon ends what is left of the look-ups and waits for them.
func (k *keyring) abandon() {
	k.cancel()
	k.asked.Wait()
}

func (k *keyring) find(name string) *answer {
	for _, a := range k.answers {
		if a.name == name {
			return a
		}
	}
	return nil
}

// verify checks a signature over hash.
func (k *keyring) verify(s *signed, hash []byte) error {
	a := k.find(s.keyName())
	if !a.read {
		a.read = true
		a.readKey()
	}
	if a.broken != nil {
		return fmt.Errorf("%s: %w", s.label, a.broken)
	}
	if a.kind != s.algorithm {
		return s.problem("the key is for another algorithm")
	}
	ok := false
	switch public := a.public.(type) {
	case ed25519.PublicKey: // RFC 8463, 3: the hash is what is signed
		ok = ed25519.Verify(public, hash, s.value)
	case *rsa.PublicKey:
		ok = rsa.VerifyPKCS1v15(public, crypto.SHA256, hash, s.value) == nil
	}
	if !ok {
		return s.problem("the signature does not match")
	}
	return nil
}

// readKey finds the one record that is a key. RFC 6376, 3.6.2.2 leaves open what several mean; trying them all would
// multiply the cost of a chain.
func (a *answer) readKey() {
	switch {
	case errors.Is(a.err, filters.ErrNXDomain), a.err == nil && len(a.records) == 0:
		a.broken = errors.New("there is no key")
		return
	case a.err != nil:
		a.broken = errTemporary
		return
	}
	for _, record := range a.records {
		public, kind, err := parseKey(record)
		switch {
		case err != nil && a.public == nil && a.broken == nil:
			a.broken = err
		case err == nil && a.public != nil:
			a.broken = errors.New("there are several keys")
			return
		case err == nil:
			a.public, a.kind, a.broken = public, kind, nil
		}
	}
}

var errKeyRecord = errors.New("malformed key record")

// parseKey reads a key record (RFC 6376, 3.6.1). Its flags (t=) are about DKIM alone: ARC knows no i= to compare, and no
// test mode.
func parseKey(record string) (public crypto.PublicKey, kind string, err error) {
	if len(record) > maxKeyRecord {
		return nil, "", errKeyRecord
	}
	tags, ok := parseTags(record)
	p, hasKey := tags.find("p")
	if !ok || !hasKey {
		return nil, "", errKeyRecord
	}
	if v, found := tags.find("v"); found && (v.value != "DKIM1" || tags[0].name != "v") {
		return nil, "", errors.New("unknown version of the key record")
	}
	if h, found := tags.find("h"); found && !listed(h.value, "sha256") {
		return nil, "", errors.New("the key is for another hash")
	}
	if s, found := tags.find("s"); found && !listed(s.value, "*") && !listed(s.value, "email") {
		return nil, "", errors.New("the key is not for mail")
	}
	if p.value == "" {
		return nil, "", errors.New("the key is revoked")
	}
	if kind = tags.value("k"); kind == "" {
		kind = "rsa"
	}
	raw, ok := decode(p.value)
	if !ok {
		return nil, "", errKeyRecord
	}
	public, err = parsePublic(raw, kind)
	return public, kind, err
}

func parsePublic(raw []byte, kind string) (crypto.PublicKey, error) {
	switch kind {
	case "ed25519": // RFC 8463, 4.2
		if len(raw) != ed25519.PublicKeySize {
			return nil, errKeyRecord
		}
		return ed25519.PublicKey(raw), nil
	case "rsa":
		public, err := x509.ParsePKIXPublicKey(raw)
		if err != nil {
			public, err = x509.ParsePKCS1PublicKey(raw) // erratum 3017 of RFC 6376
		}
		key, ok := public.(*rsa.PublicKey)
		if err != nil || !ok {
			return nil, errKeyRecord
		}
		if bits := key.N.BitLen(); bits < minBits || bits > maxBits {
			return nil, fmt.Errorf("the RSA key has %d bits", bits)
		}
		if key.E > maxExponent {
			return nil, fmt.Errorf("the RSA key has the exponent %d", key.E)
		}
		return key, nil
	}
	return nil, errors.New("unknown kind of key")
}
