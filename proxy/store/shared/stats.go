package shared

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"gatepost/proxy/histogram"
)

// Stats tell how the shared store is. Numbers are since the start.
type Stats struct {
	Since time.Time // when the outage began; zero: there is none
	Cause error     // of the outage

	Decided   int64 // decisions of the engine
	Fallbacks int64 // decisions of the embedded store
	Outages   int64
	Merged    int64 // marks given to the engine after outages
	Unlearned int64 // decisions that the embedded store could not be told of
	Waiting   int64 // keys with tallies that the engine was not told of
	Untold    int64 // tallies for which there was no room
	Trips     int64 // requests to the engine
	Cached    int64 // look-ups that needed none
	Latency   histogram.Snapshot
}

type counts struct{ decided, fallbacks, outages, merged, unlearned atomic.Int64 }

// Stats returns how the store is now.
func (s *Store) Stats() Stats {
	st := Stats{
		Decided:   s.counts.decided.Load(),
		Fallbacks: s.counts.fallbacks.Load(),
		Outages:   s.counts.outages.Load(),
		Merged:    s.counts.merged.Load(),
		Unlearned: s.counts.unlearned.Load(),
		Latency:   s.latency.Read(),
	}
	st.Waiting, st.Untold = s.ledger.waits()
	if o := s.outage.Load(); o != nil {
		st.Since, st.Cause = o.since, o.cause
	}
	if e := s.engine.Load(); e != nil {
		st.Trips, st.Cached = e.Trips()
	}
	return st
}

// State says in a sentence how the store is, for operators.
func (st *Stats) State() string {
	if st.Since.IsZero() {
		return "the shared store is used"
	}
	cause := fmt.Sprint(st.Cause)
	if errors.Is(st.Cause, context.DeadlineExceeded) {
		cause = "no answer in time"
	}
	return fmt.Sprintf("the shared store cannot be used since %s (%s): this proxy decides by its own memory", st.Since.Format(time.DateTime), cause)
}
