package policy

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"slices"
	"time"

	"gatepost/filters"
	"gatepost/policy/deadline"
	"gatepost/rules"
)

// status is how an observation stands.
type status uint8

const (
	idle status = iota
	running
	succeeded
	timedOut
	failed
	unfinished // cancelled because nothing needed it any more
)

func (s status) String() string {
	return [...]string{idle: "off", running: "unfinished", succeeded: "ok", timedOut: "timeout", failed: "error", unfinished: "unfinished"}[s]
}

var (
	errTimeout = errors.New("not known in time")
	errBusy    = errors.New("too many observations of this connection are running")
)

// start begins the observations of a stage that an open rule needs.
func (g *Gate) start(ctx context.Context, stage filters.Stage) {
	list := g.engine.byStage[stage]
	if len(list) == 0 {
		return
	}
	v := g.view()
	live := v.Facts
	var shared *rules.Facts // one copy of the facts for all that need no more than what is known now
	for _, o := range list {
		if !g.needs(o) {
			continue
		}
		if g.play != nil {
			if o.firstReader <= g.closed() {
				g.play.start(g, o)
			}
			continue
		}
		if o.inline {
			g.observe(ctx, o, v)
			continue
		}
		waits := g.unsettled(o.after)
		if o.repeatable && len(waits) == 0 && (stage != filters.AtMessage || g.tx.complete) && g.try(o, v) {
			continue
		}
		if shared == nil || len(waits) > 0 {
			copied := g.judged().Clone(g.engine.groups)
			v.Facts = readable{copied}
			if len(waits) == 0 {
				shared = copied
			}
		} else {
			v.Facts = readable{shared}
		}
		g.launch(ctx, o, v, waits)
		v.Facts = live
	}
}

// needs tells whether an open rule, or Authentication-Results, reads what an observation tells, or it may change the
// message.
func (g *Gate) needs(o *observation) bool {
	return !o.leavesOut(g.session) && (o.reports || o.edits || o.firstReader <= g.closed())
}

// observe runs an observation on the spot.
func (g *Gate) observe(ctx context.Context, o *observation, v filters.View) {
	started := time.Now()
	facts, err := o.call(ctx, v)
	g.settled(o, facts, err, time.Since(started))
}

// call turns a panic into an error that carries the stack.
func (o *observation) call(ctx context.Context, v filters.View) (facts any, err error) {
	defer func() {
		if p := recover(); p != nil {
			facts, err = nil, &panicError{value: fmt.Sprint(p), stack: debug.Stack()}
		}
	}()
	return o.spec.Observe(ctx, o.instance, v)
}

// panicError is a filter's panic. The stack is for the log alone.
type panicError struct {
	value string
	stack []byte
}

func (e *panicError) Error() string { return "panic: " + e.value }

// unsettled returns the runs among slots that have not come to an end.
func (g *Gate) unsettled(slots []int) []*run {
	var list []*run
	for _, i := range slots {
		if s := g.slot(i); s.status == running {
			list = append(list, g.runOf(i))
		}
	}
	return list
}

// settled notes how an observation came out and makes its facts known.
func (g *Gate) settled(o *observation, facts any, err error, took time.Duration) {
	s := slot{took: toMicros(took), status: succeeded}
	if err == nil {
		g.put(o.slot, s, nil)
		g.publish(o.level, o.group, facts)
		return
	}
	s.status = failed
	if errors.Is(err, context.DeadlineExceeded) || err == errTimeout {
		s.status = timedOut
	}
	g.put(o.slot, s, &run{observation: o, err: errors.New(err.Error())}) // the text alone: an error may hold on to anything
	g.fail(o.level, o.group)
	g.logPanic(o, err)
}

func (g *Gate) logPanic(o *observation, err error) {
	if p, ok := err.(*panicError); ok {
		g.engine.log.Error("filter panicked", "filter", o.filter, "stage", o.stage.String(), "session", g.session.ID, "panic", p.value, "stack", string(p.stack))
	}
}

