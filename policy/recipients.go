package policy

import (
	"bytes"
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatepost/filters"
	"gatepost/rules"
)

// recipient is one RCPT and what its rules came to.
type recipient struct {
	carried
	filters.Recipient
	rcpt      RcptFacts
	facts     *rules.Facts
	greylists *plannedRule // the rule by which the backend's 2xx is to be replaced, or nil
	closedAt  int
	place     int // of its command among the transaction's
	answered  bool
	looks     []stand // of its observations, while it is set aside
}

// stand is how an observation stands, with its run.
type stand struct {
	slot
	run *run
}

// Rcpt decides about a recipient before the backend is asked. With a zero Action the recipient goes to the backend, and
// Accepted or Refused follows, or Aside.
func (g *Gate) Rcpt(ctx context.Context, r *filters.Recipient) Verdict {
	g.endRecipient()
	g.poll()
	g.reach(StepRcpt, Verdict{})
	rc := g.newRecipient(r)
	if v := g.relayVerdict(rc); v.Action != 0 {
		g.refuseRecipient(v, false)
		return v
	}
	g.start(ctx, filters.AtRcpt)
	result := g.evaluate(ctx, filters.AtRcpt, rc.facts, 0)
	if result.greylists() && g.engine.askBackend {
		rc.greylists = result.rule
		return Verdict{Delay: min(result.delay, maxDelay)}
	}
	v := g.carryOn(ctx, result)
	if v.Action != 0 {
		g.refuseRecipient(v, false)
	}
	return v
}

// newRecipient begins a recipient. Only the facts are used again: observations of the last one may still be looking at
// everything else, for they have copies of the facts but not of what the facts point to.
func (g *Gate) newRecipient(r *filters.Recipient) *recipient {
	tx := g.tx
	rc := &recipient{Recipient: *r, facts: tx.spare, closedAt: noneClosed}
	if tx.spare = nil; rc.facts == nil {
		rc.facts = tx.facts.Clone(g.engine.groups)
	} else {
		rc.facts.CopyFrom(tx.facts)
	}
	rc.rcpt.fill(r, len(tx.accepted)+1)
	rc.facts.Set(rcptGroup, &rc.rcpt)
	tx.rcpt = rc
	rc.place = tx.asked
	tx.asked++
	return rc
}

// Aside lets the recipient of the last Rcpt, whose Action was zero, wait for the backend's answer while another is asked
// for: Accepted and Refused are for an open recipient, or else for the oldest one that was set aside. All of them must have
// been answered before Data. False where what becomes of one recipient can decide about the next: the answers have to come
// first then, and the recipient is not set aside unless others were before it.
func (g *Gate) Aside() bool {
	if !g.engine.independent {
		return false
	}
	tx := g.tx
	another := g.foresees(len(tx.aside) + 1)
	if !another && len(tx.aside) == 0 {
		return false
	}
	if looking := g.engine.byStage[filters.AtRcpt]; len(looking) > 0 {
		tx.rcpt.looks = make([]stand, len(looking))
		for i, o := range looking {
			tx.rcpt.looks[i] = stand{*g.slot(o.slot), g.runOf(o.slot)}
		}
		g.end(recipientLevel)
	}
	tx.aside = append(tx.aside, tx.rcpt)
	tx.rcpt = nil
	return another
}

