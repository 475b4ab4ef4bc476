package dkim

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"

	"gatepost/filters"
	"gatepost/filters/canonical"
)

// Bounds of what go-msgauth is asked.
const (
	// maxOpinions is how often in one message: it hashes the body anew each time, and leaves up to three bytes of garbage
	// for each byte.
	maxOpinions = 2
	// maxFolding bounds the bytes that it copies to join folded lines: it copies what it has of a field with each line, so
	// that a field of 64 KiB can cost it 0.2 s and a gigabyte.
	maxFolding = 256 << 10
)

// secondOpinion is what go-msgauth says of signatures that are not good to us. It is asked about one at a time, so that
// there is no doubt which signature and which key record its answer is about, and it starts no goroutines, which it would
// leave behind if a read failed.
type secondOpinion struct {
	message    *filters.Message // complete
	header     *filters.Header
	signatures int // DKIM-Signature fields
	asked      int // how often
}

// verify returns the first key by which the signature is good to go-msgauth; nil if there is none, or go-msgauth cannot be
// asked. An error means that the message cannot be read.
func (o *secondOpinion) verify(ctx context.Context, s *signature, keys []*key) (*key, error) {
	if o.asked == maxOpinions {
		return nil, nil
	}
	head := o.present(s)
	if o.beyond(s, head) {
		return nil, nil
	}
	for _, k := range keys[:min(len(keys), maxOpinions-o.asked)] {
		o.asked++
		if good, err := o.ask(ctx, head, k.record); good || err != nil {
			return k, err
		}
	}
	return nil, nil
}

// beyond tells whether a signature is one that go-msgauth v0.7.0 would refuse if it were good, or that would cost it too
// much. head is what it would be shown.
func (o *secondOpinion) beyond(s *signature, head []byte) bool {
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
	case count(s.signed, fieldName) > o.signatures-1:
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

// present is the header that go-msgauth is shown: the signature, and below it the fields that h= names, other
// signatures included. What is no field for us (Field.Name is empty) must not be there: go-msgauth takes "From\v: x" for
// a From, so that a signed one could be hidden from everybody else and another put in its place.
//
// The signature stands at the top whatever its place was. It is no field that its own h= can mean, all others are below
// it either way, and go-msgauth looks for them from the bottom up.
func (o *secondOpinion) present(s *signature) []byte {
	head := canonical.Simple.AppendField(make([]byte, 0, 2<<10), s.field.Raw)
	for i := range o.header.Fields {
		f := &o.header.Fields[i]
		if f == s.field || f.Name == "" {
			continue
		}
		if slices.ContainsFunc(s.signed, func(name string) bool { return strings.EqualFold(name, f.Name) }) {
			head = canonical.Simple.AppendField(head, f.Raw)
		}
	}
	return append(head, "\r\n"...)
}

// buffers are what go-msgauth reads through. It takes one that it is handed, and else makes one for each message.
var buffers = sync.Pool{New: func() any { return bufio.NewReader(nil) }}

// ask has go-msgauth verify the signature on top of head, with the body of the message, by a key record. It gets records
// that it can use and none that cannot be had: those were judged before.
func (o *secondOpinion) ask(ctx context.Context, head []byte, record string) (good bool, err error) {
	message := o.message.Reader(ctx)
	if _, err := io.CopyN(io.Discard, message, int64(o.header.Size)+2); err != nil && err != io.EOF {
		return false, err
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
	case errors.Is(r.err, errBlank):
		return false, nil
	case r.err != nil:
		return false, r.err
	}
	return len(found) == 1 && found[0].Err == nil, nil
}

// source is a message for go-msgauth. It ends in io.EOF whatever happens, since the library does not clean up behind
// other errors; after err, what it said is worth nothing.
type source struct {
	head  []byte
	body  *filters.MessageReader
	guard guard
	err   error
}

func (r *source) Read(p []byte) (int, error) {
	if len(r.head) > 0 {
		n := copy(p, r.head)
		r.head = r.head[n:]
		return n, nil
	}
	n, err := r.body.Read(p)
	if err == nil {
		_, err = r.guard.Write(p[:n])
	}
	return n, r.ended(err)
}

// WriteTo spares the body a copy.
func (r *source) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(r.head)
	r.head = nil
	if err != nil {
		return int64(n), err
	}
	written, err := r.body.WriteTo(io.MultiWriter(&r.guard, w))
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
