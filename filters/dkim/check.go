package dkim

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"gatepost/filters"
	"gatepost/filters/canonical"
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
	content    content       // of a complete message
	second     secondOpinion // on what fails
	// differs is a signature that is good to go-msgauth and not to us; nil if there is none.
	differs *signature
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
	var ends canonical.LineEnds
	for i := range header.Fields {
		if err := ends.Check(header.Fields[i].Raw); err != nil {
			return verdict{PermError, err.Error()}
		}
	}
	if err := ends.End(); err != nil {
		return verdict{PermError, err.Error()}
	}
	return verdict{}
}

// verify asks for the keys and hashes the body while the message arrives, and judges each signature when all is there.
func (c *check) verify(ctx context.Context, m *filters.Message, header *filters.Header) error {
	keys := askForKeys(ctx, c.resolver, c.signatures)
	defer keys.abandon()
	body := canonical.NewBody(header.Size, c.algorithms()...)
	_, err := m.Reader(ctx).WriteTo(body)
	if err == nil {
		err = body.End()
	}
	switch {
	case errors.Is(err, canonical.ErrLineEnds):
		c.refused = verdict{PermError, err.Error()}
		return nil
	case err != nil:
		return err
	}
	c.content = content{fields: header.Fields, body: body}
	c.second = secondOpinion{message: m, header: header, signatures: c.count}
	keys.asked.Wait()
	for _, s := range c.signatures {
		if s.result != "" {
			continue
		}
		if s.verdict, err = c.judge(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// algorithms are those by which the body has to be hashed.
func (c *check) algorithms() []canonical.Algorithm {
	list := make([]canonical.Algorithm, 0, maxSignatures)
	for _, s := range c.signatures {
		if s.result == "" {
			list = append(list, s.bodyAlgorithm)
		}
	}
	return list
}

// judge tries each key record, of which there should be only one (RFC 6376, 3.6.2.2): the first that verifies counts.
// Without one, a key that did not verify tells more than a record that could not be used. No signature fails by our word
// alone as long as go-msgauth can be asked.
func (c *check) judge(ctx context.Context, s *signature) (verdict, error) {
	keys, v := c.usableKeys(s)
	if len(keys) == 0 {
		return v, nil
	}
	v, k := c.content.verify(s, keys)
	if v.result == Fail {
		good, err := c.second.verify(ctx, s, keys)
		switch {
		case err != nil && ctx.Err() != nil:
			return verdict{TempError, "no time left to verify it"}, nil
		case err != nil:
			return verdict{}, err
		case good != nil:
			v, k, c.differs = verdict{Pass, ""}, good, s
		}
	}
	s.bits, s.test = k.bits, k.test
	return v, nil
}

// usableKeys reads the records that are there for a signature. Without a key that is fit for it, the verdict says why.
func (c *check) usableKeys(s *signature) (keys []*key, v verdict) {
	if v = s.answer.failure(); v.result != "" {
		return nil, v
	}
	for _, record := range s.answer.records {
		k, failed := c.usableKey(record, s)
		if failed.result == "" {
			keys = append(keys, k)
		} else if v.result == "" {
			v = failed
			s.bits, s.test = k.bits, k.test
		}
	}
	return keys, v
}

// usableKey reads a record and tells what speaks against its use.
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
