package dkim

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"sync"

	msgauth "github.com/emersion/go-msgauth/dkim"

	"gatepost/filters"
)

// go-msgauth hashes the body anew for each signature, and leaves up to three bytes of garbage for each byte. It may do
// so for all signatures as long as it reads no more than maxRead, and twice whatever the size.
const (
	maxRead   = 2 << 20
	minPasses = 2
)

// verifier has go-msgauth verify the signatures of one message, one at a time: so there is no doubt which signature and
// which key record its answer is about, and it starts no goroutines, which it would leave behind if a read failed.
type verifier struct {
	message *filters.Message // complete, and found good by the guard
	header  *filters.Header
	count   int // DKIM-Signature fields
	most    int // passes of the body that go-msgauth may make
	passes  int // those that it has made
	bodies  [maxSignatures]body
	known   int // how many of them are in use
}

// body is what one or more signatures say of the body, and whether that is true. To find out takes a pass, of which all
// signatures that say the same have the benefit.
type body struct {
	relaxed bool
	hash    []byte
	state   bodyState
}

type bodyState int

const (
	unknown bodyState = iota
	intact
	changed
)

func newVerifier(m *filters.Message, header *filters.Header, count int) *verifier {
	most := min(max(maxRead/max(m.Size(), 1), minPasses), maxSignatures)
	return &verifier{message: m, header: header, count: count, most: int(most)}
}

// bodyOf gives the entry for what a signature says of the body, or nil if there are not passes enough for all of them.
func (v *verifier) bodyOf(s *signature) *body {
	for i := range v.known {
		if b := &v.bodies[i]; b.relaxed == s.bodyRelaxed && bytes.Equal(b.hash, s.bodyHash) {
			return b
		}
	}
	if v.known == v.most {
		return nil
	}
	b := &v.bodies[v.known]
	*b = body{relaxed: s.bodyRelaxed, hash: s.bodyHash}
	v.known++
	return b
}

// spare is the number of passes that are not needed to find out about a body.
func (v *verifier) spare() int {
	n := v.most - v.passes
	for i := range v.known {
		if v.bodies[i].state == unknown {
			n--
		}
	}
	return n
}

// verify tells whether one of the keys, of which there is at least one, verifies a signature, and which. It returns an
// error only when the message cannot be read.
func (v *verifier) verify(ctx context.Context, s *signature, keys []*key) (verdict, *key, error) {
	first := keys[0]
	head := v.present(s)
	ours := v.beyondLibrary(s, head)
	if s.body.state == unknown || s.body.state == intact && !ours && v.spare() > 0 {
		if ours {
			head = bodyProbe(s)
		}
		said, err := v.ask(ctx, head, first.record)
		if said != unreadable { // which is found out before the body is read
			v.passes++
		}
		switch {
		case err != nil:
			return verdict{}, nil, err
		case said == unreadable:
			return verdict{Neutral, "the signature cannot be read"}, first, nil
		case said == bodyDiffers:
			s.body.state = changed
		case said == verified && !ours:
			s.body.state = intact
			return verdict{Pass, ""}, first, nil
		default:
			s.body.state = intact
			if !ours {
				keys = keys[1:]
			}
		}
	}
	if s.body.state == changed {
		return verdict{Fail, "the body was changed"}, first, nil
	}
	if k := v.verifyHeader(s, keys); k != nil {
		return verdict{Pass, ""}, k, nil
	}
	return verdict{Fail, "the signature does not match"}, first, nil
}

// present is the header that go-msgauth is shown: the signature, and below it the fields that h= names, other
// signatures included. What is no field for us (Field.Name is empty) must not be there: go-msgauth takes "From\v: x" for
// a From, so that a signed one could be hidden from everybody else and another put in its place.
//
// The signature stands at the top whatever its place was. It is no field that its own h= can mean, all others are below
// it either way, and go-msgauth looks for them from the bottom up.
func (v *verifier) present(s *signature) []byte {
	head := appendWhole(make([]byte, 0, 2<<10), s.field.Raw)
	for i := range v.header.Fields {
		f := &v.header.Fields[i]
		if f == s.field || f.Name == "" {
			continue
		}
		if slices.ContainsFunc(s.signed, func(name string) bool { return strings.EqualFold(name, f.Name) }) {
			head = appendWhole(head, f.Raw)
		}
	}
	return append(head, "\r\n"...)
}

// appendWhole appends a field and the line end that the last line of a message may lack.
func appendWhole(dst, raw []byte) []byte {
	dst = append(dst, raw...)
	if !bytes.HasSuffix(raw, []byte("\r\n")) {
		dst = append(dst, "\r\n"...)
	}
	return dst
}

// outcome is what go-msgauth says of a signature.
type outcome int

const (
	unreadable outcome = iota
	bodyDiffers
	headerDiffers // which it finds out behind a body that is as it should be
	verified
)

// buffers are what go-msgauth reads through. It takes one that it is handed, and else makes one for each message: a sixth
// of what it allocates.
var buffers = sync.Pool{New: func() any { return bufio.NewReader(nil) }}

// ask has go-msgauth verify the signature on top of head, with the body of the message, by a key record. It gets records
// that it can use and none that cannot be had: those were judged before.
func (v *verifier) ask(ctx context.Context, head []byte, record string) (outcome, error) {
	message := v.message.Reader(ctx)
	if _, err := io.CopyN(io.Discard, message, int64(v.header.Size)+2); err != nil && err != io.EOF {
		return unreadable, err
	}
	r := &source{head: head, body: message}
	buffered := buffers.Get().(*bufio.Reader)
	defer buffers.Put(buffered)
	buffered.Reset(r)
	defer buffered.Reset(nil)
	found, _ := msgauth.VerifyWithOptions(buffered, &msgauth.VerifyOptions{
		LookupTXT:        func(string) ([]string, error) { return []string{record}, nil },
		MaxVerifications: 1,
	})
	switch {
	case r.err != nil:
		return unreadable, r.err
	case len(found) != 1:
		return unreadable, nil
	case found[0].Err == nil:
		return verified, nil
	}
	// The types of its errors are not exported; a test holds these words.
	switch problem := found[0].Err.Error(); {
	case problem == "dkim: body hash did not verify":
		return bodyDiffers, nil
	case strings.HasPrefix(problem, "dkim: signature did not verify"):
		return headerDiffers, nil
	}
	return unreadable, nil
}

// source is a message for go-msgauth. It ends in io.EOF whatever happens, since the library does not clean up behind
// other errors; after err, what it said is worth nothing.
type source struct {
	head []byte
	body *filters.MessageReader
	err  error
}

func (r *source) Read(p []byte) (int, error) {
	if len(r.head) > 0 {
		n := copy(p, r.head)
		r.head = r.head[n:]
		return n, nil
	}
	n, err := r.body.Read(p)
	return n, r.ended(err)
}

// WriteTo spares the body a copy.
func (r *source) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(r.head)
	r.head = nil
	if err != nil {
		return int64(n), err
	}
	written, err := r.body.WriteTo(w)
	r.ended(err)
	return int64(n) + written, nil
}

// ended turns an error into io.EOF.
func (r *source) ended(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	r.err = err
	return io.EOF
}
