package policy

import "context"

// Edits are the changes to the message that go to the backend.
type Edits struct {
	Prepend []byte // complete header fields with CRLF, our Authentication-Results first
	Cut     []Span // fields to leave out, in order
}

// Span is a range of bytes of the original message.
type Span struct{ Start, End int64 }

// maxField bounds a header field that a rule adds (RFC 5322, 2.1.1: 998 characters a line).
const maxField = 998

// edits prepares what goes to the backend beside the message itself.
func (g *Gate) edits(ctx context.Context) Edits {
	e := Edits{Prepend: g.authenticationResults(ctx), Cut: g.removedResults()}
	for _, c := range g.carriers() {
		for _, tag := range c.tags {
			e.Prepend = append(e.Prepend, cut(tag, maxField)...)
			e.Prepend = append(e.Prepend, "\r\n"...)
		}
	}
	return e
}

// carriers are the levels that hold something for the end of data, in the order of their stages.
func (g *Gate) carriers() []*carried {
	var list []*carried
	for _, c := range [...]*carried{g.connected, g.greeted} {
		if c != nil {
			list = append(list, c)
		}
	}
	if g.tx.class != nil {
		list = append(list, &g.tx.class.carried)
	}
	return append(list, &g.tx.carried)
}
