package policy

import (
	"context"
	"fmt"
	"runtime/debug"

	"gatepost/filters"
	"gatepost/rules"
)

// greylisting is where a transaction stands. It is greylisted as a whole or not at all, and looked up once.
type greylisting struct {
	state   greyState
	rule    *rules.Rule // that greylisted it
	atData  *rules.Rule // that will, at DATA: the null reverse-path
	attempt *Attempt    // nil until the greylister was asked
}

type greyState uint8

const (
	greyUnasked greyState = iota
	greyPassed
	greyWaiting // everyone is told to come back
	greyBehind  // those it concerns came behind an accepted recipient and are told to come separately
)

// greylistRecipient finds out what becomes of a recipient for whom a rule says greylist.
func (g *Gate) greylistRecipient(ctx context.Context, rule *rules.Rule) greyState {
	grey := &g.tx.grey
	if grey.state != greyUnasked {
		return grey.state
	}
	if g.tx.envelope.ReversePath == "" && (grey.atData != nil || len(g.tx.accepted) == 0) {
		// RFC 6647, 5: a callout asks RCPT with the null reverse-path and must hear the truth; it goes no further.
		grey.atData = rule
		return greyPassed
	}
	if g.attempt(ctx) {
		grey.state = greyPassed
	} else if len(g.tx.accepted) > 0 {
		grey.state = greyBehind
	} else {
		grey.state, grey.rule = greyWaiting, rule
	}
	return grey.state
}

// greylist tells whether the transaction as a whole has to come back, behind its recipients.
func (g *Gate) greylist(ctx context.Context) bool {
	if g.tx.grey.state == greyUnasked {
		g.tx.grey.state = greyWaiting
		if g.attempt(ctx) {
			g.tx.grey.state = greyPassed
		}
	}
	return g.tx.grey.state != greyPassed
}

// refusesAlone tells whether a greylisting is spoken at RCPT without asking the backend. The null reverse-path's is
// spoken at DATA, and its recipients hear the truth before.
func (g *Gate) refusesAlone() bool {
	return !g.engine.askBackend && g.engine.greylister != nil && g.tx.grey.state != greyPassed && g.tx.envelope.ReversePath != ""
}

// attempt records the attempt and tells whether the sender need not wait. A store that does not answer lets mail pass.
func (g *Gate) attempt(ctx context.Context) (passed bool) {
	if g.engine.greylister == nil {
		return true
	}
	if g.play != nil {
		return g.play.attempt(g)
	}
	g.join(ctx, g.engine.greyReads)
	result, err := g.askGreylister(ctx)
	g.tx.grey.attempt = &Attempt{Recipient: g.tx.recordPlace(), GreylistAttempt: result, Failed: err != nil}
	if g.tx.rcpt == nil {
		g.tx.grey.attempt.Recipient = AttemptBehindRecipients
	}
	if err != nil {
		g.engine.log.Error("greylist cannot be asked; letting pass", "transaction", g.tx.envelope.ID, "error", err)
		return true
	}
	return result.State == filters.GreylistPassed
}

func (g *Gate) askGreylister(ctx context.Context) (result filters.GreylistAttempt, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return g.engine.greylister.Attempt(ctx, g.view())
}
