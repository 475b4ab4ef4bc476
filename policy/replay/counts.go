package replay

import (
	"gatepost/filters"
	"gatepost/policy"
)

// conclude counts a recipient or a message.
func (l *limiting) conclude(o *filters.Outcome, supposed bool) {
	if l.most == nil {
		return
	}
	was := result{l.recording.Reply.Code, l.recording.Ours, l.recording.GivenUp()}
	if o.Kind == filters.RecipientOutcome {
		if l.answered >= len(l.recording.Recipients) {
			return
		}
		rcpt := &l.recording.Recipients[l.answered]
		was = result{rcpt.Reply.Code, rcpt.Ours, false}
		l.answered++
	} else {
		l.concluded = true
	}
	if supposed || !l.other && was != (result{o.Code, o.Ours, o.GivenUp}) {
		l.change(o.Kind, o.View)
	}
	if supposed {
		l.suppose(o.Kind, o.View)
	} else {
		l.most.Concluded(o)
	}
	if len(l.changed) > 0 {
		l.concludeBeside(o, was, supposed)
	}
}

// result is what limits look at of how something ended.
type result struct {
	code    int
	ours    bool
	givenUp bool
}

func (r *result) outcome(kind filters.OutcomeKind, v filters.View) *filters.Outcome {
	return &filters.Outcome{Kind: kind, View: v, Code: r.code, Ours: r.ours, GivenUp: r.givenUp}
}

func (l *limiting) concludeBeside(o *filters.Outcome, was result, supposed bool) {
	if !supposed {
		l.least.Concluded(o)
	}
	then := was.outcome(o.Kind, o.View)
	then.Size = l.recording.Size
	l.then.Concluded(then)
}

// end counts what conclude was not told of, and forgets a session that is over.
func (l *limiting) end(r *policy.Recording, play *policy.Play) {
	if l.most == nil {
		return
	}
	if r.Envelope == nil {
		delete(l.connections, r.Session.ID)
		if r.Transactions == 0 && r.Refused != nil && play.Refused == nil { // it would have stayed, and brought who knows what
			l.drain(filters.RecipientOutcome, filters.View{Session: r.Session})
			l.drain(filters.MessageOutcome, filters.View{Session: r.Session})
		}
		return
	}
	v := filters.View{Session: r.Session, Greeting: r.Greeting, Envelope: r.Envelope}
	untold := play.Missing != ""
	for ; l.answered < len(r.Recipients); l.answered++ {
		rcpt := &r.Recipients[l.answered]
		v.Recipient = &filters.Recipient{ForwardPath: rcpt.Address, Params: rcpt.Params}
		was := result{rcpt.Reply.Code, rcpt.Ours, false}
		l.unasked(was.outcome(filters.RecipientOutcome, v), untold)
	}
	v.Recipient = nil
	if untold && (r.Reached == policy.StepMail && r.Refused != nil || play.Missing == "rcpt.address") {
		l.drain(filters.RecipientOutcome, v)
	}
	if !l.concluded {
		was := result{r.Reply.Code, r.Ours, r.GivenUp()}
		then := was.outcome(filters.MessageOutcome, v)
		then.Size = r.Size
		l.unasked(then, untold)
	}
}

// unasked counts what came then, and now may have come (untold) or not.
func (l *limiting) unasked(then *filters.Outcome, untold bool) {
	l.change(then.Kind, then.View)
	if untold {
		l.suppose(then.Kind, then.View)
	}
	l.then.Concluded(then)
}

// suppose counts a recipient or a message of which it is not known how it ended.
func (l *limiting) suppose(kind filters.OutcomeKind, v filters.View) {
	if kind == filters.RecipientOutcome {
		l.most.Concluded(&filters.Outcome{Kind: kind, View: v, Code: 550}) // counts as a recipient and as one refused
		return
	}
	r := l.recording
	size := r.Size
	if r.Reached < policy.StepEnd {
		if size = r.Envelope.Size; size <= 0 {
			size = mostBytes
		}
	}
	l.most.Concluded(&filters.Outcome{Kind: kind, View: v, Code: 250, Size: size})
	l.most.Concluded(&filters.Outcome{Kind: kind, View: v, GivenUp: true})
}

// drain notes that nobody knows how many came, and perhaps not for whom.
func (l *limiting) drain(kind filters.OutcomeKind, v filters.View) {
	l.change(kind, v)
	l.buckets = l.most.CountedIn(l.buckets[:0], kind, v)
	for _, b := range l.buckets {
		l.most.Drain(b)
	}
	l.buckets = l.most.Anybodys(l.buckets[:0], kind, v)
	for _, b := range l.buckets {
		l.anybodys[b.Limit()] = l.clock.now.Add(2 * b.Fill()) // who owes a whole bucket takes twice as long
	}
}

// change notes that buckets may from now on be another than then, or not be known. Who connects is asked about all that
// the client has: of that, nothing must be older.
func (l *limiting) change(kind filters.OutcomeKind, v filters.View) {
	l.buckets = l.most.CountedIn(l.buckets[:0], kind, v)
	l.buckets = l.most.LookedAt(l.buckets, filters.AtConnect, v)
	for _, b := range l.buckets {
		if _, known := l.changed[b]; !known && len(l.changed) < maxChanged {
			l.changed[b] = struct{}{}
			l.least.CopyFrom(l.most, b)
			l.then.CopyFrom(l.most, b)
		}
	}
}
