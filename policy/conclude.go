package policy

import (
	"fmt"
	"runtime/debug"
	"slices"
	"sync"

	"gatepost/filters"
	"gatepost/rules"
)

// Conclude ends the transaction and writes the record. It is called exactly once for every Mail, also after RSET, and
// after the reply was sent: it waits until the transaction's observations have ended.
func (g *Gate) Conclude(e Ending) {
	g.endRecipient()
	g.tx.aside = nil
	g.poll()
	g.evaluateObserved(g.judged(), g.tx.watched.from, g.tx.watched.end)
	g.tell(filters.Outcome{
		Kind: filters.MessageOutcome, Code: e.Reply.Code, Enhanced: e.Reply.Enhanced, Ours: e.Ours, Reasons: g.reasons(e), Size: e.Size,
		GivenUp: g.tx.givenUp(e), Excused: g.excused(),
	})
	g.stop(transactionLevel)
	tx := g.tx
	g.record(&Record{
		ID:         tx.envelope.ID,
		Kind:       TransactionRecord,
		Start:      tx.envelope.Started,
		Envelope:   tx.envelope,
		Recipients: tx.recipients,
		Facts:      tx.lasting(),
		Matched:    slices.Concat(g.matchesBefore(), tx.matches),
		Ending:     e,
		Reached:    tx.step,
		Refused:    tx.refused,
		Attempt:    tx.grey.attempt,
		Headers:    g.engine.set.Headers(),
	})
	g.tx = nil
	g.forgetRuns()
}

// lasting returns the facts for the record.
func (tx *transaction) lasting() *rules.Facts {
	switch {
	case tx.class != nil:
		return tx.class.facts
	case tx.spare != nil:
		return tx.spare
	default:
		return tx.facts
	}
}

// Close ends the session: stops and waits for all observations, writes the session's record. A transaction that is
// still open is concluded with the note.
func (g *Gate) Close(note string) {
	if g.tx != nil {
		g.Conclude(Ending{Note: note})
	}
	g.tell(filters.Outcome{Kind: filters.SessionOutcome})
	g.stop(connectionLevel)
	g.record(&Record{
		ID:      g.session.ID,
		Kind:    SessionRecord,
		Start:   g.session.Accepted,
		Facts:   &g.facts,
		Matched: g.matchesBefore(),
		Ending:  g.ending(note),

		Reached:      g.step,
		Refused:      g.refusedBefore(),
		Transactions: int(g.transactions),
	})
}

// HungUp notes the front end's last word to a client whom it sends away, for a limit of the dialogue: it is no verdict.
func (g *Gate) HungUp(r rules.Reply) { g.told().lastWord = &r }

// ending is how the session ended. What a rule had refused before stays the reason.
func (g *Gate) ending(note string) Ending {
	e := Ending{Note: note}
	if g.story != nil && g.story.lastWord != nil && g.story.refused == nil {
		e.Reply, e.Ours = *g.story.lastWord, true
	}
	return e
}

// tell lets the filters that want to know hear how something ended.
func (g *Gate) tell(outcome filters.Outcome) {
	if g.play != nil {
		g.play.tell(g, outcome, false)
		return
	}
	if len(g.engine.witnesses) == 0 {
		return
	}
	o := outcomes.Get().(*filters.Outcome)
	*o = outcome
	o.View = g.view()
	o.View.Message = nil // the front end may have let go of it
	for _, w := range g.engine.witnesses {
		g.concluded(w, o)
	}
	*o = filters.Outcome{}
	outcomes.Put(o)
}

// outcomes are for witnesses, who keep none: of a session that is refused at RCPT they were a tenth of what it allocates.
var outcomes = sync.Pool{New: func() any { return new(filters.Outcome) }}

// reasons are the facts by which a rule has ended the transaction.
func (g *Gate) reasons(e Ending) []string {
	if refused := g.tx.refused; e.Ours && refused != nil && refused.Rule != nil {
		return refused.Rule.Fields
	}
	return nil
}

// excused tells whether a rule that was not enforced would have refused the transaction or taken it away.
func (g *Gate) excused() bool {
	would := func(m Match) bool {
		return m.Observed && (m.Rule.Action == rules.Reject || m.Rule.Action == rules.Discard || m.Rule.Action == rules.Quarantine || m.Rule.Action == rules.Drop)
	}
	return slices.ContainsFunc(g.tx.matches, would) || slices.ContainsFunc(g.matchesBefore(), would)
}

// givenUp tells whether the client ended the transaction without a reason of ours or the backend's.
func (tx *transaction) givenUp(e Ending) bool {
	return e.Reply.Code == 0 && !e.Ours &&
		!slices.ContainsFunc(tx.recipients, func(r RecipientRecord) bool { return r.Reply.Code/100 != 2 })
}

func (g *Gate) concluded(w filters.Witness, o *filters.Outcome) {
	defer func() {
		if v := recover(); v != nil {
			g.engine.log.Error("filter panicked", "session", g.session.ID, "method", "Concluded", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		}
	}()
	w.Concluded(o)
}
