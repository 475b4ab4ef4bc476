package policyserver

import (
	"context"
	"strconv"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/rules"
)

// leftToMTA is the note of a transaction that we have nothing against.
const leftToMTA = "left to the MTA, whose final reply a policy server does not hear"

// heldByMTA is the note of a message in quarantine.
const heldByMTA = "in quarantine, in the MTA's own queue"

// transaction is a mail transaction, as far as Postfix asks about it.
type transaction struct {
	instance string // Postfix's name for it; empty while it is not known: at MAIL it does not have one yet
	envelope *filters.Envelope
	open     bool   // the gate has it
	over     bool   // nothing more will be asked that is not answered already
	standing answer // to all further requests about it; empty: there is nothing against it
	refusal  rules.Reply

	recipient string // the latest one
	again     answer // what is answered when Postfix asks about it again; empty: there is none yet
	accepted  int    // recipients that we have nothing against
	instead   string // what happens to the message instead of a delivery; empty: nothing
	tags      int    // fields that Postfix was given
	queueID   string
}

// mail begins the transaction that the request is about, unless it is the one that is there.
func (s *session) mail(ctx context.Context, to step) (v policy.Verdict, standing answer) {
	if s.continues(to) {
		if id := s.request["queue_id"]; id != "" {
			s.tx.queueID = id
		}
		return v, s.tx.standing
	}
	s.conclude("MAIL")
	s.serial++
	size, err := strconv.ParseInt(s.request["size"], 10, 64)
	if err != nil || size < 0 {
		size = 0
	}
	s.tx = &transaction{open: true, queueID: s.request["queue_id"], envelope: &filters.Envelope{
		ID:          s.info.ID + "." + strconv.Itoa(s.serial),
		ReversePath: s.request["sender"],
		Size:        size,
		Started:     s.server.clock.Now(),
	}}
	if to > toMail {
		s.tx.instance = s.request["instance"]
	}
	return s.gate.Mail(ctx, s.tx.envelope), ""
}

// continues tells whether the request is about the transaction that is there.
func (s *session) continues(to step) bool {
	tx, instance := s.tx, s.request["instance"]
	switch {
	case tx == nil || tx.envelope.ReversePath != s.request["sender"]:
		return false
	case to == toMail: // asked twice about one command; `instance` is still that of the last transaction
		return tx.instance == "" && tx.again == "" && (!tx.over || tx.standing != "")
	case tx.instance == "" && tx.again == "" && !tx.over:
		tx.instance = instance
		return true
	}
	return tx.instance == instance
}

// rcpt adds the recipient of the request. One that was asked about just now, for another list of restrictions, gets the
// same answer. Behind DATA there is nothing to add; one that was not asked about at RCPT is named there if it is the only one.
func (s *session) rcpt(ctx context.Context, to step) (v policy.Verdict, standing answer) {
	tx, address := s.tx, s.request["recipient"]
	switch {
	case tx.over:
		return v, dunno
	case to == toData && (address == "" || tx.again != ""):
		return v, ""
	case tx.again != "" && tx.recipient == address:
		return v, tx.again
	}
	tx.recipient, tx.again = address, dunno
	v = s.gate.Rcpt(ctx, &filters.Recipient{ForwardPath: address})
	if !stops(v) {
		delay := v.Delay
		v = s.gate.Accepted(ctx)
		v.Delay += delay
	}
	if !stops(v) {
		tx.accepted++
	}
	return v, ""
}

// data is DATA, or the end of the message where Postfix asks there only.
func (s *session) data(ctx context.Context, _ step) (v policy.Verdict, standing answer) {
	s.tx.over = true
	return s.gate.Data(ctx), ""
}

// conclude ends the transaction, if it is open, and tells the gate how.
func (s *session) conclude(note string) {
	if tx := s.tx; tx != nil && tx.open {
		tx.open = false
		s.gate.Conclude(tx.ending(note))
	}
}

// ending is how it ended, as far as we know.
func (tx *transaction) ending(note string) policy.Ending {
	e := policy.Ending{QueueID: tx.queueID}
	switch {
	case tx.refusal.Code != 0:
		e.Reply, e.Ours = tx.refusal, true
	case tx.instead != "":
		e.Reply, e.Ours, e.Note = rules.Reply{Code: 250}, true, tx.instead
	case tx.accepted > 0:
		e.Reply, e.Note = rules.Reply{Code: 250}, leftToMTA
	default:
		e.Note = note
	}
	return e
}
