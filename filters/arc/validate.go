package arc

import (
	"bytes"
	"context"
	"errors"
	"time"

	"gatepost/filters"
	"gatepost/filters/canonical"
)

// Result of the validation of a chain.
type Result string

// The results. RFC 8617 knows the first three. It counts a chain whose keys cannot be had for the moment among the
// failed; here that is a result of its own, so that a dead DNS does not refuse mail for good.
const (
	None      Result = "none"
	Pass      Result = "pass"
	Fail      Result = "fail"
	TempError Result = "temperror"
)

// chain is what is known of a message's chain.
type chain struct {
	result Result
	reason string   // why it is Fail or TempError
	sets   []set    // oldest first; none if they are not complete
	seals  []signed // of the sets; none if one of them is malformed
	// fromCovered tells that the newest message signature covers every From field.
	fromCovered bool
}

// validate reads the message and its keys (RFC 8617, 5.2). It fails only if the message cannot be read to its end.
func validate(ctx context.Context, resolver filters.Resolver, now time.Time, message *filters.Message) (chain, error) {
	header, err := message.Header(ctx)
	if err != nil {
		return chain{}, err
	}
	sets, err := readChain(header)
	if err != nil {
		return chain{result: Fail, reason: err.Error()}, nil
	}
	if len(sets) == 0 {
		return chain{result: None}, nil
	}
	c := chain{sets: sets}
	if c.seals, err = readSeals(sets); err != nil {
		return c.fail(err), nil
	}
	newest, err := readMessageSignature(sets, now)
	if err != nil {
		return c.fail(err), nil
	}
	c.fromCovered = newest.coversFrom(header.Fields)

	keys := askForKeys(ctx, resolver, newest, c.seals)
	defer keys.abandon()
	body := canonical.NewBody(header.Size, newest.body)
	_, err = message.Reader(ctx).WriteTo(body)
	if err == nil {
		err = body.End()
	}
	switch {
	case errors.Is(err, canonical.ErrLineEnds):
		return c.fail(err), nil
	case err != nil:
		return chain{}, err
	case !bytes.Equal(body.Sum(newest.body), newest.bodyHash):
		return c.fail(newest.problem("the body was changed")), nil
	}
	keys.asked.Wait()
	return c.verify(keys, newest, header), nil
}

// verify checks the newest message signature and then the seals, newest first. The first that is wrong decides; a key
// that cannot be had now does only if nothing is wrong, or whoever controls one name in a chain could keep us from
// seeing that the rest of it is forged.
func (c chain) verify(keys *keyring, newest *messageSignature, header *filters.Header) chain {
	hash := newest.headerHash(header.Fields)
	missing := error(nil)
	if err := keys.verify(&newest.signed, hash[:]); errors.Is(err, errTemporary) {
		missing = err
	} else if err != nil {
		return c.fail(err)
	}
	hashes := sealHashes(c.sets, c.seals)
	for i := len(c.seals) - 1; i >= 0; i-- {
		err := keys.verify(&c.seals[i], hashes[i][:])
		switch {
		case errors.Is(err, errTemporary):
			if missing == nil {
				missing = err
			}
		case err != nil:
			return c.fail(err)
		}
	}
	if missing != nil {
		c.result, c.reason = TempError, missing.Error()
		return c
	}
	c.result = Pass
	return c
}

func (c chain) fail(err error) chain {
	c.result, c.reason = Fail, err.Error()
	return c
}
