package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gatepost/filters"
	"gatepost/filters/all"
	"gatepost/filters/filtertest"
	"gatepost/policy"
	"gatepost/proxy"
	"gatepost/proxy/admin"
	"gatepost/proxy/backend"
	"gatepost/proxy/config"
	"gatepost/proxy/confine"
	"gatepost/proxy/control"
	"gatepost/proxy/front"
	"gatepost/proxy/journal"
	"gatepost/proxy/metrics"
	"gatepost/proxy/milter"
	"gatepost/proxy/policyserver"
	"gatepost/proxy/resolver"
	"gatepost/proxy/sockets"
	"gatepost/proxy/store"
)

// house is a running proxy: everything that has an owner, put together here and nowhere else.
type house struct {
	file  string
	specs []filters.Spec
	log   *slog.Logger
	clock filters.Clock

	estate                         // what one process alone may own
	journal      *journal.Journal  // nil: journal.path is off
	dns          *resolver.Metrics // of all lookups there have been
	sockets      *sockets.Set      // nil: none was given
	confined     *confine.Grant    // nil: it is not
	control      *control.Server
	stopControl  context.CancelFunc
	succession   succession
	predecessor  *predecessor // nil: none goes on beside this process
	server       *proxy.Server
	milter       *milter.Server
	policyServer *policyserver.Server
	spill        *front.Spill
	runtime      *policy.Runtime
	ids          *front.IDs     // of sessions, and of changes
	running      sync.WaitGroup // what runs beside the sessions
	started      *config.Config // what it was started with; asked for what no reload changes

	counts    *metrics.Recorder
	lately    *metrics.Lately
	reloads   metrics.Reloads
	current   atomic.Pointer[backends] // those of force, for who may not wait for a reload
	admin     *admin.Server            // nil: there is none
	stopAdmin func()                   // and wait for its end
	traffic   *admin.Traffic
	begun     time.Time

	stopTidying context.CancelFunc

	changing sync.Mutex // held while a reload or a hand-over is under way

	mu    sync.Mutex // guards force
	force inForce
}

// inForce is what new sessions work with, as made from one version of the configuration file.
type inForce struct {
	config   *config.Config
	engine   *policy.Engine
	backends *backends // nil: nothing is under `listen`
	lookups  *lookups
}

// backends is a group of backends while it is in use: by the current service and by older ones that still have sessions.
type backends struct {
	group      *backend.Group
	submission *backend.Group // nil: no listener is for submission
	stop       context.CancelFunc
	users      sync.WaitGroup
}

// spillTotal bounds what large messages take on disk, all together.
const spillTotal = 4 << 30

