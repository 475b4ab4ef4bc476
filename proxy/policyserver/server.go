package policyserver

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
	Log     *slog.Logger
	Clock   filters.Clock // for time stamps; time-outs go by the machine's own
	IDs     *front.IDs    // shared with the other front ends; nil: one of its own
}

// Server is the policy server. Its methods are safe for concurrent use.
type Server struct {
	*called.Server[Listen]
	log     *slog.Logger
	clock   filters.Clock
	ids     *front.IDs
	metrics Metrics
}

// Metrics counts what the front end does. Every field is safe for concurrent use.
type Metrics struct {
	called.Metrics

	// Requests, by what was answered.
	Passed    atomic.Int64 // DUNNO, and PREPEND
	Refused   atomic.Int64 // 5yz
	Deferred  atomic.Int64 // 4yz, and DEFER_IF_PERMIT
	Discarded atomic.Int64 // DISCARD
	Held      atomic.Int64 // HOLD
}

// New makes a server that listens nowhere yet. It has to be shut down.
func New(o Options) (*Server, error) {
	s := &Server{log: o.Log, clock: o.Clock, ids: cmp.Or(o.IDs, &front.IDs{})}
	var err error
	s.Server, err = called.New(called.Options[Listen]{Key: "policy_server", Begin: s.begin, Service: o.Service, Log: o.Log, Metrics: &s.metrics.Metrics})
	return s, err
}

// Metrics counts what the server does.
func (s *Server) Metrics() *Metrics { return &s.metrics }
