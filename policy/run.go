package policy

import (
	"context"
	"slices"
	"time"

	"gatepost/filters"
	"gatepost/policy/deadline"
	"gatepost/policy/grow"
)

// run is one observation on a goroutine of its own.
type run struct {
	*observation
	started   time.Time
	deadline  time.Time     // of an observation of a complete message; zero where its context bounds it
	done      chan struct{} // closed at the end; nil if no other observation waits for it
	abandoned bool          // it ignored its context; nobody waits for it

	// Written by the goroutine before it closes done and hands the run back.
	facts any
	err   error
	took  time.Duration

	next *run // guarded by Gate.mu
}

// give leaves a run for the gate; it never waits for it. Unlike a channel that holds all runs this costs a waiting client
// next to nothing (a channel for 16 of them: 224 bytes).
//
// While the gate is resting its session waits for the client. Then whoever hands back takes in the result himself: left
// to the next command, runs and their contexts took 350 bytes of each waiting client.
func (g *Gate) give(r *run) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.resting {
		g.absorb(r)
		g.calm()
		return
	}
	b := g.busy // it lasts as long as a goroutine runs
	r.next, b.back = b.back, r
	if b.bell != nil {
		close(b.bell)
		b.bell = nil
	}
}

// take returns what was left.
func (g *Gate) take() *run {
	g.mu.Lock()
	defer g.mu.Unlock()
	runs := g.busy.back
	g.busy.back = nil
	return runs
}

// wait returns what was left or else, with a nil run, the channel that is closed when something is.
func (g *Gate) wait() (*run, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := g.busy
	if runs := b.back; runs != nil {
		b.back = nil
		return runs, nil
	}
	if b.bell == nil {
		b.bell = make(chan struct{})
	}
	return nil, b.bell
}

// scope is a context whose end cancels the observations of a level.
type scope struct {
	ctx    context.Context
	cancel context.CancelFunc
}

// patience is how long the gate waits for a cancelled observation before it gives it up as stuck.
const patience = 10 * time.Second

// messageLife bounds an observation that reads a message while it arrives: the client may take 3 minutes for each
// block (RFC 5321, 4.5.3.2.5), and the front end's own limits end it earlier. From the end of data on the filter's time-out counts.
const messageLife = time.Hour

// launch runs an observation on a goroutine, as soon as the runs that it waits for have ended.
func (g *Gate) launch(ctx context.Context, o *observation, v filters.View, waits []*run) {
	if g.poll(); g.running() == g.engine.maxRunning && !g.receive(ctx, time.Now().Add(patience)) {
		g.settled(o, nil, errBusy, 0)
		return
	}
	timeout := o.timeout
	if o.stage == filters.AtMessage {
		timeout = messageLife
	}
	r := &run{observation: o, started: time.Now()}
	if o.awaited {
		r.done = make(chan struct{})
	}
	scope := g.scope(o.level)
	g.put(o.slot, slot{status: running}, r)
	if o.stage == filters.AtMail {
		scope = g.foreseeing(scope, g.tx.envelope)
	}
	g.busy.running = append(g.busy.running, r)
	go func() {
		grow.Stack()
		r.work(scope, timeout, v, waits)
		if r.done != nil {
			close(r.done)
		}
		g.give(r)
	}()
}

// work waits for what the observation needs and observes. The time-out begins with the work; its timer goes with the
// goroutine, so that a session which waits for its client holds none.
func (r *run) work(ctx context.Context, timeout time.Duration, v filters.View, waits []*run) {
	for _, w := range waits {
		select {
		case <-w.done:
		case <-ctx.Done():
			r.err = ctx.Err()
			return
		}
		facts := v.Facts.(readable).facts // a copy of its own
		if w.err == nil {
			facts.Set(w.group, w.facts)
		} else {
			facts.Fail(w.group)
		}
	}
	begun := time.Now()
	limited := deadline.New(ctx, begun.Add(timeout))
	defer limited.Cancel()
	r.facts, r.err = r.call(limited, v)
	r.took = time.Since(begun)
}

// poll takes in all results that are there.
func (g *Gate) poll() {
	if g.running() > 0 {
		g.absorb(g.take())
	}
}

// running is how many goroutines there are.
func (g *Gate) running() int {
	if g.busy == nil {
		return 0
	}
	return len(g.busy.running)
}