// await waits until an observation has ended or something else has become known. What is not there when ctx ends, or
// the observation's own time is over, has failed.
func (g *Gate) await(ctx context.Context, i int) {
	run := g.runOf(i)
	if g.play != nil { // it never ends
		g.settled(g.engine.observations[i], nil, errTimeout, 0)
		return
	}
	if told, ok := ctx.(*deadline.Context); ok {
		told.Waits(&run.filter)
		defer told.Waits(nil)
	}
	if !g.receive(ctx, run.deadline) {
		g.settled(run.observation, nil, errTimeout, time.Since(run.started))
	}
}

// join waits until all of the observations have ended one way or the other. What is not recorded is not waited for: no
// decision depends on it.
func (g *Gate) join(ctx context.Context, slots []int) {
	if g.play != nil {
		return
	}
	for _, i := range slots {
		for g.slot(i).status == running {
			g.await(ctx, i)
		}
	}
}

// startClock begins the time-outs of the observations that read the message, now that it is complete.
func (g *Gate) startClock() {
	now := time.Now()
	for _, o := range g.engine.byStage[filters.AtMessage] {
		if g.slot(o.slot).status == running {
			g.runOf(o.slot).deadline = now.Add(o.timeout)
		}
	}
}

// extendClock gives those that waited for o their time from now on.
func (g *Gate) extendClock(o *observation) {
	if !o.awaited || g.tx == nil {
		return
	}
	for _, waiting := range g.engine.byStage[filters.AtMessage] {
		if g.slot(waiting.slot).status != running || !slices.Contains(waiting.after, o.slot) {
			continue
		}
		if run := g.runOf(waiting.slot); !run.deadline.IsZero() {
			run.deadline = time.Now().Add(waiting.timeout)
		}
	}
}

// publish makes a group's facts known on its own level and all that are contained in it.
func (g *Gate) publish(l level, group int, facts any) {
	for _, f := range g.holders(l) {
		if f != nil {
			f.Set(group, facts)
		}
	}
	for _, rc := range g.setAside(l) {
		rc.facts.Set(group, facts)
	}
}

func (g *Gate) fail(l level, group int) {
	for _, f := range g.holders(l) {
		if f != nil {
			f.Fail(group)
		}
	}
	for _, rc := range g.setAside(l) {
		rc.facts.Fail(group)
	}
}

// setAside returns the recipients who hear of what happens on a level while they wait for the backend's answer. None has
// observations of its own.
func (g *Gate) setAside(l level) []*recipient {
	if g.tx == nil || l > transactionLevel {
		return nil
	}
	return g.tx.aside
}

func (g *Gate) holders(l level) (list [4]*rules.Facts) {
	if l <= greetingLevel {
		list[0] = &g.facts
	}
	if g.tx == nil {
		return list
	}
	if l <= transactionLevel {
		list[1] = g.tx.facts
		if g.tx.class != nil {
			list[2] = g.tx.class.facts
		}
	}
	if g.tx.rcpt != nil {
		list[3] = g.tx.rcpt.facts
	}
	return list
}

// setPauserFacts tells how the pause before the greeting went.
func (g *Gate) setPauserFacts(talked bool, waited time.Duration) {
	if g.engine.pauser == nil || g.session.Trusted {
		return
	}
	i := g.engine.slotOf[g.engine.pauserGroup]
	if i < 0 {
		return
	}
	o := g.engine.observations[i]
	if g.session.AskedByMTA { // the client was greeted by the MTA: how that went nobody knows
		g.facts.Fail(o.group)
		return
	}
	facts, err := o.greeted(g.engine.pauser, talked, waited)
	g.settled(o, facts, err, waited)
}

// greeted does for the pauser what call and filters.On do for others.
func (o *observation) greeted(p filters.Pauser, talked bool, waited time.Duration) (facts any, err error) {
	defer func() {
		if v := recover(); v != nil {
			facts, err = nil, &panicError{value: fmt.Sprint(v), stack: debug.Stack()}
		}
	}()
	facts = p.Greeted(talked, waited)
	if v := reflect.ValueOf(facts); !v.IsValid() || v.Type() != reflect.PointerTo(o.spec.Facts) || v.IsNil() {
		return nil, fmt.Errorf("filter returned %T and not its facts", facts)
	}
	return facts, nil
}
