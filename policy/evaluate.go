package policy

import (
	"context"
	"time"

	"gatepost/filters"
	"gatepost/rules"
)

// ruling is what the rules of a stage came to.
type ruling struct {
	rule   *plannedRule // the rule that ended the evaluation by a refusal or a greylisting; nil for none
	failed bool         // a filter failed without whose facts the rule cannot be decided, and such mail shall wait
	delay  time.Duration
}

func (r *ruling) greylists() bool {
	return r.rule != nil && r.rule.Action == rules.Greylist && !r.failed
}

// evaluate goes through the rules of a stage from a place on. Those that are enforced come first and wait for what they
// need; where they end, the observed ones before that place are looked at with what is known by then.
func (g *Gate) evaluate(ctx context.Context, stage filters.Stage, facts *rules.Facts, from int) ruling {
	g.poll()
	var result ruling
	from = max(from, g.engine.first[stage])
	end := g.engine.first[stage+1]
	for i := from; i < end && i <= g.closed(); i++ {
		r := &g.engine.rules[i]
		if g.passesOver(r) || g.observes(r) {
			continue
		}
		switch g.decide(ctx, r, facts) {
		case rules.Unknown:
			if g.defers(r) && !g.bypassed() {
				result.rule, result.failed, end = r, true, i
			}
		case rules.True:
			g.matched(r.Rule, false)
			g.join(ctx, r.shows)
			if r.Action.Terminal() {
				end = i
			}
			g.act(r, facts, stage, &result)
		}
	}
	if stage == filters.AtMessage {
		g.tx.watched.extend(from, end)
	} else {
		g.evaluateObserved(facts, from, end)
	}
	return result
}

// stretch is the places of some rules. Observed rules about the message are not looked at before the transaction ends:
// what they read is often waited for by something else, Authentication-Results above all.
type stretch struct{ from, end int }

func (s *stretch) extend(from, end int) {
	if s.end == 0 {
		s.from = from
	}
	s.end = max(s.end, end)
}

// act does what a rule whose condition is true says.
func (g *Gate) act(r *plannedRule, facts *rules.Facts, stage filters.Stage, result *ruling) {
	switch r.Action {
	case rules.Accept:
		g.accept(r)
	case rules.Discard, rules.Quarantine:
		g.carry(stage, r.Rule)
	case rules.Score:
		facts.SetScore(facts.Score() + r.Points)
	case rules.Tag:
		c := g.carrier(stage)
		c.tags = append(c.tags, r.Header(facts))
	case rules.Slow:
		result.delay += r.Delay
	default:
		result.rule = r
	}
}

// accept closes the rules behind r for as long as what r reads stays true. Rules before it stay open: another recipient
// is asked them first.
func (g *Gate) accept(r *plannedRule) {
	switch subject := g.subject(); {
	case r.scope == connectionLevel:
		g.closedAt = min(g.closedAt, int32(r.place))
	case g.tx == nil:
		// Greeting facts only: the rule is asked again after the next greeting, and closes the rest of this stage.
	case r.scope == recipientLevel && subject != nil:
		subject.closedAt = min(subject.closedAt, r.place)
	default:
		g.tx.closedAt = min(g.tx.closedAt, r.place)
	}
}

// closed returns the place behind which no rule is open.
func (g *Gate) closed() int {
	place := int(g.closedAt)
	if g.tx != nil {
		place = min(place, g.tx.closedAt)
		if subject := g.subject(); subject != nil {
			place = min(place, subject.closedAt)
		}
	}
	return place
}

// subject is the recipient for whom rules are evaluated: the last one asked for or, behind the last, the one who stands
// for all.
func (g *Gate) subject() *recipient {
	switch {
	case g.tx == nil:
		return nil
	case g.tx.rcpt != nil:
		return g.tx.rcpt
	default:
		return g.tx.class
	}
}

// observes tells whether a rule is only looked at.
func (g *Gate) observes(r *plannedRule) bool {
	return r.Mode == rules.Observe || r.Action.Terminal() && g.bypassed()
}

