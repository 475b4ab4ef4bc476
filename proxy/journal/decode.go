package journal

import (
	"slices"
	"strconv"
	"time"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/proxy/telemetry"
	"gatepost/rules"
)

func itoa(n int) string { return strconv.Itoa(n) }

// block is an unpacked block.
type block struct {
	texts   []string
	shapes  []*Shape
	rules   []*Rule
	entries unpacker
	count   int
	garbled bool
}

// parseBlock reads the tables of a block's body, which it keeps.
func parseBlock(body []byte) (*block, error) {
	k := &block{}
	u := unpacker{buf: body, garbled: &k.garbled}
	for len(u.buf) > 0 {
		number := u.unsigned()
		part := u.part()
		part.texts = k.texts
		switch number {
		case textsPart:
			k.parseTexts(&part, part.count())
		case shapesPart:
			for range part.count() {
				p := part.part()
				k.shapes = append(k.shapes, parseShape(&p))
			}
		case rulesPart:
			for range part.count() {
				p := part.part()
				k.rules = append(k.rules, parseRule(&p))
			}
		case entriesPart:
			k.count = part.count()
			k.entries = part
		}
		if k.garbled {
			return nil, errGarbled
		}
	}
	return k, nil
}

// parseTexts makes one string of the table and cuts it up.
func (k *block) parseTexts(u *unpacker, n int) {
	all := string(u.buf)
	k.texts = make([]string, 0, n)
	for range n {
		length := u.count()
		start := len(all) - len(u.buf)
		if u.bytes(length); k.garbled {
			return
		}
		k.texts = append(k.texts, all[start:start+length])
	}
}

func parseRule(u *unpacker) *Rule {
	return &Rule{Name: u.text(), File: u.text(), Line: u.small(), Column: u.small(), Action: u.text(), Mode: u.text(),
		Stage: stage(u), When: u.text(), Index: u.small(), DeferOnError: u.flag()}
}

// stage reads one; one that this release does not know counts as the last.
func stage(u *unpacker) filters.Stage { return filters.Stage(min(u.small(), len(filters.Stages)-1)) }

// unpackerOf makes the entries of a block readable from any place in it.
func (k *block) reader(buf []byte) unpacker {
	return unpacker{buf: buf, texts: k.texts, garbled: &k.garbled}
}

// confirmation is an entry that tells that a client has read its final reply.
type confirmation struct {
	id string
	at time.Time
}

// next reads one entry into e, whose memory it uses again. kind is that of the entry; of all but a
// confirmation is e filled, only of a confirmation c.
func (k *block) entry(u *unpacker, e *Entry) (kind int, c confirmation) {
	kind = u.small()
	switch kind {
	case sessionEntry:
		e.reset(policy.SessionRecord)
		k.fields(u, e)
	case transactionEntry:
		e.reset(policy.TransactionRecord)
		k.fields(u, e)
	case changeEntry:
		e.reset(ChangeEntry)
		k.fields(u, e)
	case confirmationEntry:
		c.id = u.text()
		c.at = u.time()
	}
	return kind, c
}

func (e *Entry) reset(kind string) {
	*e = Entry{
		Kind:       kind,
		Recipients: e.Recipients[:0], Facts: e.Facts[:0], Filters: e.Filters[:0], Matched: e.Matched[:0],
		Headers: e.Headers[:0], groups: e.groups[:0], params: e.params[:0], looked: e.looked[:0],
	}
}

func (k *block) fields(u *unpacker, e *Entry) {
	whole := *u
	for len(u.buf) > 0 { // what filters and recipients found is told by their groups
		if number := u.unsigned(); number == groupsField {
			p := u.part()
			k.groups(&p, e)
		} else {
			u.part()
		}
	}
	u = &whole
	for len(u.buf) > 0 {
		number := u.unsigned()
		p := u.part()
		switch number {
		case coreField:
			e.ID = p.text()
			e.Start = p.time()
			e.End = e.Start.Add(time.Duration(p.signed()))
			e.Verdict = p.text()
		case sessionField:
			readSession(&p, e)
		case greetingField:
			readGreeting(&p, e)
		case envelopeField:
			readEnvelope(&p, e)
		case recipientsField:
			k.recipients(&p, e)
		case factsField:
			k.facts(&p, e)
		case filtersField:
			e.Filters = k.filters(&p, e, e.Filters)
		case matchedField:
			k.matched(&p, e)
		case endingField:
			readEnding(&p, e)
		case courseField:
			k.course(&p, e)
		case changeField:
			k.change(&p, e)
		case headersField:
			for range p.count() {
				e.Headers = append(e.Headers, Header{Name: p.text(), Known: p.flag(), Value: p.text()})
			}
		}
	}
	if e.Verdict == telemetry.Abandon.String() && e.dropped() {
		e.Verdict = telemetry.Drop.String() // earlier releases counted these as given up by the client
	}
}

// dropped tells whether a rule closed the connection without a reply.
func (e *Entry) dropped() bool {
	drop := rules.Drop.String()
	return e.Refused != nil && e.Refused.Action == drop || slices.ContainsFunc(e.Recipients, func(r Recipient) bool { return r.Action == drop })
}

