package policy

import (
	"context"
	"errors"

	"gatepost/filters"
	"gatepost/rules"
)

// playback makes a gate find what was recorded instead of having filters look: rules, stages, classes of recipients and
// greylisting are the real ones. It belongs to the gate's goroutine.
type playback struct {
	player   *Player
	looks    []Look // of connection, greeting and transaction
	rcpt     []Look // of the last recipient
	message  *RecordedMessage
	recorded *Attempt
	bypassed bool

	disguised bool   // local parts are not the real ones
	judging   bool   // the message: nothing is still to come
	missing   string // the first fact, or answer, that was needed and not recorded
}

// errPlayed stands for the error of a filter, which decides nothing.
var errPlayed = errors.New("failed when it was recorded")

// unplayed is the run of every observation while a recording is played: of one of which nothing is recorded, it never ends.
var unplayed = &run{}

// start plays what an observation found. One that was not recorded is under way for ever: a rule that needs it asks for
// it (lacks), others go on.
func (p *playback) start(g *Gate, o *observation) {
	if sim := p.player.simulation; sim != nil && sim.Simulates(o.filter, o.stage) {
		v := g.view()
		facts, err, ok := sim.Look(o.filter, o.stage, v, func() (any, error) { return o.call(context.Background(), v) })
		if errors.Is(err, ErrUntold) {
			p.unknown(g, o)
			return
		}
		if ok {
			g.settled(o, facts, err, 0)
			return
		}
	}
	looks := p.looks
	if o.level == recipientLevel {
		looks = p.rcpt
	}
	for i := range looks {
		l := &looks[i]
		if l.Stage != o.stage || l.Filter != o.filter {
			continue
		}
		switch l.Status {
		case LookOK:
			if facts, ok := p.player.facts(o, l.Facts); ok {
				g.settled(o, facts, nil, 0)
				return
			}
		case LookTimeout:
			g.settled(o, nil, errTimeout, 0)
			return
		case LookError:
			g.settled(o, nil, errPlayed, 0)
			return
		}
		break
	}
	p.unknown(g, o)
}

func (p *playback) unknown(g *Gate, o *observation) {
	g.put(o.slot, slot{status: running}, unplayed)
}

// lack notes that something is needed that was not recorded. During a bypass nothing is: nothing is decided.
func (p *playback) lack(name string) {
	if p.missing == "" && !p.bypassed {
		p.missing = name
	}
}

// lacks notes that a rule needs what was not recorded.
func (p *playback) lacks(g *Gate, r *plannedRule, o *observation) {
	for _, name := range r.Fields {
		if fact, ok := g.engine.schema.Fact(name); ok && fact.Group == o.group {
			p.lack(name)
			return
		}
	}
	p.lack(o.filter)
}

// lacksMessage notes that a rule needs the message, or a field of its header, if that was not recorded.
func (p *playback) lacksMessage(r *plannedRule) {
	for _, name := range r.Fields {
		field, isField := headerName(name)
		if p.message == nil && (isField || name == "message.size") || isField && !p.holds(field) {
			p.lack(name)
		}
	}
}

func (p *playback) holds(field string) bool {
	partial, ok := p.message.Header.(rules.PartialHeader)
	return !ok || partial.Holds(field)
}

// headerName finds the name in what [rules.Rule].Fields has for a header field.
func headerName(fact string) (string, bool) {
	const before, behind = `header("`, `")`
	if len(fact) < len(before)+len(behind) || fact[:len(before)] != before {
		return "", false
	}
	return fact[len(before) : len(fact)-len(behind)], true
}

// complete makes known what was recorded of the message.
func (p *playback) complete(g *Gate) {
	p.judging = true
	switch m := p.message; {
	case m == nil: // rules that read it cannot be told
	case m.Failed:
		g.fail(transactionLevel, messageGroup)
	default:
		g.tx.message.size, g.tx.message.Header = m.Size, m.Header
		if !m.Bodiless {
			g.tx.message.Size = &g.tx.message.size
		}
		g.publish(transactionLevel, messageGroup, &g.tx.message)
	}
}

// attempt tells whether the greylister lets pass.
func (p *playback) attempt(g *Gate) (passed bool) {
	state, known := filters.GreylistPassed, p.recorded != nil
	if known && !p.recorded.Failed {
		state = p.recorded.State
	}
	if sim := p.player.simulation; sim != nil {
		state, known = sim.Attempt(g.view(), p.recorded, g.pending(g.engine.greyReads) < 0)
	}
	if !known {
		p.lack("greylist.state")
	}
	return state == filters.GreylistPassed
}
