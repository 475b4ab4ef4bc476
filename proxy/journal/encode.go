package journal

import (
	"time"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/rules"
)

// The fields of an entry. Each has its number and its length before it, so that a reader
// passes over those it does not know; what an older release did not write is zero. Within a field values are in a fixed
// order, to which new ones are added at the end. A number is never used again for something else.
const (
	coreField       = 1 // id, times, verdict
	sessionField    = 2
	greetingField   = 3
	envelopeField   = 4
	recipientsField = 5
	groupsField     = 6 // facts, each group once
	factsField      = 7 // which groups stood for the whole
	filtersField    = 8
	matchedField    = 9
	endingField     = 10
	courseField     = 11 // how far it came, and what a replay needs
	headersField    = 12
	changeField     = 13
)

// field writes one field; one that has nothing to say is left out by the caller.
func (b *builder) field(number int, write func(*builder)) {
	b.count(number)
	start := b.begin()
	write(b)
	b.end(start)
}

func (b *builder) content(r *policy.Record, verdict string) {
	if r.Kind == policy.SessionRecord {
		b.count(sessionEntry)
	} else {
		b.count(transactionEntry)
	}
	b.field(coreField, func(b *builder) {
		b.text(r.ID)
		b.time(r.Start)
		b.signed(int64(r.End.Sub(r.Start)))
		b.text(verdict)
	})
	if r.Session != nil {
		b.field(sessionField, func(b *builder) { b.session(r.Session) })
	}
	if r.Greeting != nil {
		b.field(greetingField, func(b *builder) { b.greeting(r.Greeting) })
	}
	if r.Envelope != nil {
		b.field(envelopeField, func(b *builder) { b.envelope(r.Envelope) })
	}
	b.beginGroups(r.Facts)
	if len(r.Recipients) > 0 {
		b.field(recipientsField, func(b *builder) { b.recipients(r.Recipients) })
	}
	if len(r.Filters) > 0 {
		b.field(filtersField, func(b *builder) { b.filters(r.Filters) })
	}
	if r.Facts != nil {
		b.field(factsField, func(b *builder) { b.facts(r.Facts) })
	}
	if len(b.groups) > 0 {
		b.field(groupsField, (*builder).packGroups)
	}
	if len(r.Matched) > 0 {
		b.field(matchedField, func(b *builder) { b.matched(r.Matched) })
	}
	b.field(endingField, func(b *builder) { b.ending(&r.Ending) })
	b.field(courseField, func(b *builder) { b.course(r) })
	if len(r.Headers) > 0 && r.Facts != nil {
		b.field(headersField, func(b *builder) { b.headers(r) })
	}
}

func (b *builder) session(s *filters.Session) {
	b.text(s.ID)
	b.endpoint(s.AddrPort())
	b.endpoint(s.Peer())
	b.endpoint(s.Local())
	b.foreign(s.VerifiedName())
	b.flag(s.Trusted)
	b.flag(s.Submission)
	b.time(s.Accepted)
	b.flag(s.AskedByMTA)
}

// foreign writes a text in which an address may stand.
func (b *builder) foreign(s string) { b.text(b.disguise.text(s)) }

// note hides nothing in words of ours: a sender of the name "a" must not take that article out of them.
func (b *builder) note(s string) {
	if s == policy.NoteKept || s == policy.NoteCopied {
		b.text(s)
		return
	}
	b.foreign(s)
}

func (b *builder) greeting(g *filters.Greeting) {
	b.foreign(g.Name)
	b.flag(g.SaidEHLO())
	b.text(b.disguise.address(g.AuthUser))
	b.flag(g.TLS != nil)
	if g.TLS != nil {
		b.text(g.TLS.Version)
		b.text(g.TLS.Cipher)
		b.text(g.TLS.ServerName)
		b.foreign(g.TLS.PeerSubject)
	}
	b.flag(g.Extended == nil)
}

func (b *builder) envelope(e *filters.Envelope) {
	b.text(b.disguise.address(e.ReversePath))
	b.params(e.Params)
	b.signed(e.Size)
	b.flag(e.UTF8)
	b.time(e.Started)
}

