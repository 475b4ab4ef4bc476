package replay

import (
	"context"

	"gatepost/filters"
	"gatepost/policy"
)

// greylisting is what the greylister would have remembered under the new rules.
//
// A sender's keys have diverged when the new rules asked for an attempt that the old ones did not ask for, or the other
// way round: from then on only the simulation knows. Until then what was recorded stands, and is brought into the store,
// so that the simulation has it when it is needed.
type greylisting struct {
	filter   filters.Greylister // nil: off
	memory   *Memory
	settings uint64
	diverged map[string]bool
	asked    bool // for the recording at hand
}

// maxDiverged bounds the keys that are remembered as diverged; beyond it, what was recorded stands for others.
const maxDiverged = 1_000_000

var background = context.Background()

// same tells whether what was recorded was found with the settings that are tried.
func (g *greylisting) same(r *policy.Recording) bool { return r.Settings.Greylist == g.settings }

// learn finds the keys that an attempt would touch.
func (g *greylisting) learn(v filters.View) []string {
	g.memory.learning, g.memory.keys = true, g.memory.keys[:0]
	_, err := g.filter.Attempt(background, v)
	g.memory.learning = false
	if err != nil {
		return nil
	}
	return append([]string(nil), g.memory.keys...)
}

func (g *greylisting) hasDiverged(keys []string) bool {
	for _, key := range keys {
		if g.diverged[key] {
			return true
		}
	}
	return false
}

func (g *greylisting) diverge(keys []string) {
	for _, key := range keys {
		if len(g.diverged) < maxDiverged {
			g.diverged[key] = true
		}
	}
}

// seed brings into the store what a recorded attempt tells of a sender of whom nothing is known: the journal may begin in
// the middle of its history.
func (g *greylisting) seed(keys []string, recorded *policy.Attempt) {
	if recorded == nil || recorded.Failed || recorded.State == filters.GreylistNew {
		return
	}
	m := g.memory
	marks, err := m.Store.Peek(background, m.space, keys)
	for _, mark := range marks {
		if err != nil || mark.Exists() {
			return
		}
	}
	first := recorded.First
	if first.IsZero() || first.After(m.clock.now) {
		first = m.clock.now
	}
	m.at(first, func() { _, err = m.Store.Attempt(background, m.space, keys, m.terms) })
	if err == nil && recorded.State == filters.GreylistPassed {
		_ = m.Store.Pass(background, m.space, keys, m.terms.Keep) // it fails only when the memory is full
	}
}

// attempt answers for the greylister.
func (g *greylisting) attempt(r *policy.Recording, v filters.View, whole bool) (state filters.GreylistState, known bool) {
	g.asked = true
	recorded := r.Attempt
	if recorded != nil && recorded.Failed {
		return filters.GreylistPassed, true
	}
	keys := g.learn(v)
	stands := recorded != nil && g.same(r) && !g.hasDiverged(keys)
	if !stands && !whole {
		return "", false
	}
	if !g.hasDiverged(keys) {
		g.seed(keys, recorded)
	}
	result, err := g.filter.Attempt(background, v)
	if !stands {
		g.diverge(keys)
		if err != nil {
			return filters.GreylistPassed, true
		}
		return result.State, true
	}
	if recorded.State == filters.GreylistPassed && result.State != filters.GreylistPassed {
		_ = g.memory.Store.Pass(background, g.memory.space, keys, g.memory.terms.Keep)
	}
	return recorded.State, true
}

// conclude notes that an attempt was not made which was made then.
func (g *greylisting) conclude(r *policy.Recording, play *policy.Play) {
	if g.filter == nil || r.Attempt == nil || g.asked || play.Missing != "" {
		return
	}
	keys := g.learn(filters.View{Session: r.Session, Greeting: r.Greeting, Envelope: r.Envelope, Facts: recordedFacts(r.Looks)})
	if !g.hasDiverged(keys) {
		g.seed(keys, r.Attempt)
	}
	g.diverge(keys)
}

// renew lets the filter know that mail was delivered, which renews its sender's pass.
func (g *greylisting) renew(o *filters.Outcome) {
	witness, ok := g.filter.(filters.Witness)
	if !ok || g.memory.space == "" { // nobody has attempted anything
		return
	}
	witness.Concluded(o)
	if runner, ok := g.filter.(filters.Runner); ok {
		runner.Run(stopped) // works off what is queued
	}
}

var stopped = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()