// receive waits for a result, until ctx ends or the deadline has passed; the zero deadline never does. Where a result
// and the end come at once, the result counts.
func (g *Gate) receive(ctx context.Context, deadline time.Time) bool {
	runs, bell := g.wait()
	if runs == nil {
		var expired <-chan time.Time
		if !deadline.IsZero() {
			timer := time.NewTimer(time.Until(deadline))
			defer timer.Stop()
			expired = timer.C
		}
		select {
		case <-bell:
		case <-expired:
		case <-ctx.Done():
		}
		runs = g.take()
	}
	g.absorb(runs)
	return runs != nil
}

// absorb takes in results, save those that come too late for whom they were asked.
func (g *Gate) absorb(runs *run) {
	for r := runs; r != nil; r = r.next {
		g.busy.running = slices.DeleteFunc(g.busy.running, func(other *run) bool { return other == r })
		if o := r.observation; g.awaits(r) {
			g.settled(o, r.facts, r.err, r.took)
			g.extendClock(o)
		} else {
			g.logPanic(o, r.err)
		}
	}
}

// awaits tells whether a run is its slot's latest.
func (g *Gate) awaits(r *run) bool {
	if r.slot >= len(g.slots) && g.tx == nil {
		return false
	}
	return g.slot(r.slot).status == running && g.runOf(r.slot) == r
}

// Idle gives up what only matters while observations run. It is called before the session waits for its client: most
// gates at any time wait. Until Resume no other method may be called.
func (g *Gate) Idle() {
	if g.busy == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	runs := g.busy.back
	g.busy.back, g.resting = nil, true
	g.absorb(runs)
	g.calm()
}

// Resume makes the gate the session's again after Idle.
func (g *Gate) Resume() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.resting = false
}

// calm forgets what only matters while observations run, if none does and none has failed.
func (g *Gate) calm() {
	if g.running() > 0 {
		return
	}
	for l := range levels {
		g.endScope(l)
	}
	if len(g.busy.latest) == 0 {
		g.busy = nil
	}
}

func newActivity() *activity {
	a := new(activity)
	a.running, a.latest = a.room[0][:0], a.room[1][:0]
	return a
}

// scope returns the context of a level's observations.
func (g *Gate) scope(l level) context.Context {
	if g.busy == nil {
		g.busy = newActivity()
	}
	if g.busy.ends[l] == nil {
		ctx, cancel := context.WithCancel(context.Background())
		g.busy.ends[l] = &scope{ctx, cancel}
	}
	return g.busy.ends[l].ctx
}

func (g *Gate) endScope(l level) {
	if g.busy != nil && g.busy.ends[l] != nil {
		g.busy.ends[l].cancel()
		g.busy.ends[l] = nil
	}
}

// stop cancels the observations of a level and all it contains, and waits until they have ended.
func (g *Gate) stop(from level) {
	g.cancel(from)
	var bound context.Context
	waits := func(r *run) bool { return r.level >= from && !r.abandoned }
	for g.busy != nil && slices.ContainsFunc(g.busy.running, waits) {
		if bound == nil {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			bound = ctx
		}
		if !g.receive(bound, time.Time{}) {
			g.abandon(from)
		}
	}
}

// abandon gives up runs that ignore their context. They go on counting as running.
func (g *Gate) abandon(from level) {
	for _, r := range g.busy.running {
		if r.level >= from && !r.abandoned {
			r.abandoned = true
			g.engine.log.Error("filter does not return after its context has ended", "filter", r.filter, "stage", r.stage.String(), "session", g.session.ID)
		}
	}
}

// cancel tells the observations of a level and all it contains that nobody needs them any more.
func (g *Gate) cancel(from level) {
	for l := from; l < levels; l++ {
		g.endScope(l)
	}
	for i, s := range g.allSlots {
		if g.engine.observations[i].level >= from && s.status == running {
			g.put(i, slot{took: toMicros(time.Since(g.runOf(i).started)), status: unfinished}, nil)
		}
	}
}

// end cancels the observations of a level and all it contains, and forgets what they told.
func (g *Gate) end(from level) {
	g.cancel(from)
	for i := range g.allSlots {
		o := g.engine.observations[i]
		if o.level < from {
			continue
		}
		g.put(i, slot{}, nil)
		if o.level == greetingLevel {
			g.facts.Clear(o.group)
		}
	}
}
