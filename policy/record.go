package policy

import (
	"strings"
	"time"

	"gatepost/filters"
	"gatepost/rules"
)

// Recorder is told of every session and transaction when it has ended. It is called on the session's goroutine and must
// not wait. The record and what it points to belong to the recorder and are not changed any more.
type Recorder interface{ Record(r *Record) }

// Confirmer is a Recorder that also wants to hear that a client has read a final reply: it gave a command after the
// reply was written. A transaction with a final reply (2yz, 4yz or 5yz at the end of data) and no such call is
// unconfirmed: its client may not know how it came out, and try again. Confirmed is called at most once for a
// transaction, after its Record, on the session's goroutine; it must not wait.
type Confirmer interface {
	Confirmed(transactionID string, at time.Time)
}

// Record is what was decided and why. A transaction's record repeats what the connection brought to it: Filters and
// Matched hold those of the connection as well.
type Record struct {
	ID         string
	Kind       string // SessionRecord or TransactionRecord
	Start      time.Time
	End        time.Time
	Session    *filters.Session
	Greeting   *filters.Greeting
	Envelope   *filters.Envelope
	Recipients []RecipientRecord // at most 1,000
	// Facts by which the message was judged: those of the first accepted recipient, who stands for all; without one,
	// those of the last recipient asked for.
	Facts   *rules.Facts
	Filters []FilterRecord
	Matched []Match // at most 4,000
	Ending  Ending

	// What running the decision again needs beside all that.

	Reached  Step
	Refused  *Decision // what Reached came to, unless that is StepRcpt; nil where the front end went on
	Bypassed Bypassed
	Attempt  *Attempt // nil if the greylister was not asked
	// Headers names the header fields that rules read, in canonical form; Facts hold those that the message had. It is
	// shared with other records.
	Headers []string
	// Settings tells apart configurations of filters with a memory. It is shared with other records.
	Settings *Settings
	// Transactions is how many a session had, for SessionRecord.
	Transactions int
}

// Step is how far a session or a transaction came.
type Step uint8

// The steps in order. A session's record ends with StepHelo at the latest, a transaction's begins with StepMail.
const (
	StepConnect Step = iota // nothing was asked but the connection's filters
	StepGreet
	StepHelo
	StepMail
	StepRcpt
	StepData
	StepMessage // it began to come
	StepEnd     // all of it was there and has been judged
)

var stepNames = [...]string{"connect", "greeting", "helo", "mail", "rcpt", "data", "message", "end"}

func (s Step) String() string { return stepNames[s] }

// Decision is a verdict that kept the front end from going on.
type Decision struct {
	Action rules.Action
	Rule   *rules.Rule // nil where no rule decided
	Reply  rules.Reply
}

// Bypassed tells at which steps terminal actions were only recorded.
type Bypassed struct{ Greet, Helo, Transaction bool }

// Attempt is what the greylister was asked for a transaction. It is asked once at most.
type Attempt struct {
	// Recipient is the place among Record.Recipients of the one for whom it was asked, or AttemptBehindRecipients.
	Recipient int
	filters.GreylistAttempt
	Failed bool // it did not answer; such mail passes
}

// Notes of ours on what was kept; no word of them is anybody else's.
const (
	NoteKept   = "kept in quarantine"
	NoteCopied = "a copy is in quarantine"
)

// AttemptBehindRecipients stands for an attempt at DATA or at the end of the message.
const AttemptBehindRecipients = -1

// Settings are digests of how filters with a memory were configured: what they found holds for no other settings. Zero
// where the filter is off.
type Settings struct{ Greylist, RateLimit uint64 }

// GreylistIs tells whether the greylister had this section of the configuration.
func (s *Settings) GreylistIs(section any) bool { return s.Greylist == digest(section) }

// The kinds of records.
const (
	SessionRecord     = "session"
	TransactionRecord = "transaction"
)

const (
	maxRecipientRecords = 1000
	maxMatches          = 4000
)

// RecipientRecord is one RCPT and how it was answered. Of a backend's 2xx only the code is kept.
type RecipientRecord struct {
	Address string
	Params  []filters.Param
	Reply   rules.Reply
	Ours    bool
	Action  rules.Action // by which our reply was chosen; 0 for the backend's
	Rule    *rules.Rule
	// Asked tells that our rules let the recipient go to the backend. Its answer is Reply or else, where that is Ours, it
	// was a 2xx that we replaced. Where no backend could be had, Reply is what the front end said in its place.
	Asked bool
	Score float64
	// Filters that looked at this recipient, as far as they had come when it was answered.
	Filters []FilterRecord
}

