package policy

import (
	"context"
	"strings"

	"gatepost/filters"
	"gatepost/filters/authres"
)

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
	e := Edits{Prepend: g.authenticationResults(ctx), Cut: g.forgedResults()}
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
	list := []*carried{&g.connected, &g.greeted}
	if g.tx.class != nil {
		list = append(list, &g.tx.class.carried)
	}
	return append(list, &g.tx.carried)
}

// authenticationResults is our field, or nothing when no filter that could tell something has told it. The field is
// for those who read it after us, so what belongs into it is waited for.
func (g *Gate) authenticationResults(ctx context.Context) []byte {
	if !g.engine.reportsAuth {
		return nil
	}
	var results []filters.AuthResult
	told := false
	for i, o := range g.engine.observations {
		if !o.reports {
			continue
		}
		for g.slot(i).status == running {
			g.await(ctx, i)
		}
		if reporter, ok := g.slot(i).facts.(filters.AuthReporter); ok {
			results, told = append(results, reporter.AuthResults()...), true
		}
	}
	if !told {
		return nil
	}
	return authres.Format(g.engine.hostname, results)
}

// forgedResults finds inbound Authentication-Results that claim to be ours: whoever reads them behind us would take
// them for our word (RFC 8601, 5).
func (g *Gate) forgedResults() []Span {
	if g.tx.header == nil {
		return nil
	}
	var spans []Span
	for i := range g.tx.header.Fields {
		f := &g.tx.header.Fields[i]
		// RFC 5322, 4.5: the obsolete syntax has white space before the colon.
		name := strings.TrimRight(f.Name, " \t")
		if strings.EqualFold(name, "Authentication-Results") && authres.ClaimsToBe(f.Raw, g.engine.hostname) {
			spans = append(spans, Span{Start: int64(f.Offset), End: int64(f.Offset + len(f.Raw))})
		}
	}
	return spans
}