// build opens everything that a configuration names. On error nothing is left open.
func build(file string, c *config.Config, log *slog.Logger, clock filters.Clock, recorder policy.Recorder) (*house, error) {
	h, err := prepare(file, c, log, clock, recorder)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(h.own(), h.openForOperators()); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

// prepare makes a house that owns nothing yet: everything that another process may have open at the same time. On error
// nothing is left open.
func prepare(file string, c *config.Config, log *slog.Logger, clock filters.Clock, recorder policy.Recorder) (*house, error) {
	h := &house{file: file, specs: all.Specs(), log: log, clock: clock, started: c, begun: clock.Now(), ids: front.NewIDs()}
	h.runtime = &policy.Runtime{Bypass: &policy.Bypass{}, Clock: clock}
	if err := errors.Join(h.monitor(recorder), h.open(c)); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

func (h *house) open(c *config.Config) (err error) {
	spill := spillFolder(c.Store)
	if err = os.MkdirAll(spill, 0o700); err != nil {
		return err
	}
	if h.spill, err = front.NewSpill(spill, spillTotal); err != nil {
		return err
	}
	if c.Journal.Path != journal.Off {
		if h.journal, err = journal.New(c.Journal, journal.Options{Clock: h.clock, Log: h.log}); err != nil {
			return err
		}
		h.runtime.Recorder = recorders{h.runtime.Recorder, h.journal}
	}
	services, next, err := h.services(c)
	if err != nil {
		return err
	}
	if err = h.openFronts(services); err != nil {
		h.discard(services, next)
		return err
	}
	h.enforce(next)
	h.rulesInForce(journal.Start)
	ctx, stop := context.WithCancel(context.Background())
	h.stopTidying = stop
	h.running.Go(func() { tidy(ctx) })
	h.running.Go(func() { h.lately.Run(ctx) })
	return nil
}

// openForOperators lets commands and the admin pages in.
func (h *house) openForOperators() (err error) {
	if h.control, err = control.Listen(controlSocket(h.started.Store), h.sockets, h.log); err != nil {
		return err
	}
	h.handleCommands()
	ctx, stop := context.WithCancel(context.Background())
	h.stopControl = stop
	serving := h.control
	h.running.Go(func() {
		if err := serving.Serve(ctx); err != nil {
			h.log.Error("commands are not answered any more", "error", err)
		}
	})
	return h.openAdmin(h.inForce().config)
}

// enforce notes what the server has taken.
func (h *house) enforce(next inForce) {
	h.force = next
	h.current.Store(next.backends)
	h.reloads.Loaded(h.clock.Now())
}

func (h *house) awaitBackend(ctx context.Context) { h.force.backends.await(ctx) }

// await waits, for a bounded time, until every backend has been asked once: clients that come before would be sent away.
func (b *backends) await(ctx context.Context) {
	if b == nil {
		return
	}
	patience := time.NewTimer(5 * time.Second)
	defer patience.Stop()
	for _, group := range []*backend.Group{b.group, b.submission} {
		if group == nil {
			continue
		}
		select {
		case <-group.Probed():
		case <-patience.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// controlSocket is where commands find the process that owns the state.
func controlSocket(c store.Config) string { return filepath.Join(c.Path, control.Name) }

// spillFolder is where large messages wait.
func spillFolder(c store.Config) string { return filepath.Join(c.Path, "spill") }

func (h *house) env(c *config.Config, dns *lookups) filters.Env {
	return filters.Env{Hostname: c.Hostname, Domains: c.Domains, Resolver: dns, Store: h.memory(c), Clock: h.clock, Dialer: dialer{}, Log: h.log}
}

// services compiles a configuration into what sessions work with. Its filters and backends run until its last session
// has ended. It is in force when the front ends have taken it; what they did not take must be given to discard.
func (h *house) services(c *config.Config) (*services, inForce, error) {
	next := inForce{config: c, lookups: h.force.lookups}
	var err error
	if next.lookups == nil || !reflect.DeepEqual(c.Resolver, h.force.config.Resolver) {
		if next.lookups, err = h.openLookups(c); err != nil {
			return nil, next, err
		}
	}
	engine, problems := c.Compile(h.specs, h.env(c, next.lookups))
	if engine == nil {
		h.discard(&services{}, next)
		return nil, next, problems
	}
	next.engine = engine
	warn(h.log, problems)
	if next.backends, err = h.backendsFor(c); err != nil {
		h.discard(&services{}, next)
		return nil, next, err
	}
	if h.force.engine != nil {
		engine.Adopt(h.force.engine)
	}
	h.counts.Use(engine.Rules())
	ctx, stop := context.WithCancel(context.Background())
	next.lookups.users.Add(1)
	h.running.Go(func() { defer next.lookups.users.Done(); engine.Run(ctx) })
	return h.newServices(next, stop), next, nil
}

// discard ends what the front ends did not take.
func (h *house) discard(s *services, next inForce) {
	s.retire()
	if next.backends != nil && next.backends != h.force.backends {
		next.backends.stop()
	}
	if next.lookups != h.force.lookups {
		h.closeUnused(next.lookups)
	}
}

// backendsFor returns those in force if they will do, nil if nothing is relayed.
func (h *house) backendsFor(c *config.Config) (*backends, error) {
	b, before := h.force.backends, h.force.config
	switch {
	case len(c.Listen) == 0:
		return nil, nil
	case b != nil && reflect.DeepEqual(c.Backend, before.Backend) && c.Hostname == before.Hostname && (b.submission != nil) == takesSubmission(c):
		return b, nil
	}
	return h.openBackends(c)
}

// warn logs what is wrong with a configuration that is good enough to be used.
func warn(log *slog.Logger, problems config.Problems) {
	for _, p := range problems {
		log.Warn("configuration: "+p.Message, "at", p.Pos.String())
	}
}

// openBackends starts to probe the backends of c. They are given up when no service uses them any more.
func (h *house) openBackends(c *config.Config) (*backends, error) {
	options := backend.Options{Hostname: c.Hostname, Log: h.log, Clock: h.clock, DomainsConfigured: len(c.Domains) > 0}
	group, err := backend.New(c.Backend, options)
	if err != nil {
		return nil, fmt.Errorf("backend: %w", err)
	}
	b := &backends{group: group}
	if takesSubmission(c) {
		if b.submission, err = backend.New(c.Backend.ForSubmission(), options); err != nil {
			return nil, fmt.Errorf("backend for submission: %w", err)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	h.running.Go(func() { group.Run(ctx) })
	if b.submission != nil {
		h.running.Go(func() { b.submission.Run(ctx) })
	}
	return b, nil
}

// borrowBackends returns the backends in force for mail, nil if there are none, for who uses them beside the sessions, and what gives them back.
func (h *house) borrowBackends() (group *backend.Group, done func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.force.backends
	if b == nil {
		return nil, func() {}
	}
	b.users.Add(1) // not from zero while somebody waits: they are in force, and close waits behind the quarantine's end
	return b.group, b.users.Done
}

// takesSubmission tells whether a listener is for users who hand in their mail.
func takesSubmission(c *config.Config) bool {
	return slices.ContainsFunc(c.Listen, func(l proxy.Listen) bool { return l.Submission })
}

// allProblems is what Check has to say of a file that Load refused, the mistakes in its rules included.
func allProblems(file string, found config.Problems) config.Problems {
	if _, _, all := config.Check(file, all.Specs(), filtertest.NewEnv(filtertest.NewZone())); all.Failed() {
		return all
	}
	return found // the file has been mended meanwhile
}

// shutdown lets sessions finish until ctx ends, then closes everything.
func (h *house) shutdown(ctx context.Context) error {
	h.settleSuccession()
	err := h.shutdownFronts(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		h.log.Warn("sessions were still busy and have been closed", "waited", shutdownLimit)
		err = nil
	}
	return errors.Join(err, h.close())
}

// close closes what is open, in the order that keeps everybody's tools in place until he is done. It may be called
// on a house that was built in part.
func (h *house) close() error {
	h.settleSuccession()
	var errs []error
	if h.stopTidying != nil {
		h.stopTidying()
	}
	if h.stopControl != nil {
		h.stopControl()
	}
	if h.stopAdmin != nil {
		h.stopAdmin()
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := h.shutdownFronts(ctx); err != nil && !errors.Is(err, context.Canceled) {
		errs = append(errs, err)
	}
	errs = append(errs, h.closeQuarantine()) // it borrows backends
	if h.force.backends != nil {
		h.force.backends.users.Wait()
		h.force.backends.stop()
	}
	if h.predecessor != nil {
		h.predecessor.link.Close()
	}
	h.running.Wait()
	if h.force.lookups != nil {
		h.force.lookups.Close()
	}
	if h.journal != nil {
		errs = append(errs, h.journal.Close())
	}
	errs = append(errs, h.closeStore())
	h.succession.end()
	return errors.Join(errs...)
}