func (b *builder) params(params []filters.Param) {
	b.count(len(params))
	for i := range params {
		b.foreign(params[i].Key)
		b.foreign(params[i].Value)
		b.flag(params[i].HasValue)
	}
}

func (b *builder) recipients(all []policy.RecipientRecord) {
	b.count(len(all))
	for i := range all {
		r := &all[i]
		start := b.begin()
		b.text(b.disguise.address(r.Address))
		b.params(r.Params)
		b.reply(r.Reply)
		b.flag(r.Ours)
		b.text(r.Action.String())
		b.rule(r.Rule)
		b.flag(r.Asked)
		b.number(r.Score)
		b.filters(r.Filters)
		b.end(start)
	}
}

func (b *builder) reply(r rules.Reply) {
	b.count(r.Code)
	b.text(r.Enhanced)
	b.foreign(r.Text)
}

func (b *builder) filters(all []policy.FilterRecord) {
	b.count(len(all))
	for i := range all {
		f := &all[i]
		start := b.begin()
		b.text(f.Name)
		b.count(int(f.Stage))
		b.text(f.Status)
		b.foreign(f.Error)
		b.signed(int64(f.Duration / time.Microsecond))
		b.count(b.filterFacts(f.Facts))
		b.end(start)
	}
}

func (b *builder) matched(all []policy.Match) {
	b.count(len(all))
	for i := range all {
		m := &all[i]
		start := b.begin()
		b.rule(m.Rule)
		b.flag(m.Observed)
		b.text(b.disguise.address(m.Recipient))
		b.end(start)
	}
}

// rule writes the place of a rule in the block's table, 0 for none.
func (b *builder) rule(r *rules.Rule) {
	if r == nil {
		b.count(0)
		return
	}
	place, known := b.ruleOf[r]
	if !known {
		place = uint64(len(b.ruleOf) + 1)
		b.ruleOf[r] = place
		b.defineRule(r)
	}
	b.unsigned(place)
}

// defineRule writes a rule as it was when it decided. What an operator wrote into it is his own: it is not disguised.
func (b *builder) defineRule(r *rules.Rule) {
	entries := b.buf
	b.buf = b.rules
	start := b.begin()
	b.text(r.Name)
	b.text(r.Pos.File)
	b.count(r.Pos.Line)
	b.count(r.Pos.Column)
	b.text(r.Action.String())
	b.text(r.Mode.String())
	b.count(r.Stage)
	b.text(r.When)
	b.count(r.Index)
	b.flag(r.DeferOnError)
	b.end(start)
	b.rules, b.buf = b.buf, entries
}

func (b *builder) ending(e *policy.Ending) {
	b.reply(e.Reply)
	b.flag(e.Ours)
	b.text(e.Backend)
	b.text(e.QueueID)
	b.signed(e.Size)
	b.note(e.Note)
	b.text(e.Normalized)
	b.flag(e.Digest != [32]byte{})
	if e.Digest != [32]byte{} {
		b.buf = append(b.buf, e.Digest[:]...)
	}
	b.text(e.Suppressed)
	b.text(e.Kept)
}

func (b *builder) course(r *policy.Record) {
	b.text(r.Reached.String())
	b.flag(r.Refused != nil)
	if r.Refused != nil {
		b.text(r.Refused.Action.String())
		b.rule(r.Refused.Rule)
		b.reply(r.Refused.Reply)
	}
	b.flag(r.Bypassed.Greet)
	b.flag(r.Bypassed.Helo)
	b.flag(r.Bypassed.Transaction)
	b.flag(r.Attempt != nil)
	if r.Attempt != nil {
		b.signed(int64(r.Attempt.Recipient))
		b.text(string(r.Attempt.State))
		b.time(r.Attempt.First)
		b.flag(r.Attempt.Failed)
	}
	b.flag(r.Settings != nil)
	if r.Settings != nil {
		b.unsigned(r.Settings.Greylist)
		b.unsigned(r.Settings.RateLimit)
	}
	b.count(r.Transactions)
}

// headers writes the fields that rules read; where the message had none of a name, the value is empty.
func (b *builder) headers(r *policy.Record) {
	b.count(len(r.Headers))
	for _, name := range r.Headers {
		value, known := r.Facts.Header(name)
		b.text(name)
		b.flag(known)
		b.foreign(value)
	}
}
