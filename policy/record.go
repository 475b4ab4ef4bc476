package policy

import (
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
}

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
	Reply   rules.Reply
	Ours    bool
	Rule    *rules.Rule
}

// FilterRecord says how a filter's observation went.
type FilterRecord struct {
	Name     string
	Stage    filters.Stage
	Status   string // ok, timeout, error, unfinished (no rule needed it, so it was not waited for)
	Error    string
	Duration time.Duration
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
}

func (g *Gate) record(r *Record) {
	if g.runtime.Recorder == nil {
		return
	}
	r.Session, r.Greeting = g.session, g.greeting
	r.Filters = g.filterRecords()
	r.End = g.runtime.Clock.Now()
	g.runtime.Recorder.Record(r)
}

func (g *Gate) filterRecords() []FilterRecord {
	n := len(g.slots)
	if g.tx != nil {
		n += len(g.tx.slots)
	}
	list := make([]FilterRecord, 0, n)
	for i, s := range g.allSlots {
		o := g.engine.observations[i]
		if s.status == idle {
			continue
		}
		f := FilterRecord{Name: o.filter, Stage: o.stage, Status: s.status.String(), Duration: s.took}
		if s.status == running {
			f.Duration = time.Since(s.run.started)
		}
		if s.err != nil {
			f.Error = s.err.Error()
		}
		list = append(list, f)
	}
	return list
}

// matched notes that a rule's condition was true.
func (g *Gate) matched(r *rules.Rule, observed bool) {
	m := Match{Rule: r, Observed: observed}
	list := &g.matches
	if g.tx != nil {
		list = &g.tx.matches
		if g.tx.rcpt != nil {
			m.Recipient = g.tx.rcpt.ForwardPath
		}
	}
	if len(*list) < maxMatches {
		*list = append(*list, m)
	}
}
