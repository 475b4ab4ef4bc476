package replay

import (
	"gatepost/filters"
	"gatepost/policy"
)

// simulation implements policy.Simulation for the filters with a memory.
type simulation struct {
	recording *policy.Recording // at hand
	grey      greylisting
	limits    limiting
}

var _ policy.Simulation = (*simulation)(nil)

func newSimulation(e *policy.Engine, m *Memory) *simulation {
	s := &simulation{
		grey:   greylisting{memory: m, settings: e.Settings().Greylist, diverged: map[string]bool{}, doubted: map[string]bool{}},
		limits: newLimiting(e, m.clock),
	}
	s.grey.filter, _ = e.Filter("greylist").(filters.Greylister)
	return s
}

func (s *simulation) begin(r *policy.Recording) {
	s.recording = r
	s.grey.asked, s.grey.certain = false, false
	s.limits.begin(r)
	if now := r.Start; now.After(s.grey.memory.clock.now) {
		s.grey.memory.clock.now = now
	}
}

func (s *simulation) end(r *policy.Recording, play *policy.Play) {
	s.grey.conclude(r, play)
	s.limits.end(r, play)
}

// Simulates implements policy.Simulation.
func (s *simulation) Simulates(filter string, stage filters.Stage) bool {
	switch filter {
	case "ratelimit":
		return s.limits.simulates(stage)
	case "greylist":
		return len(s.grey.diverged) > 0 || !s.grey.same(s.recording)
	default:
		return false
	}
}

// Look implements policy.Simulation.
func (s *simulation) Look(filter string, stage filters.Stage, v filters.View, look func() (any, error)) (facts any, err error, ok bool) {
	if filter == "ratelimit" {
		return s.limits.look(stage, v, look)
	}
	if s.grey.filter == nil {
		return nil, nil, false
	}
	switch keys := s.grey.learn(v); {
	case s.grey.inDoubt(keys, v.Envelope):
		return nil, policy.ErrUntold, true
	case s.grey.same(s.recording) && !s.grey.hasDiverged(keys):
		return nil, nil, false
	}
	facts, err = look()
	return facts, err, true
}

// Attempt implements policy.Simulation.
func (s *simulation) Attempt(v filters.View, _ *policy.Attempt, whole bool) (filters.GreylistState, bool) {
	return s.grey.attempt(s.recording, v, whole)
}

// Concluded implements policy.Simulation.
func (s *simulation) Concluded(o *filters.Outcome, supposed bool) {
	s.limits.conclude(o, supposed)
	if o.Kind == filters.MessageOutcome && o.Code == 250 && !o.Ours {
		s.grey.renew(o)
	}
}
