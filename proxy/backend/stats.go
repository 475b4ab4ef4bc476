package backend

import (
	"sync/atomic"

	"gatepost/proxy/histogram"
)

// counters is what is counted of one backend. Safe for concurrent use.
type counters struct {
	opened, reused, failed, refused atomic.Int64
	lost                            atomic.Int64
	probeFailed                     atomic.Int64
	dial, exchange, message         histogram.Histogram
}

// Stats tells how one backend is, and what was done with it since the group was made. Counters only grow.
type Stats struct {
	Address string
	Open    int  // connections: in use, idle and being opened
	Idle    int  // of these, those that wait for their next client
	Waiting int  // sessions that wait for a connection
	Limit   int  // connections that there may be at present
	Seen    bool // it has answered a probe or a client, ever
	Up      bool // it has, and the last attempt to reach it did not fail
	Usable  bool // clients may be taken there as far as the relay check is concerned

	Opened      int64 // sessions asked for that got a new connection
	Reused      int64 // those that got a kept one
	Failed      int64 // those that could not be had
	Refused     int64 // those that the backend refused to this client
	Lost        int64 // messages that did not get their final reply
	ProbeFailed int64 // probes without success

	Dial     histogram.Snapshot // until a session could be had, or not
	Exchange histogram.Snapshot // until a batch of commands was answered
	Message  histogram.Snapshot // from the first byte of a message to the final reply
}

// Stats returns how the backends are, in the order of the configuration.
func (g *Group) Stats() []Stats {
	list := make([]Stats, len(g.servers))
	for i, s := range g.servers {
		list[i] = s.stats()
	}
	return list
}

func (s *server) stats() Stats {
	n := &s.counters
	st := Stats{
		Address: s.address, Seen: s.known.Load() != nil, Usable: s.usable() == nil,
		Opened: n.opened.Load(), Reused: n.reused.Load(), Failed: n.failed.Load(), Refused: n.refused.Load(),
		Lost: n.lost.Load(), ProbeFailed: n.probeFailed.Load(),
		Dial: n.dial.Read(), Exchange: n.exchange.Read(), Message: n.message.Read(),
	}
	st.Up = st.Seen && s.failures.Load() == 0
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	st.Open, st.Idle, st.Waiting, st.Limit = s.pool.open, len(s.pool.idle), s.pool.waiting.Len(), s.pool.limit
	return st
}