// FilterRecord says how a filter's observation went.
type FilterRecord struct {
	Name     string
	Stage    filters.Stage
	Status   string // ok, timeout, error, unfinished (no rule needed it, so it was not waited for)
	Error    string
	Duration time.Duration
	Facts    any // pointer to the struct that declares them; nil unless Status is ok
}

// Match is a rule whose condition was true.
type Match struct {
	Rule      *rules.Rule
	Observed  bool   // mode: observe, or bypass
	Recipient string // for a rule at RCPT
}

// Ending tells how the transaction came out.
type Ending struct {
	Reply      rules.Reply // the bytes that the client got (Text as sent, multi-line with \n)
	Ours       bool        // our reply and not the backend's
	Backend    string      // address of the backend, if one was asked
	QueueID    string      // as far as it can be read from the backend's reply
	Size       int64
	Note       string // what happened beside the reply: "client left before the reply", "backend lost after the dot"
	Normalized string // what line_endings did, or empty
	// Digest is the SHA-256 of the message that filters saw and the backend got, without the fields that we put on top.
	// Zero: the message did not come to its end, or nobody has asked for digests.
	Digest [32]byte
	// Suppressed is the ID of the transaction that has delivered the same message before, when this one was answered 250
	// without a second delivery (`duplicates: suppress`); else empty.
	Suppressed string
	// Kept is the ID under which quarantine has the message, or a copy of what was refused; else empty.
	Kept string
}

func (g *Gate) record(r *Record) {
	if g.runtime.Recorder == nil {
		return
	}
	r.Session, r.Greeting = g.session, g.greeting
	r.Filters = g.filterRecords()
	r.Bypassed = g.bypassing
	r.Settings = &g.engine.settings
	r.End = g.runtime.now()
	g.runtime.Recorder.Record(r)
}

func (g *Gate) filterRecords() []FilterRecord {
	n := len(g.slots)
	if g.tx != nil {
		n += len(g.tx.slots)
	}
	list := make([]FilterRecord, 0, n)
	for i, s := range g.allSlots {
		if s.status != idle {
			list = append(list, s.record(g.engine.observations[i], g.judged(), g.runOf(i)))
		}
	}
	return list
}

// record is the slot of o, whose facts are among those given. r is its run, as [Gate.runOf] has it.
func (s *slot) record(o *observation, facts *rules.Facts, r *run) FilterRecord {
	f := FilterRecord{Name: o.filter, Stage: o.stage, Status: s.status.String(), Duration: s.took.duration()}
	if s.status == succeeded {
		f.Facts = facts.Group(o.group)
	}
	if s.status == running {
		f.Duration = time.Since(r.started)
	}
	if s.status == failed || s.status == timedOut {
		f.Error = strings.ReplaceAll(r.err.Error(), "\n", "; ") // of several joined (errors.Join)
	}
	return f
}

// recipientFilters returns the records of the observations of the last recipient. All recipients of a transaction share
// the room.
func (g *Gate) recipientFilters() []FilterRecord {
	tx := g.tx
	start := len(tx.looked)
	for _, o := range g.engine.byStage[filters.AtRcpt] {
		if s := g.slot(o.slot); s.status != idle {
			tx.looked = append(tx.looked, s.record(o, g.judged(), g.runOf(o.slot)))
		}
	}
	return tx.looked[start:len(tx.looked):len(tx.looked)]
}

// reach notes how far a session or transaction has come, and what became of it there.
func (g *Gate) reach(s Step, v Verdict) {
	var refused *Decision
	if v.Action != 0 {
		refused = &Decision{v.Action, v.Rule, v.Reply}
	}
	if g.tx != nil {
		g.tx.step, g.tx.refused = s, refused
		return
	}
	g.step = s
	if refused != nil || g.story != nil {
		g.told().refused = refused
	}
}

// matched notes that a rule's condition was true.
func (g *Gate) matched(r *rules.Rule, observed bool) {
	m := Match{Rule: r, Observed: observed}
	var list *[]Match
	if g.tx == nil {
		list = &g.told().matches
	} else {
		list = &g.tx.matches
		if g.tx.rcpt != nil {
			m.Recipient = g.tx.rcpt.ForwardPath
		}
	}
	if len(*list) < maxMatches {
		*list = append(*list, m)
	}
}
