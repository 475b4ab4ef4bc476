package milter

import (
	"cmp"
	"log/slog"
	"sync/atomic"

	"gatepost/filters"
	"gatepost/proxy/called"
	"gatepost/proxy/front"
)

// Options is what a Server is made with.
type Options struct {
	Service called.Service
	Spill   filters.Spill // where large messages go
	Log     *slog.Logger
	Clock   filters.Clock // for time stamps; time-outs go by the machine's own
	IDs     *front.IDs    // shared with the SMTP front end, as is Memory; nil: one of its own
	Memory  *front.Memory
}

// Server is the milter front end. Its methods are safe for concurrent use.
type Server struct {
	*called.Server[Listen]
	spill   filters.Spill
	log     *slog.Logger
	clock   filters.Clock
	ids     *front.IDs
	memory  *front.Memory
	metrics Metrics
}

// Metrics counts what the front end does. Every field is safe for concurrent use.
type Metrics struct {
	called.Metrics

	Accepted  atomic.Int64 // messages that were left to the MTA
	Refused   atomic.Int64 // messages refused for good (5yz)
	Deferred  atomic.Int64 // messages refused for now (4yz)
	Held      atomic.Int64 // messages that a rule had the MTA keep in quarantine
	Discarded atomic.Int64 // messages that a rule had the MTA throw away
	Skipped   atomic.Int64 // messages whose body was not read
	Bytes     atomic.Int64 // bytes of messages received
	Spilled   atomic.Int64 // messages of which a part went to a file
	SpillFull atomic.Int64 // messages refused with 452 because the room for such files was used up
}

// New makes a server that listens nowhere yet. It has to be shut down.
func New(o Options) (*Server, error) {
	s := &Server{
		spill: o.Spill, log: o.Log, clock: o.Clock, ids: cmp.Or(o.IDs, &front.IDs{}), memory: cmp.Or(o.Memory, &front.Memory{}),
	}
	var err error
	s.Server, err = called.New(called.Options[Listen]{Key: "milter", Begin: s.begin, Service: o.Service, Log: o.Log, Metrics: &s.metrics.Metrics})
	return s, err
}

// Metrics counts what the server does.
func (s *Server) Metrics() *Metrics { return &s.metrics }