// foresees tells whether no filter's next observation of a recipient hangs on the answers about n of them.
func (g *Gate) foresees(n int) (all bool) {
	defer func() {
		if v := recover(); v != nil {
			all = false
			g.engine.log.Error("filter panicked", "session", g.session.ID, "method", "Foresees", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		}
	}()
	for _, f := range g.engine.foreseers {
		if !f.Foresees(g.view(), n) {
			return false
		}
	}
	return true
}

// turn makes the recipient whose answer has come the open one.
func (g *Gate) turn() *recipient {
	tx := g.tx
	if len(tx.aside) > 0 && (tx.rcpt == nil || tx.rcpt.answered) {
		g.endRecipient()
		tx.rcpt, tx.aside = tx.aside[0], tx.aside[1:]
		tx.rcpt.rcpt.Count = len(tx.accepted) + 1
		for i, look := range tx.rcpt.looks {
			g.put(g.engine.byStage[filters.AtRcpt][i].slot, look.slot, look.run)
		}
	}
	return tx.rcpt
}

// endRecipient lets go of the last recipient. Its observations are of no use to the next one.
func (g *Gate) endRecipient() {
	tx := g.tx
	if tx.rcpt == nil {
		return
	}
	if tx.rcpt != tx.class {
		tx.spare = tx.rcpt.facts
	}
	tx.rcpt = nil
	g.end(recipientLevel)
}

// relayVerdict refuses recipients that are not ours from clients that we do not know. No rule and no bypass lifts it.
func (g *Gate) relayVerdict(rc *recipient) Verdict {
	if refused := g.foreign(&rc.rcpt); refused != "" {
		return g.refusal(rules.Reject, rules.Reply{Code: 550, Enhanced: "5.7.1", Text: refused}, nil)
	}
	return Verdict{}
}

// foreign is why a recipient is none of ours, or empty.
func (g *Gate) foreign(rcpt *RcptFacts) string {
	authenticated := g.greeting != nil && g.greeting.AuthUser != ""
	switch {
	case len(g.engine.domains) == 0 || g.session.Trusted || authenticated:
	case g.session.AskedByMTA: // the MTA relays, and has found that it may before it asked
	case !g.engine.domains.has(rcpt.Domain):
		return "we do not relay for " + printable(rcpt.Domain)
	case g.engine.noRoutes && strings.ContainsAny(rcpt.Local, "@%!"):
		return "we do not relay along a route in the part before the @"
	}
	return ""
}

// Foreknown tells that a next transaction's first recipient cannot be refused here, whatever is found out until then: no
// rule has a say about this client at MAIL or RCPT, and the recipient is one of ours.
func (g *Gate) Foreknown(forwardPath string) bool {
	first, end := g.engine.first[filters.AtMail], g.engine.first[filters.AtRcpt+1]
	for i := first; i < end && i <= int(g.closedAt); i++ {
		if r := &g.engine.rules[i]; !g.passesOver(r) && r.Mode != rules.Observe {
			return false
		}
	}
	return g.foreign(RcptFactsOf(forwardPath, 1)) == ""
}

// carryOn turns the ruling at RCPT into a verdict. A greylisting that has been passed is no decision: the rules behind
// it have their say.
func (g *Gate) carryOn(ctx context.Context, result ruling) Verdict {
	tx, rc := g.tx, g.tx.rcpt
	delay := result.delay
	for result.greylists() {
		switch g.greylistRecipient(ctx, result.rule.Rule) {
		case greyWaiting:
			return g.greylistVerdict(tx.grey.rule, rc.facts)
		case greyBehind:
			return g.separateVerdict(result.rule.Rule)
		}
		result = g.evaluate(ctx, filters.AtRcpt, rc.facts, result.rule.place+1)
		delay += result.delay
	}
	result.delay = delay
	v := g.verdict(result, rc.facts)
	if v.Action == 0 && tx.grey.state == greyWaiting && !g.engine.askBackend {
		return g.greylistVerdict(tx.grey.rule, rc.facts)
	}
	return v
}

// Accepted is called when the backend took the recipient of the last Rcpt: its verdict may replace the 2xx (greylist,
// 452 for a recipient of another class). With a zero Action the recipient is in.
func (g *Gate) Accepted(ctx context.Context) Verdict {
	tx, rc := g.tx, g.turn()
	g.poll()
	var v Verdict
	if rc.greylists != nil {
		v = g.carryOn(ctx, ruling{rule: rc.greylists})
	}
	if v.Action == 0 && tx.grey.state == greyWaiting {
		// A transaction is greylisted as a whole or not at all.
		v = g.greylistVerdict(tx.grey.rule, rc.facts)
	}
	if v.Action == 0 && !tx.bypassed && (tx.split || !g.sameClass(ctx)) {
		tx.split = true
		v = g.separateVerdict(nil)
	}
	if v.Action != 0 {
		g.refuseRecipient(v, true)
		return v
	}
	if tx.class == nil {
		tx.class = rc
	}
	tx.accepted = append(tx.accepted, &rc.Recipient)
	g.answerRecipient(RecipientRecord{Reply: rules.Reply{Code: 250}, Asked: true})
	return v
}

// Refused is called when the backend, or the front end, refused the recipient of the last Rcpt with that reply.
func (g *Gate) Refused(reply rules.Reply) {
	g.turn()
	g.answerRecipient(RecipientRecord{Reply: reply, Asked: true})
	g.endRecipient()
}

// refuseRecipient gives our reply to the last recipient; asked tells that the backend took it.
func (g *Gate) refuseRecipient(v Verdict, asked bool) {
	g.answerRecipient(RecipientRecord{Reply: v.Reply, Ours: true, Action: v.Action, Rule: v.Rule, Asked: asked})
	g.endRecipient()
}

// recordPlace is where the open recipient's record goes.
func (tx *transaction) recordPlace() int {
	if tx.rcpt == nil {
		return len(tx.recipients)
	}
	at, _ := slices.BinarySearch(tx.places, tx.rcpt.place)
	return at
}

// answerRecipient records what the open recipient was told, in its place: one refused by a rule comes before those who
// still wait for the backend.
func (g *Gate) answerRecipient(r RecipientRecord) {
	tx, rc := g.tx, g.tx.rcpt
	rc.answered = true
	if g.runtime.Recorder != nil && len(tx.recipients) < maxRecipientRecords {
		r.Address, r.Params, r.Score, r.Filters = rc.ForwardPath, rc.Params, rc.facts.Score(), g.recipientFilters()
		at := tx.recordPlace()
		tx.places, tx.recipients = slices.Insert(tx.places, at, rc.place), slices.Insert(tx.recipients, at, r)
	}
	o := filters.Outcome{Kind: filters.RecipientOutcome, Code: r.Reply.Code, Enhanced: r.Reply.Enhanced, Ours: r.Ours}
	if r.Ours && r.Rule != nil {
		o.Reasons = r.Rule.Fields
	}
	g.tell(o)
}

// sameClass tells whether the rules behind RCPT give this recipient the same answer as the first accepted one, whatever
// the message turns out to be: one reply ends data, and it is for all recipients.
//
// Both are compared with what is known now. Were the first one's part computed once and kept, a look-up that came in
// since would look like a difference.
func (g *Gate) sameClass(ctx context.Context) bool {
	rc, first := g.tx.rcpt, g.tx.class
	if first == nil {
		// Its own observations end with the next recipient, but it is judged at the end of data.
		g.joinForClass(ctx, rc.closedAt, rc.closedAt)
		return true
	}
	alike := rc.closedAt == first.closedAt && rc.instead == first.instead && slices.Equal(rc.tags, first.tags)
	if alike && !g.engine.splits {
		return true
	}
	g.joinForClass(ctx, min(rc.closedAt, first.closedAt), max(rc.closedAt, first.closedAt))
	for !bytes.Equal(g.signature(rc), g.signature(first)) {
		r, i := g.openBehindRcpt(rc)
		if i < 0 {
			return false
		}
		if g.play != nil {
			g.play.lacks(g, r, g.engine.observations[i])
		}
		g.await(ctx, i)
	}
	return true
}

// openBehindRcpt finds a rule behind RCPT that a look-up on its way may still decide, and the look-up's slot or -1. Once
// it is decided, what is behind it may not matter any more: nobody is sent away because a look-up was slow.
func (g *Gate) openBehindRcpt(rc *recipient) (*plannedRule, int) {
	for i := g.engine.first[filters.AtData]; i < len(g.engine.rules) && i <= min(g.tx.closedAt, int(g.closedAt)); i++ {
		r := &g.engine.rules[i]
		if r.Mode == rules.Observe || r.Action == rules.Slow || g.passesOver(r) {
			continue
		}
		if slot := g.pending(r.waits); slot >= 0 && r.Open(rc.facts, beforeAll) {
			return r, slot
		}
	}
	return nil, -1
}

// joinForClass waits for what can be known now and still tell this recipient from the first: what is read by rules
// behind RCPT that read the recipient, and by those that are closed for one of the two, behind low. For the first one
// itself it was waited for when it was accepted.
func (g *Gate) joinForClass(ctx context.Context, low, high int) {
	for i := g.engine.first[filters.AtData]; i < len(g.engine.rules) && i <= min(high, g.tx.closedAt, int(g.closedAt)); i++ {
		if r := &g.engine.rules[i]; r.Mode == rules.Enforce && !g.passesOver(r) && (r.scope == recipientLevel || i > low) {
			g.decide(ctx, r, g.tx.rcpt.facts)
		}
	}
}

// signature spells out what the rules behind RCPT will answer for a recipient. A rule that is closed, and one that can
// no longer match, are the same answer: none.
func (g *Gate) signature(rc *recipient) []byte {
	var b []byte
	for _, tag := range rc.tags {
		b = append(append(b, tag...), '\n')
	}
	if rc.instead != nil {
		return append(b, rc.instead.Action.String()...)
	}
	closed := min(rc.closedAt, g.tx.closedAt, int(g.closedAt))
	for i := g.engine.first[filters.AtData]; i < len(g.engine.rules) && i <= closed; i++ {
		r := &g.engine.rules[i]
		if r.Mode == rules.Observe || r.Action == rules.Slow || g.passesOver(r) {
			continue
		}
		now := int(filters.AtRcpt)
		if g.pending(r.waits) >= 0 {
			now = beforeAll // known(x) must not be believed to be false while x is on its way
		}
		open := r.Open(rc.facts, now)
		if !open && r.Match(rc.facts) != rules.True {
			continue
		}
		b = append(strconv.AppendInt(b, int64(i), 10), ' ')
		b = append(r.Residual(b, rc.facts, now), '\n')
		if !open && r.Action.Terminal() {
			break
		}
	}
	return b
}

// maxDelay bounds how long rules hold back one reply.
const maxDelay = 60 * time.Second
