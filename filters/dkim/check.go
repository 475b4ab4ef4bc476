package dkim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
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
	testKeys bool // keys in test mode count like others

	count      int // DKIM-Signature fields
	signatures []*signature
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
	index := newFieldIndex(header.Fields)
	for _, field := range found[:min(len(found), maxSignatures)] {
		s := readSignature(field, c.now)
		if s.result == "" && !index.has("from") {
			s.decide(PermError, "the message has no From")
		}
		c.signatures = append(c.signatures, s)
	}
	return c.verify(ctx, m, header, index)
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

// verify asks for the keys while the body is read, and then compares.
func (c *check) verify(ctx context.Context, m *filters.Message, header *filters.Header, index *fieldIndex) error {
	reader := c.bodyReader(header)
	if reader == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers, asked := askForKeys(ctx, c.resolver, c.signatures)
	_, err := m.Reader(ctx).WriteTo(reader)
	if err == nil && reader.ends.open {
		err = errLineEnds
	}
	if err != nil {
		cancel()
	}
	asked.Wait()
	if errors.Is(err, errLineEnds) {
		c.refused = verdict{PermError, err.Error()}
		return nil
	}
	if err != nil {
		return err
	}
	simple, relaxed := reader.sums()
	var signed []byte
	for _, s := range c.signatures {
		if s.result != "" {
			continue
		}
		body := simple
		if s.bodyRelaxed {
			body = relaxed
		}
		signed = index.appendSigned(signed[:0], s)
		s.verdict = c.judge(s, answerFor(answers, s.keyName()), bytes.Equal(body, s.bodyHash), signed)
	}
	return nil
}

// bodyReader has the hashes that the open signatures want. It is nil if there is none.
func (c *check) bodyReader(header *filters.Header) *bodyReader {
	r := &bodyReader{skip: int64(header.Size) + 2} // the empty line
	for _, s := range c.signatures {
		switch {
		case s.result != "":
		case s.bodyRelaxed && r.relaxed == nil:
			r.relaxed = newBodyHash()
		case !s.bodyRelaxed && r.simple == nil:
			r.simple = newBodyHash()
		}
	}
	if r.simple == nil && r.relaxed == nil {
		return nil
	}
	return r
}

// judge tries each key record, of which there should be only one (RFC 6376, 3.6.2.2): the first that verifies counts.
// Without one, a key that did not verify tells more than a record that could not be used.
func (c *check) judge(s *signature, a *answer, bodyOK bool, signed []byte) verdict {
	v := a.failure()
	if v.result != "" {
		return v
	}
	hash := sha256.Sum256(signed)
	for _, record := range a.records {
		k, failed := readKey(record, s)
		if failed.result == "" {
			failed = c.tryKey(s, &k, bodyOK, hash[:])
		}
		switch {
		case failed.result == Pass:
			s.bits, s.test = k.bits, k.test
			return failed
		case v.result == "" || v.result != Fail && failed.result == Fail:
			v = failed
			s.bits, s.test = k.bits, k.test
		}
	}
	return v
}

func (c *check) tryKey(s *signature, k *key, bodyOK bool, hash []byte) verdict {
	v := verdict{Pass, ""}
	switch {
	case !k.allows(s):
		return verdict{PermError, "the key (t=s) does not allow another domain in i="}
	case !bodyOK:
		v = verdict{Fail, "the body was changed"}
	case !k.verifies(hash, s.value):
		v = verdict{Fail, "the signature does not match"}
	}
	// RFC 6376, 3.6.1: neither better nor worse than an unsigned message.
	if k.test && !c.testKeys {
		return verdict{Neutral, "the key is in test mode (t=y)"}
	}
	return v
}
