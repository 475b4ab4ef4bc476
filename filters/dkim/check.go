package dkim

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"gatepost/filters"
)

// Bounds of a message whose signatures are checked. They are looked at before any key is asked for or anything hashed.
const (
	maxHeader     = 64 << 10
	maxFields     = 1000
	maxSignatures = 5
)

// Result is the outcome for a signature or for all of them (RFC 8601, 2.7.1).
type Result string

// The results.
const (
	None      Result = "none"
	Pass      Result = "pass"
	Fail      Result = "fail"
	Policy    Result = "policy"
	Neutral   Result = "neutral"
	TempError Result = "temperror"
	PermError Result = "permerror"
)

// check is the check of one message.
type check struct {
	resolver filters.Resolver
	now      time.Time
	testKeys bool      // keys in test mode count like others
	keys     *keyCache // nil: none

	count      int // DKIM-Signature fields
	signatures []*signature
	verifier   *verifier // nil before the message is complete
	// refused is the result for all signatures of a message that is out of bounds.
	refused verdict
}

// run returns an error only when the message cannot be read to its end.
func (c *check) run(ctx context.Context, m *filters.Message) error {
	header, err := m.Header(ctx)
	if err != nil {
		return err
	}
	found := signatureFields(header)
	c.count = len(found)
	if c.refused = outOfBounds(header, len(found)); c.refused.result != "" || len(found) == 0 {
		return nil
	}
	hasFrom := slices.ContainsFunc(header.Fields, func(f filters.Field) bool { return strings.EqualFold(f.Name, "from") })
	open := false
	for _, field := range found[:min(len(found), maxSignatures)] {
		s := readSignature(field, c.now)
		if s.result == "" && !hasFrom {
			s.decide(PermError, "the message has no From")
		}
		open = open || s.result == ""
		c.signatures = append(c.signatures, s)
	}
	if !open {
		return nil
	}
	return c.verify(ctx, m, header)
}

// signatureFields finds the signatures from the top down.
func signatureFields(header *filters.Header) []*filters.Field {
	var found []*filters.Field
	for i := range header.Fields {
		if strings.EqualFold(header.Fields[i].Name, fieldName) {
			found = append(found, &header.Fields[i])
		}
	}
	return found
}

// outOfBounds is the verdict for a message that is not checked at all. Nothing is said of an unsigned one, unless there
// is no telling whether it is unsigned.
func outOfBounds(header *filters.Header, signatures int) verdict {
	switch {
	case header.Cut, signatures > 0 && header.Size > maxHeader:
		return verdict{Policy, "the header is larger than 64 KiB"}
	case signatures > 0 && len(header.Fields) > maxFields:
		return verdict{Policy, "the header has more than 1000 fields"}
	case signatures == 0:
		return verdict{}
	}
	var ends lineEnds
	for i := range header.Fields {
		if !ends.crlfOnly(header.Fields[i].Raw) {
			return verdict{PermError, errLineEnds.Error()}
		}
	}
	if ends.open {
		return verdict{PermError, errLineEnds.Error()}
	}
	return verdict{}
}

// verify asks for the keys while the message arrives, and has each signature verified when both are there.
func (c *check) verify(ctx context.Context, m *filters.Message, header *filters.Header) error {
	lookups, cancel := context.WithCancel(ctx)
	answers := askForKeys(lookups, c.resolver, c.signatures)
	pending := cap(answers)
	defer func() {
		cancel()
		for ; pending > 0; pending-- {
			<-answers
		}
	}()
	g := &guard{skip: int64(header.Size) + 2} // the empty line
	_, err := m.Reader(ctx).WriteTo(g)
	switch {
	case errors.Is(err, errBlank):
		c.refused = verdict{Policy, err.Error()}
		return nil
	case errors.Is(err, errLineEnds), err == nil && g.ends.open:
		c.refused = verdict{PermError, errLineEnds.Error()}
		return nil
	case err != nil:
		return err
	}
	c.verifier = newVerifier(m, header, c.count)
	for _, s := range c.signatures {
		if s.result != "" {
			continue
		}
		if s.body = c.verifier.bodyOf(s); s.body == nil {
			s.decide(Policy, "too many different bodies for a message of this size")
		}
	}
	for pending > 0 {
		a := <-answers
		pending--
		for _, s := range c.signatures {
			if s.result != "" || s.keyName() != a.name {
				continue
			}
			if s.verdict, err = c.judge(ctx, s, &a); err != nil {
				return err
			}
		}
	}
	return nil
}

// judge tries each key record, of which there should be only one (RFC 6376, 3.6.2.2): the first that verifies counts.
// Without one, a key that did not verify tells more than a record that could not be used.
func (c *check) judge(ctx context.Context, s *signature, a *answer) (verdict, error) {
	v := a.failure()
	if v.result != "" {
		return v, nil
	}
	var keys []*key
	for _, record := range a.records {
		k, failed := c.usableKey(record, s)
		if failed.result == "" {
			keys = append(keys, k)
		} else if v.result == "" {
			v = failed
			s.bits, s.test = k.bits, k.test
		}
	}
	if len(keys) == 0 {
		return v, nil
	}
	v, k, err := c.verifier.verify(ctx, s, keys)
	switch {
	case err != nil && ctx.Err() != nil:
		return verdict{TempError, "no time left to verify it"}, nil
	case err != nil:
		return verdict{}, err
	}
	s.bits, s.test = k.bits, k.test
	return v, nil
}

// usableKey reads a record. What go-msgauth does not ask of a key, or asks and does not say, is asked here.
func (c *check) usableKey(record string, s *signature) (*key, verdict) {
	k, failed := c.keys.read(record, s)
	switch {
	case failed.result != "":
		return k, failed
	case !k.allows(s):
		return k, verdict{PermError, "the key (t=s) does not allow another domain in i="}
	case k.test && !c.testKeys:
		// RFC 6376, 3.6.1: neither better nor worse than an unsigned message.
		return k, verdict{Neutral, "the key is in test mode (t=y)"}
	}
	return k, verdict{}
}
