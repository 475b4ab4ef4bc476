package policy

import (
	"context"
	"errors"
	"net/netip"
	"reflect"

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
	judging  bool   // the message: nothing is still to come
	missing  string // the first fact, or answer, that was needed and not recorded
}

// errPlayed stands for the error of a filter, which decides nothing.
var errPlayed = errors.New("failed when it was recorded")

// unplayed is the run of an observation of which nothing is recorded. It never ends.
var unplayed = &run{}

// start plays what an observation found. One that was not recorded is under way for ever: a rule that needs it asks for
// it (lacks), others go on.
func (p *playback) start(g *Gate, o *observation) {
	if sim := p.player.simulation; sim != nil && sim.Simulates(o.filter) {
		v := g.view()
		if facts, err, ok := sim.Look(o.filter, o.stage, v, func() (any, error) { return o.call(context.Background(), v) }); ok {
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
	*g.slot(o.slot) = slot{run: unplayed, status: running}
}

// lacks notes that a rule needs what was not recorded.
func (p *playback) lacks(g *Gate, r *plannedRule, o *observation) {
	if p.missing != "" {
		return
	}
	for _, name := range r.Fields {
		if fact, ok := g.engine.schema.Fact(name); ok && fact.Group == o.group {
			p.missing = name
			return
		}
	}
	p.missing = o.filter
}

// lacksMessage notes that a rule needs the message, or a field of its header, if that was not recorded.
func (p *playback) lacksMessage(r *plannedRule) {
	for _, name := range r.Fields {
		field, isField := headerName(name)
		if p.missing == "" && (p.message == nil && (isField || name == "message.size") || isField && !p.holds(field)) {
			p.missing = name
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
		g.tx.message.Size, g.tx.message.Header = m.Size, m.Header
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
	if !known && p.missing == "" {
		p.missing = "greylist.state"
	}
	return state == filters.GreylistPassed
}

// facts turns what was recorded into the struct that this engine's observation declares. It fails where a fact that a
// struct cannot leave out was not recorded.
func (p *Player) facts(o *observation, found any) (facts any, ok bool) {
	t := reflect.TypeOf(found)
	if t != nil && t.Kind() == reflect.Pointer && t.Elem() == o.spec.Facts {
		return found, true
	}
	values, ok := found.(Values)
	if !ok {
		return nil, false
	}
	made := reflect.New(o.spec.Facts)
	for _, x := range p.fields(o) {
		value, known := values.Value(x.name)
		if value == nil {
			if !known && !x.pointer {
				return nil, false
			}
			continue
		}
		target := made.Elem().Field(x.index)
		if x.pointer {
			target.Set(reflect.New(target.Type().Elem()))
			target = target.Elem()
		}
		if !assign(target, value) {
			return nil, false
		}
	}
	return made.Interface(), true
}

// assign sets a field to a value of the kind that rules know; false: it is of another kind.
func assign(target reflect.Value, value any) bool {
	switch v := value.(type) {
	case bool:
		if target.Kind() == reflect.Bool {
			target.SetBool(v)
			return true
		}
	case float64:
		if target.CanInt() {
			target.SetInt(int64(v))
			return true
		}
		if target.CanFloat() {
			target.SetFloat(v)
			return true
		}
	case string:
		if target.Kind() == reflect.String {
			target.SetString(v)
			return true
		}
	case []string, netip.Addr:
		if given := reflect.ValueOf(v); given.Type() == target.Type() {
			target.Set(given)
			return true
		}
	}
	return false
}

// playedField is a field of a struct of facts.
type playedField struct {
	name    string
	index   int
	pointer bool
}

func (p *Player) fields(o *observation) []playedField {
	if list, ok := p.plans[o.spec]; ok {
		return list
	}
	var list []playedField
	for i := range o.spec.Facts.NumField() {
		f := o.spec.Facts.Field(i)
		if tag, ok := f.Tag.Lookup("fact"); ok {
			list = append(list, playedField{o.filter + "." + tag, i, f.Type.Kind() == reflect.Pointer})
		}
	}
	p.plans[o.spec] = list
	return list
}
