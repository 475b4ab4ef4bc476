package proxy

import (
	"sync"
	"time"
)

// clockWatch notices that the clock was set: then greylisting, rate limits and caches count from another time, and an
// operator who wonders why needs to know. Time-outs go by the machine's own count and are not touched. Safe for
// concurrent use.
type clockWatch struct {
	mu    sync.Mutex // guards all below
	clock time.Time  // what the clock said at the latest look, without the machine's own count
	own   time.Time  // when that was
}

// clockStep is from when on a difference is a step: less is a clock that is being corrected slowly.
const clockStep = 5 * time.Second

// look compares the clock with the machine's own count. step is by how much it was set since the latest look; 0: it was
// not.
func (w *clockWatch) look(clock, own time.Time) (step time.Duration) {
	clock = clock.Round(0)
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.clock.IsZero() {
		if elapsed := own.Sub(w.own); elapsed >= 0 { // sessions look in any order
			step = clock.Sub(w.clock) - elapsed
		}
	}
	w.clock, w.own = clock, own
	if step.Abs() < clockStep {
		return 0
	}
	return step.Round(time.Second)
}

// watchClock tells once of a clock that was set.
func (s *Server) watchClock(now time.Time) {
	if step := s.watch.look(now, time.Now()); step != 0 {
		s.metrics.ClockSteps.Add(1)
		s.log.Warn("the clock was set; what is remembered counts from the new time", "by", step)
	}
}