// evaluateObserved records which of the observed rules would have acted. A rule of the other kind that is only bypassed
// ends that, as it would have without the bypass.
func (g *Gate) evaluateObserved(facts *rules.Facts, from, end int) {
	for i := from; i < end && i <= g.closed(); i++ {
		r := &g.engine.rules[i]
		if g.passesOver(r) || !g.observes(r) || g.pending(r.waits) >= 0 && r.Open(facts, beforeAll) || r.Match(facts) != rules.True {
			continue
		}
		g.matched(r.Rule, true)
		if r.Mode == rules.Observe || !r.Action.Terminal() {
			continue
		}
		if r.Action == rules.Accept {
			g.accept(r)
		}
		return
	}
}

// decide evaluates a condition and, as long as facts on their way can still make it match, waits for them.
//
// That is more than waiting while it is unknown: known(x) is false before x has come, and must not be believed then.
// And where mail waits if a filter failed, it is waited until it is certain that the condition stays unknown: whether a
// filter was quicker than another must not decide.
func (g *Gate) decide(ctx context.Context, r *plannedRule, facts *rules.Facts) rules.Truth {
	if g.play != nil && r.personal != "" && g.play.disguised {
		g.play.lack(r.personal)
	}
	for {
		i := g.pending(r.waits)
		if i < 0 || !r.Open(facts, beforeAll) {
			truth := r.Match(facts)
			if g.play != nil && g.play.judging && (r.Open(facts, beforeAll) || r.deferring != nil && !r.Settled(facts, beforeAll)) {
				g.play.lacksMessage(r)
			}
			i = g.pending(r.deferring)
			if i < 0 || truth != rules.Unknown && r.Settled(facts, beforeAll) {
				return truth
			}
		}
		if g.play != nil {
			g.play.lacks(g, r, g.engine.observations[i])
		}
		g.await(ctx, i)
	}
}

// beforeAll is the stage as of which every group counts as still to come that is neither known nor absent for good.
const beforeAll = -1

// pending returns one of the slots that is still being observed, or -1.
func (g *Gate) pending(slots []int) int {
	for _, i := range slots {
		if g.slot(i).status == running {
			return i
		}
	}
	return -1
}

// defers tells whether mail waits because a rule cannot be decided for a filter's failure.
func (g *Gate) defers(r *plannedRule) bool {
	for _, i := range r.deferring {
		failed := g.slot(i).status == failed || g.slot(i).status == timedOut
		if failed && r.defersFor(g.engine.observations[i]) {
			return true
		}
	}
	return false
}

// defersFor tells whether mail waits if the rule cannot be decided because an observation failed.
func (r *plannedRule) defersFor(o *observation) bool {
	return r.DeferOnError || o.deferOnError && (r.Action.Terminal() || r.Action == rules.Score)
}

// NeedsBackend tells whether the backend has to be asked: false while a refusal of all this transaction's recipients is
// already certain, or while the greylister wants to be asked before the backend. It can become true by a later Rcpt
// with a zero Verdict: ask again then.
func (g *Gate) NeedsBackend(ctx context.Context) bool {
	g.poll()
	if g.bypassed() || g.session.Trusted {
		return true
	}
	until := time.Now().Add(moment)
	first, end := g.engine.first[filters.AtRcpt], g.engine.first[filters.AtRcpt+1]
	for i := first; i < end && i <= min(int(g.closedAt), g.tx.closedAt); i++ {
		r := &g.engine.rules[i]
		if g.passesOver(r) || g.observes(r) || !r.Action.Terminal() {
			continue
		}
		open := r.Open(g.tx.facts, beforeAll)
		if !open && r.Match(g.tx.facts) != rules.True {
			continue
		}
		switch r.Action {
		case rules.Accept, rules.Discard, rules.Quarantine:
			return true
		case rules.Greylist:
			return open || !g.refusesAlone()
		default:
			if !open || g.linger(ctx, r, until) {
				return false
			}
		}
	}
	return true
}

// moment is what a look-up takes that a resolver on this machine answers, with some to spare. RCPT would wait for it
// anyway, and a connection to the backend that a refusal makes useless takes more of both machines than this wait: where
// a sixth of the refused sessions came to MAIL before their answer, it took 10 % off the processor time of all.
const moment = 2 * time.Millisecond

// linger waits for what is on its way to decide a rule, and tells whether it has become true.
func (g *Gate) linger(ctx context.Context, r *plannedRule, until time.Time) bool {
	facts := g.tx.facts
	for r.scope < recipientLevel && g.pending(r.waits) >= 0 && r.Open(facts, beforeAll) && g.receive(ctx, until) {
	}
	return !r.Open(facts, beforeAll) && r.Match(facts) == rules.True
}
