package policy

import (
	"math"
	"slices"
	"time"
)

// slot is how an observation's latest run stands. There are several for every waiting client, so the run itself is kept
// elsewhere, as long as it matters: see [Gate.runOf].
type slot struct {
	took   micros
	status status
}

// micros is a duration in microseconds, up to 71 minutes.
type micros uint32

// toMicros rounds up: what took some time did not take none.
func toMicros(d time.Duration) micros {
	return micros(min(max(d+time.Microsecond-1, 0).Microseconds(), math.MaxUint32))
}

func (m micros) duration() time.Duration { return time.Duration(m) * time.Microsecond }

// slot returns an observation's slot. Those behind EHLO live as long as a transaction.
func (g *Gate) slot(i int) *slot {
	if i < len(g.slots) {
		return &g.slots[i]
	}
	return &g.tx.slots[i-len(g.slots)]
}

// put says how an observation stands: with the run that is running, or that has failed, or else nil.
func (g *Gate) put(i int, s slot, r *run) {
	*g.slot(i) = s
	switch {
	case g.play != nil || g.busy == nil && r == nil:
		return
	case g.busy == nil:
		g.busy = newActivity()
	}
	g.busy.latest = slices.DeleteFunc(g.busy.latest, func(other *run) bool { return other.slot == i })
	if r != nil {
		g.busy.latest = append(g.busy.latest, r)
	}
}

// forgetRuns forgets how observations of a transaction have failed, when that has ended.
func (g *Gate) forgetRuns() {
	if g.busy != nil {
		g.busy.latest = slices.DeleteFunc(g.busy.latest, func(r *run) bool { return r.slot >= len(g.slots) })
	}
}

// runOf returns an observation's run that is running, or that has failed; else nil.
func (g *Gate) runOf(i int) *run {
	switch {
	case g.play != nil:
		return unplayed
	case g.busy == nil:
		return nil
	}
	for _, r := range g.busy.latest {
		if r.slot == i {
			return r
		}
	}
	return nil
}

// allSlots yields the slots that there are now.
func (g *Gate) allSlots(yield func(i int, s *slot) bool) {
	for i := range g.slots {
		if !yield(i, &g.slots[i]) {
			return
		}
	}
	if g.tx == nil {
		return
	}
	for i := range g.tx.slots {
		if !yield(len(g.slots)+i, &g.tx.slots[i]) {
			return
		}
	}
}
