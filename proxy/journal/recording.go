package journal

import (
	"slices"

	"gatepost/policy"
	"gatepost/rules"
)

// Recording makes ready what policy.Player runs again. It is good as long as the entry.
func (e *Entry) Recording() *policy.Recording {
	r := &policy.Recording{
		ID: e.ID, Start: e.Start, Session: e.Session, Greeting: e.Greeting, Envelope: e.Envelope,
		Looks: looksOf(e.Filters), Message: e.message(), Reached: e.Reached, Bypassed: e.Bypassed, Attempt: e.Attempt,
		Transactions: e.Transactions, Reply: e.Ending.Reply, Ours: e.Ending.Ours, Size: e.Ending.Size, Disguised: e.disguised(),
	}
	if e.Settings != nil {
		r.Settings = *e.Settings
	}
	if e.Refused != nil {
		d := decisionOf(e.Refused.Action, e.Refused.Rule, e.Refused.Reply)
		r.Refused = &d
	}
	if len(e.Recipients) > 0 {
		r.Recipients = make([]policy.RecordedRecipient, len(e.Recipients))
	}
	for i := range e.Recipients {
		rcpt := &e.Recipients[i]
		r.Recipients[i] = policy.RecordedRecipient{
			Address: rcpt.Address, Params: rcpt.Params, Asked: rcpt.Asked, Ours: rcpt.Ours,
			RecordedDecision: decisionOf(rcpt.Action, rcpt.Rule, rcpt.Reply), Looks: looksOf(rcpt.Filters),
		}
	}
	return r
}

// disguised tells whether a local part was replaced. A client that really has such a one only makes this entry less
// telling.
func (e *Entry) disguised() bool {
	if e.Envelope != nil && IsDisguise(e.Envelope.ReversePath) || e.Greeting != nil && IsDisguise(e.Greeting.AuthUser) {
		return true
	}
	return slices.ContainsFunc(e.Recipients, func(r Recipient) bool { return IsDisguise(r.Address) })
}

// IsDisguise tells whether an address, or a local part, is one that the journal has put in place of the real one
// (journal.addresses). A client may really have such a one.
func IsDisguise(address string) bool {
	local, _ := splitAddress(address)
	return local == "*" || len(local) == 1+base32Lower.EncodedLen(tokenBytes) && local[0] == '~'
}

func decisionOf(action string, rule *Rule, reply rules.Reply) policy.RecordedDecision {
	d := policy.RecordedDecision{Reply: reply}
	d.Action, _ = rules.ParseAction(action)
	if rule != nil {
		d.Rule = rule.Name
	}
	return d
}

func looksOf(list []Filter) []policy.Look {
	looks := make([]policy.Look, len(list))
	for i := range list {
		f := &list[i]
		looks[i] = policy.Look{Filter: f.Name, Stage: f.Stage, Status: policy.LookStatusOf(f.Status)}
		if f.Facts != nil {
			looks[i].Facts = values{f.Facts}
		}
	}
	return looks
}

// values shows a group to a player.
type values struct{ group *Group }

var _ policy.Values = values{}

// Shape implements policy.Values.
func (v values) Shape() any { return v.group.Shape }

// Names implements policy.Values.
func (v values) Names() []string {
	names := make([]string, len(v.group.Shape.Columns))
	for i, c := range v.group.Shape.Columns {
		names[i] = c.Name
	}
	return names
}

// Visit implements policy.Values.
func (v values) Visit(visitor policy.ValueVisitor) { v.group.Visit(visitor) }

// message is what was recorded of the message; nil if none was judged.
func (e *Entry) message() *policy.RecordedMessage {
	i := slices.IndexFunc(e.Facts, func(g Group) bool { return g.Shape.Name == "message" })
	if i < 0 {
		return nil
	}
	if e.Facts[i].Failed {
		return &policy.RecordedMessage{Failed: true}
	}
	size, known := e.Facts[i].Lookup("message.size")
	number, _ := size.(float64)
	return &policy.RecordedMessage{Size: int(number), Bodiless: !known, Header: headers(e.Headers)}
}

// headers implements rules.PartialHeader.
type headers []Header

var _ rules.PartialHeader = headers{}

// Header implements rules.HeaderSource.
func (h headers) Header(name string) (value string, ok bool) {
	value, _ = (&Entry{Headers: h}).Header(name)
	return value, value != ""
}

// Holds implements rules.PartialHeader.
func (h headers) Holds(name string) bool {
	_, known := (&Entry{Headers: h}).Header(name)
	return known
}
