package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"gatepost/proxy"
	"gatepost/proxy/backend"
	"gatepost/proxy/called"
	"gatepost/proxy/config"
	"gatepost/proxy/front"
	"gatepost/proxy/milter"
	"gatepost/proxy/policyserver"
	"gatepost/proxy/sockets"
)

// services is what the front ends work with, made from one version of the configuration. Retired is nil in those that
// have been taken. All front ends are always there: a reload may add the first address of one. Without anything under
// `listen` there are no backends.
type services struct {
	smtp         proxy.Service
	milter       called.Service
	policyServer called.Service
}

// openSockets are those of all front ends.
type openSockets struct {
	smtp         []proxy.Bound
	milter       []milter.Bound
	policyServer []policyserver.Bound
}

// openAll opens the sockets that a configuration names, or none.
func openAll(ctx context.Context, c *config.Config, given *sockets.Set) (s openSockets, err error) {
	defer func() {
		if err != nil {
			closeAll(s.smtp)
			closeAll(s.milter)
		}
	}()
	if s.smtp, err = bind(ctx, c.Listen, given); err != nil {
		return s, err
	}
	if s.milter, err = bind(ctx, c.Milter, given); err != nil {
		return s, err
	}
	s.policyServer, err = bind(ctx, c.PolicyServer, given)
	return s, err
}

// newServices gives each front end its part. When the last of them has no session with it any more, stop is called.
func (h *house) newServices(next inForce, stop func()) *services {
	c := next.config
	s := &services{smtp: proxy.Service{
		Hostname:    c.Hostname,
		Engine:      next.engine,
		Runtime:     h.runtime,
		Limits:      c.Limits,
		LineEndings: c.LineEndings,
		Duplicates:  c.Duplicates,
		Store:       h.memory(c), // of duplicates: they may come back to another proxy of the site
		Digest:      h.journal != nil && c.Journal.Digest,
		Quarantine:  &h.keeper,
		Hold:        time.Duration(c.Backend.Hold),
		TraceField:  c.Backend.ClientAddress == backend.NoAddress,
	}}
	retired := stop
	if b := next.backends; b != nil {
		s.smtp.Backend, s.smtp.Submission = b.group, b.submission
		b.users.Add(1)
		retired = func() { stop(); b.users.Done() }
	}
	forMTA := called.Service{Hostname: c.Hostname, Engine: next.engine, Runtime: h.runtime, Limits: c.Limits}
	s.milter, s.policyServer = forMTA, forMTA
	last := lastTime(3, retired)
	s.smtp.Retired, s.milter.Retired, s.policyServer.Retired = last, last, last
	return s
}

// lastTime is f for n callers: the last call counts.
func lastTime(n int, f func()) func() {
	var left atomic.Int32
	left.Store(int32(n))
	return func() {
		if left.Add(-1) == 0 {
			f()
		}
	}
}

// retire ends what was not taken.
func (s *services) retire() {
	for _, retired := range []func(){s.smtp.Retired, s.milter.Retired, s.policyServer.Retired} {
		if retired != nil {
			retired()
		}
	}
}

// openFronts makes the front ends. Names of sessions, and the bounds on memory and files, are for all together.
func (h *house) openFronts(s *services) (err error) {
	memory := &front.Memory{}
	h.server, err = proxy.New(proxy.Options{Service: s.smtp, Spill: h.spill, Log: h.log, Clock: h.clock, IDs: h.ids, Memory: memory})
	if err != nil {
		return err
	}
	s.smtp.Retired = nil
	h.milter, err = milter.New(milter.Options{Service: s.milter, Spill: h.spill, Log: h.log, Clock: h.clock, IDs: h.ids, Memory: memory})
	if err != nil {
		return err
	}
	s.milter.Retired = nil
	h.policyServer, err = policyserver.New(policyserver.Options{Service: s.policyServer, Log: h.log, Clock: h.clock, IDs: h.ids})
	if err != nil {
		return err
	}
	s.policyServer.Retired = nil
	return nil
}

// serve accepts clients and MTAs until ctx ends or the front ends are shut down. An error means that nothing was served.
func (h *house) serve(ctx context.Context, sockets openSockets) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var serving sync.WaitGroup
	serving.Go(func() { h.milter.Serve(ctx, sockets.milter...) })
	serving.Go(func() { h.policyServer.Serve(ctx, sockets.policyServer...) })
	err := h.server.Serve(ctx, sockets.smtp...)
	if err != nil {
		cancel()
	}
	serving.Wait()
	return err
}

// shutdownFronts lets sessions finish until ctx ends.
func (h *house) shutdownFronts(ctx context.Context) error {
	var ending sync.WaitGroup
	var errs [3]error
	if h.server != nil {
		ending.Go(func() { errs[0] = h.server.Shutdown(ctx) })
	}
	if h.milter != nil {
		ending.Go(func() { errs[1] = h.milter.Shutdown(ctx) })
	}
	if h.policyServer != nil {
		ending.Go(func() { errs[2] = h.policyServer.Shutdown(ctx) })
	}
	ending.Wait()
	return errors.Join(errs[:]...)
}
