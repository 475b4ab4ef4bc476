package policy

import (
	"context"
	"reflect"

	"gatepost/filters"
)

// Edits are the changes to the message, and to its envelope, that go to the backend.
type Edits struct {
	Prepend []byte      // complete header fields with CRLF, our Authentication-Results first
	Cut     []Span      // fields to leave out, in order
	Insert  []Insertion // complete header fields with CRLF among those of the message, in order
	Body    []byte      // what stands in place of the empty line and the body behind it; nil: those themselves
	BodyAt  int64       // where they begin, if Body is not nil

	Envelope []filters.EnvelopeEdit // in order
}

// Insertion is text that goes before the byte at a place of the original message.
type Insertion struct {
	At   int64
	Text []byte
}

// Span is a range of bytes of the original message.
type Span struct{ Start, End int64 }

// maxField bounds a header field that a rule adds (RFC 5322, 2.1.1: 998 characters a line).
const maxField = 998

// edits prepares what goes to the backend beside the message itself.
func (g *Gate) edits(ctx context.Context) Edits {
	e := Edits{Prepend: g.authenticationResults(ctx)}
	g.editMessage(&e)
	for c := range g.carriers {
		for _, tag := range c.tags {
			e.Prepend = append(e.Prepend, cut(tag, maxField)...)
			e.Prepend = append(e.Prepend, "\r\n"...)
		}
	}
	return e
}

// canEdit tells whether an observation may change the message: its facts can say so, and its filter is allowed to.
func canEdit(o *filters.Observation, instance any) bool {
	editor, ok := instance.(interface{ MayEdit() bool })
	return ok && editor.MayEdit() && reflect.PointerTo(o.Facts).Implements(reflect.TypeFor[filters.Editor]())
}

// joinEditors waits for those that may change the message. It tells whether one has failed without which mail shall wait.
func (g *Gate) joinEditors(ctx context.Context) bool {
	g.join(ctx, g.engine.editors)
	for _, i := range g.engine.editors {
		status := g.slot(i).status
		if g.engine.observations[i].deferOnError && (status == failed || status == timedOut) {
			return true
		}
	}
	return false
}

// editMessage drops what must not get through, and does what filters want changed.
func (g *Gate) editMessage(e *Edits) {
	if g.tx.header == nil {
		return
	}
	var draft *filters.Draft
	for _, i := range g.engine.editors {
		editor, ok := g.judged().Group(g.engine.observations[i].group).(filters.Editor)
		if !ok || editor.Changes().Empty() {
			continue
		}
		if draft == nil {
			draft = filters.NewDraft(g.tx.header, g.engine.drops)
		}
		changes := editor.Changes()
		draft.Apply(changes)
		if changes.Body != nil {
			e.Body, e.BodyAt = append([]byte("\r\n"), changes.Body...), int64(g.tx.header.Size)
		}
		if !g.tx.bypassed { // who gets the message is a decision, and those are only recorded then
			e.Envelope = append(e.Envelope, changes.Envelope...)
		}
	}
	if draft == nil {
		e.Cut = g.dropped()
		return
	}
	for _, s := range draft.Splices() {
		if s.End > s.Start {
			e.Cut = append(e.Cut, Span{Start: s.Start, End: s.End})
		} else {
			e.Insert = append(e.Insert, Insertion{At: s.Start, Text: s.Text})
		}
	}
}

// dropped is what must not get through where nothing else is changed.
func (g *Gate) dropped() (spans []Span) {
	for i := range g.tx.header.Fields {
		if f := &g.tx.header.Fields[i]; g.engine.drops(f) {
			spans = append(spans, Span{Start: int64(f.Offset), End: int64(f.Offset + len(f.Raw))})
		}
	}
	return spans
}

// carriers yields the levels that hold something for the end of data, in the order of their stages.
func (g *Gate) carriers(yield func(*carried) bool) {
	if s := g.story; s != nil && (!yield(&s.connected) || !yield(&s.greeted)) {
		return
	}
	if c := g.tx.class; c != nil && !yield(&c.carried) {
		return
	}
	yield(&g.tx.carried)
}
