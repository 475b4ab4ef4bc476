package replay

import (
	"context"
	"slices"

	"gatepost/filters"
	"gatepost/policy"
)

// greylisting is what the greylister would have remembered under the new rules.
//
// A sender's keys have diverged when the new rules asked for an attempt that the old ones did not ask for, or the other
// way round: from then on only the simulation knows. Until then what was recorded stands, and is brought into the store,
// so that the simulation has it when it is needed.
//
// Keys are in doubt when it cannot be told whether an attempt was made: from then on nothing is known of them either,
// unless they had passed before. Where not even its keys can be told, for want of a fact, its sender's whole domain is.
type greylisting struct {
	filter   filters.Greylister // nil: off
	memory   *Memory
	settings uint64
	diverged map[string]bool
	doubted  map[string]bool // keys, and domains behind an @

	// For the recording at hand:
	asked   bool
	certain bool // the attempt that was asked for was made, and its answer is known
}

// maxDiverged bounds the keys that are remembered as diverged, and those in doubt; beyond it, what was recorded stands for
// others.
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

func (g *greylisting) hasDiverged(keys []string) bool { return anyOf(keys, g.diverged) }

// inDoubt tells that nothing is known of a sender; a single key of which it is certain that it has passed is enough.
func (g *greylisting) inDoubt(keys []string, e *filters.Envelope) bool {
	if len(g.doubted) == 0 || !anyOf(keys, g.doubted) && !g.doubted[wholeDomain(e)] {
		return false
	}
	marks, err := g.memory.Store.Peek(background, g.memory.space, keys)
	for i, m := range marks {
		if !m.Passed.IsZero() && !g.doubted[keys[i]] {
			return false
		}
	}
	return err == nil
}

func wholeDomain(e *filters.Envelope) string {
	_, domain := filters.SplitAddress(e.ReversePath)
	return "@" + domain
}

func anyOf(keys []string, set map[string]bool) bool {
	return slices.ContainsFunc(keys, func(key string) bool { return set[key] })
}

func (g *greylisting) diverge(keys []string) { note(keys, g.diverged) }

func note(keys []string, set map[string]bool) {
	for _, key := range keys {
		if len(set) < maxDiverged {
			set[key] = true
		}
	}
}

// doubt notes that nobody knows whether an attempt was made. One more says nothing of a key that has passed.
func (g *greylisting) doubt(keys []string, recorded *policy.Attempt) {
	if !g.hasDiverged(keys) {
		g.seed(keys, recorded)
	}
	g.diverge(keys)
	marks, err := g.memory.Store.Peek(background, g.memory.space, keys)
	for i, key := range keys {
		if err != nil || marks[i].Passed.IsZero() {
			note([]string{key}, g.doubted)
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
	doubted := g.inDoubt(keys, v.Envelope)
	stands := recorded != nil && g.same(r) && !g.hasDiverged(keys) && !doubted
	if !stands && (!whole || doubted) {
		return "", false
	}
	if v.Recipient == nil && r.Reached < policy.StepData {
		return g.supposed(keys, recorded, v)
	}
	g.certain = true
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

// supposed answers for an attempt behind the recipients by a client that our rules of then sent away before: a message
// would have heard that, but who only asked about a recipient, as callouts do with the null reverse-path (RFC 6647, 5),
// would have left all the same, without an attempt.
func (g *greylisting) supposed(keys []string, recorded *policy.Attempt, v filters.View) (filters.GreylistState, bool) {
	g.doubt(keys, recorded)
	result, err := g.filter.Attempt(background, v)
	if err != nil {
		return filters.GreylistPassed, true
	}
	return result.State, true
}

// conclude notes that an attempt was not made which was made then, or that nobody knows whether one was made.
func (g *greylisting) conclude(r *policy.Recording, play *policy.Play) {
	untold := play.Missing != ""
	if g.filter == nil || r.Envelope == nil || g.certain || !untold && (g.asked || r.Attempt == nil) {
		return
	}
	facts := recordedFacts(r.Looks)
	keys := g.learn(filters.View{Session: r.Session, Greeting: r.Greeting, Envelope: r.Envelope, Facts: facts})
	if untold {
		g.doubt(keys, r.Attempt)
		_, named := facts.Bool("rdns.confirmed")
		if _, checked := facts.Text("spf.result"); !checked || !named {
			note([]string{wholeDomain(r.Envelope)}, g.doubted)
		}
		return
	}
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
