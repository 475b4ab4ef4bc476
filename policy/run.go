package policy

import (
	"context"
	"slices"
	"time"

	"gatepost/filters"
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
	if g.results == nil {
		g.results = make(chan *run, g.engine.maxRunning)
	}
	if g.poll(); len(g.running) == cap(g.results) && !g.receive(ctx, time.Now().Add(patience)) {
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
	g.slots[o.slot] = slot{run: r, status: running}
	g.running = append(g.running, r)
	scope, results := g.scope(o.level), g.results
	go func() {
		r.work(scope, timeout, v, waits)
		if r.done != nil {
			close(r.done)
		}
		results <- r
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
		facts := v.Facts.(*readable).facts // a copy of its own
		if w.err == nil {
			facts.Set(w.group, w.facts)
		} else {
			facts.Fail(w.group)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	begun := time.Now()
	r.facts, r.err = r.call(ctx, v)
	r.took = time.Since(begun)
}

// poll takes in all results that are there.
func (g *Gate) poll() {
	for len(g.running) > 0 {
		select {
		case r := <-g.results:
			g.absorb(r)
		default:
			return
		}
	}
}

// receive waits for one result, until ctx ends or the deadline has passed; the zero deadline never does.
func (g *Gate) receive(ctx context.Context, deadline time.Time) bool {
	var expired <-chan time.Time
	if !deadline.IsZero() {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case r := <-g.results:
		g.absorb(r)
		return true
	case <-expired:
		return false
	case <-ctx.Done():
		return false
	}
}

// absorb takes in a result, unless it comes too late for whom it was asked.
func (g *Gate) absorb(r *run) {
	g.running = slices.DeleteFunc(g.running, func(other *run) bool { return other == r })
	s := &g.slots[r.slot]
	if s.run != r || s.status != running {
		g.logPanic(r.observation, r.err)
		return
	}
	g.settled(r.observation, r.facts, r.err, r.took)
	g.extendClock(r.observation)
}

// scope returns the context of a level's observations.
func (g *Gate) scope(l level) context.Context {
	s := &g.ends[l]
	if s.ctx == nil {
		s.ctx, s.cancel = context.WithCancel(context.Background())
	}
	return s.ctx
}

// stop cancels the observations of a level and all it contains, and waits until they have ended.
func (g *Gate) stop(from level) {
	g.cancel(from)
	var bound context.Context
	for slices.ContainsFunc(g.running, func(r *run) bool { return r.level >= from && !r.abandoned }) {
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
	for _, r := range g.running {
		if r.level >= from && !r.abandoned {
			r.abandoned = true
			g.engine.log.Error("filter does not return after its context has ended", "filter", r.filter, "stage", r.stage.String(), "session", g.session.ID)
		}
	}
}

// cancel tells the observations of a level and all it contains that nobody needs them any more.
func (g *Gate) cancel(from level) {
	for l := from; l < levels; l++ {
		if g.ends[l].cancel != nil {
			g.ends[l].cancel()
			g.ends[l] = scope{}
		}
	}
	for i, o := range g.engine.observations {
		if s := &g.slots[i]; o.level >= from && s.status == running {
			s.status, s.took = unfinished, time.Since(s.run.started)
		}
	}
}

// end cancels the observations of a level and all it contains, and forgets what they told.
func (g *Gate) end(from level) {
	g.cancel(from)
	for i, o := range g.engine.observations {
		if o.level < from {
			continue
		}
		g.slots[i] = slot{}
		if o.level == greetingLevel {
			g.facts.Clear(o.group)
		}
	}
}