func readSession(u *unpacker, e *Entry) {
	e.session = filters.Session{ID: u.text(), Client: filters.ClientAt(u.endpoint()), To: &e.to}
	if e.through = u.endpoint(); e.through != e.session.AddrPort() {
		e.session.Through = &e.through
	}
	e.to = u.endpoint()
	e.session.SetVerifiedName(u.text())
	e.session.Trusted, e.session.Submission = u.flag(), u.flag()
	e.session.Accepted, e.session.AskedByMTA = u.time(), u.flag()
	e.Session = &e.session
}

func readGreeting(u *unpacker, e *Entry) {
	e.greeting = filters.Greeting{Name: u.text(), Extended: filters.Known(u.flag()), AuthUser: u.text()}
	if u.flag() {
		e.tls = filters.TLS{Version: u.text(), Cipher: u.text(), ServerName: u.text(), PeerSubject: u.text()}
		e.greeting.TLS = &e.tls
	}
	if unsure := u.flag(); unsure {
		e.greeting.Extended = nil
	}
	e.Greeting = &e.greeting
}

func readEnvelope(u *unpacker, e *Entry) {
	e.envelope = filters.Envelope{ID: e.ID, ReversePath: u.text()}
	e.envelope.Params = readParams(u, e)
	e.envelope.Size, e.envelope.UTF8, e.envelope.Started = u.signed(), u.flag(), u.time()
	e.Envelope = &e.envelope
}

func readParams(u *unpacker, e *Entry) []filters.Param {
	n := u.count()
	if n == 0 {
		return nil
	}
	start := len(e.params)
	for range n {
		e.params = append(e.params, filters.Param{Key: u.text(), Value: u.text(), HasValue: u.flag()})
	}
	return e.params[start:len(e.params):len(e.params)]
}

func (k *block) recipients(u *unpacker, e *Entry) {
	for range u.count() {
		p := u.part()
		r := Recipient{Address: p.text(), Params: readParams(&p, e), Reply: readReply(&p), Ours: p.flag(), Action: p.text(),
			Rule: k.rule(&p), Asked: p.flag(), Score: p.number()}
		start := len(e.looked)
		e.looked = k.filters(&p, e, e.looked)
		r.Filters = e.looked[start:len(e.looked):len(e.looked)]
		e.Recipients = append(e.Recipients, r)
	}
}

func readReply(u *unpacker) rules.Reply {
	return rules.Reply{Code: u.small(), Enhanced: u.text(), Text: u.text()}
}

func (k *block) filters(u *unpacker, e *Entry, list []Filter) []Filter {
	for range u.count() {
		p := u.part()
		f := Filter{Name: p.text(), Stage: stage(&p), Status: p.text(), Error: p.text(), Duration: time.Duration(p.signed()) * time.Microsecond}
		if place := p.small(); place > 0 && place <= len(e.groups) {
			f.Facts = &e.groups[place-1]
		}
		list = append(list, f)
	}
	return list
}

func (k *block) matched(u *unpacker, e *Entry) {
	for range u.count() {
		p := u.part()
		if m := (Match{Rule: k.rule(&p), Observed: p.flag(), Recipient: p.text()}); m.Rule != nil {
			e.Matched = append(e.Matched, m)
		}
	}
}

func (k *block) rule(u *unpacker) *Rule {
	place := u.small()
	if place == 0 {
		return nil
	}
	if place > len(k.rules) {
		u.fail()
		return nil
	}
	return k.rules[place-1]
}

func readEnding(u *unpacker, e *Entry) {
	e.Ending = policy.Ending{Reply: readReply(u), Ours: u.flag(), Backend: u.text(), QueueID: u.text(), Size: u.signed(),
		Note: u.text(), Normalized: u.text()}
	if u.flag() {
		copy(e.Ending.Digest[:], u.bytes(len(e.Ending.Digest)))
	}
	e.Ending.Suppressed = u.text()
	e.Ending.Kept = u.text()
}

func (k *block) course(u *unpacker, e *Entry) {
	e.Reached = stepNamed(u.text())
	if u.flag() {
		e.refused = Decision{Action: u.text(), Rule: k.rule(u), Reply: readReply(u)}
		e.Refused = &e.refused
	}
	e.Bypassed = policy.Bypassed{Greet: u.flag(), Helo: u.flag(), Transaction: u.flag()}
	if u.flag() {
		e.attempt.Recipient = int(u.signed())
		e.attempt.State = filters.GreylistState(u.text())
		e.attempt.First = u.time()
		e.attempt.Failed = u.flag()
		e.Attempt = &e.attempt
	}
	if u.flag() {
		e.settings = policy.Settings{Greylist: u.unsigned(), RateLimit: u.unsigned()}
		e.Settings = &e.settings
	}
	e.Transactions = u.small()
}

// stepNamed is the step of that name; one that this release does not know counts as the last.
func stepNamed(name string) policy.Step {
	for s := policy.StepConnect; s < policy.StepEnd; s++ {
		if s.String() == name {
			return s
		}
	}
	return policy.StepEnd
}
