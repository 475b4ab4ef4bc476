package policy

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"gatepost/filters"
	"gatepost/rules"
)

// Recording is a session or a transaction as it can be run again, also by another engine, another release, another day:
// what the client said, what the backend answered, what filters found, and what became of it. See [Player].
type Recording struct {
	ID       string
	Start    time.Time
	Session  *filters.Session // Trusted is not used: the engine at hand says who is
	Greeting *filters.Greeting
	Envelope *filters.Envelope // nil for a session
	Looks    []Look            // of connection, greeting and transaction
	Message  *RecordedMessage  // nil if none was judged
	// Recipients in the order in which they were asked for.
	Recipients   []RecordedRecipient
	Reached      Step
	Refused      *RecordedDecision // what Reached came to, unless that is StepRcpt
	Bypassed     Bypassed
	Attempt      *Attempt // nil if the greylister was not asked
	Settings     Settings
	Transactions int // of a session
	// The reply that ended it, as in [Ending].
	Reply rules.Reply
	Ours  bool
	Size  int64
	// Disguised: what stands for local parts in Envelope and Recipients is not what the client said, but for postmaster
	// and abuse. What rules say by another one cannot be told.
	Disguised bool
}

// RecordedDecision is a [Decision] whose rule may not exist any more.
type RecordedDecision struct {
	Action rules.Action
	Rule   string
	Reply  rules.Reply
}

// RecordedRecipient is one RCPT. The meaning of its fields is that of [RecipientRecord].
type RecordedRecipient struct {
	Address string
	Params  []filters.Param
	Asked   bool
	Ours    bool
	RecordedDecision
	Looks []Look
}

// Look is how an observation went.
type Look struct {
	Filter string
	Stage  filters.Stage
	Status LookStatus
	// Facts are a pointer to the struct that declares them, or Values where that may be another release's; nil unless
	// Status is LookOK.
	Facts any
}

// LookStatus tells how an observation ended.
type LookStatus uint8

// An observation that nobody waited for until its end is LookUnfinished: what it would have found is not known.
const (
	LookUnfinished LookStatus = iota
	LookOK
	LookTimeout
	LookError
)

// LookStatusOf reads FilterRecord.Status.
func LookStatusOf(status string) LookStatus {
	switch status {
	case succeeded.String():
		return LookOK
	case timedOut.String():
		return LookTimeout
	case failed.String():
		return LookError
	default:
		return LookUnfinished
	}
}

// Values are the facts of an observation as another release may have written them.
type Values interface {
	// Shape is the same for values of the same names, and can be compared.
	Shape() any
	// Names are the facts that were recorded, by the names that rules use ("spf.result"). One that was absent is among
	// them.
	Names() []string
	// Visit calls v for every fact that is not absent, with its place among Names.
	Visit(v ValueVisitor)
}

// ValueVisitor is told of facts, each by the method of its kind.
type ValueVisitor interface {
	Bool(place int, value bool)
	Number(place int, value float64)
	Text(place int, value string)
	List(place int, value []string)
	Address(place int, value netip.Addr)
}

// RecordedMessage is what was recorded of a message.
type RecordedMessage struct {
	Failed bool // its header could not be read
	Size   int
	// Bodiless: a milter was not given the body, and Size is not known.
	Bodiless bool
	Header   rules.HeaderSource // a rules.PartialHeader where not every field was recorded
}

// RecordingOf makes a recording of a record that has just been made.
func RecordingOf(r *Record) *Recording {
	c := &Recording{
		ID: r.ID, Start: r.Start, Session: r.Session, Greeting: r.Greeting, Envelope: r.Envelope,
		Reached: r.Reached, Refused: recorded(r.Refused), Bypassed: r.Bypassed, Attempt: r.Attempt, Settings: *r.Settings,
		Transactions: r.Transactions, Reply: r.Ending.Reply, Ours: r.Ending.Ours, Size: r.Ending.Size,
		Looks: looksOf(r.Filters),
	}
	for _, rcpt := range r.Recipients {
		decision := RecordedDecision{Action: rcpt.Action, Reply: rcpt.Reply}
		if rcpt.Rule != nil {
			decision.Rule = rcpt.Rule.Name
		}
		c.Recipients = append(c.Recipients, RecordedRecipient{
			Address: rcpt.Address, Params: rcpt.Params, Asked: rcpt.Asked, Ours: rcpt.Ours,
			RecordedDecision: decision, Looks: looksOf(rcpt.Filters),
		})
	}
	if r.Facts.Failed(messageGroup) {
		c.Message = &RecordedMessage{Failed: true}
	} else if m, ok := r.Facts.Group(messageGroup).(*MessageFacts); ok {
		c.Message = &RecordedMessage{Bodiless: m.Size == nil, Header: recordedHeader{r.Facts, r.Headers}}
		if m.Size != nil {
			c.Message.Size = *m.Size
		}
	}
	return c
}

func recorded(d *Decision) *RecordedDecision {
	if d == nil {
		return nil
	}
	c := &RecordedDecision{Action: d.Action, Reply: d.Reply}
	if d.Rule != nil {
		c.Rule = d.Rule.Name
	}
	return c
}

func looksOf(list []FilterRecord) []Look {
	looks := make([]Look, len(list))
	for i, f := range list {
		looks[i] = Look{Filter: f.Name, Stage: f.Stage, Status: LookStatusOf(f.Status), Facts: f.Facts}
	}
	return looks
}

// recordedHeader reads what facts hold of a header.
type recordedHeader struct {
	facts *rules.Facts
	names []string // canonical; all that were looked for
}

// Header implements rules.HeaderSource.
func (h recordedHeader) Header(name string) (value string, ok bool) {
	if !h.Holds(name) {
		return "", false
	}
	found, _ := h.facts.Lookup(`header("` + name + `")`)
	value, _ = found.(string)
	return value, value != ""
}

// Holds implements rules.PartialHeader.
func (h recordedHeader) Holds(name string) bool {
	return slices.ContainsFunc(h.names, func(n string) bool { return strings.EqualFold(n, name) })
}
