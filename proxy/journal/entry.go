package journal

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/rules"
)

// Entry is a record as it was written: a policy.Record whose facts and rules are names and values, since those of the
// reader may be others than the writer's. What the reader yields is good until it yields the next; Clone keeps one.
type Entry struct {
	ID         string
	Kind       string // policy.SessionRecord, policy.TransactionRecord or ChangeEntry, which has nothing but a Change
	Start, End time.Time
	Verdict    string // one of telemetry.Verdicts, as in the log; empty for a change
	Session    *filters.Session
	Greeting   *filters.Greeting // nil: none was given
	Envelope   *filters.Envelope // nil for a session
	Recipients []Recipient
	Score      float64
	Facts      []Group // by which it was judged; those that were neither known nor failed are left out
	Filters    []Filter
	Matched    []Match
	Ending     policy.Ending
	Reached    policy.Step
	Refused    *Decision // what Reached came to; nil where the front end went on
	Bypassed   policy.Bypassed
	Attempt    *policy.Attempt
	Settings   *policy.Settings
	Headers    []Header // that rules read
	// Transactions is how many a session had.
	Transactions int
	// Change is what was changed; nil for a session or a transaction.
	Change *Change
	// Confirmed is when the client had certainly read the final reply; zero: not known. Queries fill it in that ask for it.
	Confirmed time.Time

	source   *block // what it was unpacked from
	raw      []byte
	groups   []Group
	session  filters.Session
	through  netip.AddrPort // of session, as is to
	to       netip.AddrPort
	greeting filters.Greeting
	tls      filters.TLS
	envelope filters.Envelope
	refused  Decision
	attempt  policy.Attempt
	settings policy.Settings
	change   Change
	params   []filters.Param // of all recipients
	looked   []Filter        // at all recipients
}

// Recipient is one RCPT and how it was answered, as policy.RecipientRecord has it.
type Recipient struct {
	Address string
	Params  []filters.Param
	Reply   rules.Reply
	Ours    bool
	Action  string
	Rule    *Rule
	Asked   bool
	Score   float64
	Filters []Filter
}

// Filter says how an observation went, as policy.FilterRecord does.
type Filter struct {
	Name     string
	Stage    filters.Stage
	Status   string
	Error    string
	Duration time.Duration // in microseconds
	Facts    *Group        // nil unless Status is ok
}

// Match is a rule whose condition was true.
type Match struct {
	Rule      *Rule
	Observed  bool
	Recipient string
}

// Decision is a verdict that kept the front end from going on.
type Decision struct {
	Action string
	Rule   *Rule // nil where no rule decided
	Reply  rules.Reply
}

// Header is a field of the message that rules read.
type Header struct {
	Name  string
	Known bool   // the message had come
	Value string // empty where it had no such field
}

// Rule is a rule as it was when it decided. All entries of a block share it: do not change it.
type Rule struct {
	Name         string
	File         string
	Line, Column int
	Action       string
	Mode         string
	Stage        filters.Stage
	When         string // the condition as written
	Index        int    // its place in the file, from 0
	DeferOnError bool
}

// Place is "file:line".
func (r *Rule) Place() string {
	var b strings.Builder
	b.WriteString(r.File)
	b.WriteByte(':')
	b.WriteString(itoa(r.Line))
	return b.String()
}

// Decisive returns the rule by which the entry came out as it did: that of the last verdict, or else of the first
// recipient whom a rule refused. It is nil where no rule decided.
func (e *Entry) Decisive() *Rule {
	if e.Refused != nil {
		return e.Refused.Rule
	}
	if e.Accepted() {
		return nil
	}
	for i := range e.Recipients {
		if r := &e.Recipients[i]; r.Rule != nil {
			return r.Rule
		}
	}
	return nil
}

// Accepted tells whether a recipient was accepted.
func (e *Entry) Accepted() bool {
	return slices.ContainsFunc(e.Recipients, func(r Recipient) bool { return r.Reply.Code/100 == 2 })
}

// WroteReply tells whether a reply was our own words: a backend does not know the entry's id. A recipient's reply is not
// marked as ours where the front end spoke for a backend that it did not reach.
func (e *Entry) WroteReply(r rules.Reply) bool { return strings.Contains(r.Text, "(id "+e.ID+")") }

// Reply returns the last word to the client: at the end of data, or what kept it from getting there, or the first
// refusal of a recipient.
func (e *Entry) Reply() (r rules.Reply, ours bool) {
	if e.Ending.Reply.Code != 0 {
		return e.Ending.Reply, e.Ending.Ours
	}
	for i := range e.Recipients {
		if r := &e.Recipients[i]; r.Reply.Code/100 != 2 {
			return r.Reply, r.Ours || e.WroteReply(r.Reply)
		}
	}
	if e.Refused != nil {
		return e.Refused.Reply, true
	}
	return rules.Reply{}, false
}

// Lookup reads a fact by which the entry was judged: bool, float64, string, []string or netip.Addr. ok is false where it
// was absent.
func (e *Entry) Lookup(name string) (value any, ok bool) {
	for i := range e.Facts {
		if value, ok := e.Facts[i].Lookup(name); ok {
			return value, true
		}
	}
	return nil, false
}

// Header reads a field of the message. known is false where the message had not come, or no rule read the field.
func (e *Entry) Header(name string) (value string, known bool) {
	for i := range e.Headers {
		if h := &e.Headers[i]; strings.EqualFold(h.Name, name) {
			return h.Value, h.Known
		}
	}
	return "", false
}
