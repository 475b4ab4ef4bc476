package faulttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/all"
	"gatepost/policy"
	"gatepost/proxy"
	"gatepost/proxy/backend"
	"gatepost/proxy/backend/backendtest"
	"gatepost/proxy/config"
	"gatepost/proxy/front"
	"gatepost/proxy/telemetry"
)

func itoa(n int) string { return strconv.Itoa(n) }

// setup says what a house is like; the zero value has one good backend that is in reach directly.
type setup struct {
	backends []backendtest.Behaviour
	backend  string // more keys of the section backend
	extra    string // more of the configuration file
	rules    string // instead of the usual ones
	hold     time.Duration
	relayed  bool          // relays with a common plan stand on both sides
	patience time.Duration // of the proxy with its clients; 0: a second
	work     time.Duration // what there is to do may take so long; 0: as little as no fault takes
	clock    filters.Clock
	dirty    bool          // sessions may be cut short at the end
	tolerant bool          // the test takes the backend away before the house has seen it
	logTo    *telemetryLog // nil: thrown away
	wrap     func(net.Listener) net.Listener
	deliver  func(*backendtest.Message) error // nil: the ledger's
}

const usualRules = `
  - {name: refused, when: mail.local startsWith "refused", then: reject, reply: 550 5.7.1 Refused by rule}
  - {name: grey, when: mail.local startsWith "grey", then: greylist}
  - {name: later, when: rcpt.local == "later", then: greylist}
  - {name: forged, when: spf.result == "fail" or not rdns.confirmed and not helo.valid, then: reject}
  - {name: spoiled, when: header("Subject") == "spoiled", then: reject, reply: 550 5.7.1 Spoiled}
  - {name: marked, when: mail.local startsWith "tagged", then: tag, header: "X-Marked: {mail.local}"}
`

// house is a proxy with its backends.
type house struct {
	t        testing.TB
	site     *site
	address  string // where clients connect
	server   *proxy.Server
	group    *backend.Group
	backends []*backendtest.Server
	relays   []*relay // the client's first
	plan     plan
	spill    *fickleSpill
	ledger   ledger
	work     time.Duration // how long an honest client waits for all
	reload   func()        // as SIGHUP does it, with backends that are dialled anew if they are in reach
	stop     func()
}

// telemetryLog is a log that can be looked at.
type telemetryLog struct {
	format string
	mu     sync.Mutex // guards b
	b      bytes.Buffer
}

func (l *telemetryLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *telemetryLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// wants checks that the log tells something.
func (l *telemetryLog) wants(t testing.TB, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(l.String(), text) {
			t.Errorf("%q is not in the log:\n%s", text, l)
		}
	}
}

// recorders passes records on.
type recorders []policy.Recorder

// Confirmed passes it on to those who want to hear it.
func (all recorders) Confirmed(id string, at time.Time) {
	for _, one := range all {
		if c, ok := one.(policy.Confirmer); ok {
			c.Confirmed(id, at)
		}
	}
}

func (all recorders) Record(r *policy.Record) {
	for _, one := range all {
		one.Record(r)
	}
}

// open builds and runs a house; h.stop takes it down and checks what is left.
func (s *site) open(t testing.TB, u setup) *house {
	t.Helper()
	h := &house{t: t, site: s, work: max(u.work, clientPatience)}
	log, recorder := slog.New(slog.DiscardHandler), recorders{&h.ledger}
	if u.logTo != nil {
		log = telemetry.NewLogger(telemetry.Config{Format: u.logTo.format, Level: telemetry.Level(slog.LevelDebug)}, u.logTo)
		recorder = append(recorder, telemetry.Recorder{Log: log})
	}
	if u.clock == nil {
		u.clock = filters.SystemClock{}
	}
	var addresses []string
	if len(u.backends) == 0 {
		u.backends = []backendtest.Behaviour{{}}
	}
	for i := range u.backends {
		if u.backends[i].Deliver = h.ledger.deliver; u.deliver != nil {
			u.backends[i].Deliver = u.deliver
		}
		addresses = append(addresses, h.addBackend(u.backends[i], u.relayed))
	}
	c, problems := config.Parse("gatepost.yaml", []byte(s.file(u, addresses)), all.Specs())
	if c == nil {
		t.Fatal(problems)
	}
	env := filters.Env{Hostname: c.Hostname, Domains: c.Domains, Resolver: s.resolver, Store: s.store, Clock: u.clock, Log: log}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	engine := h.compile(c, env)
	stopEngine := runUntil(ctx, &running, engine.Run)
	openGroup := func() (*backend.Group, func()) {
		group, err := backend.New(c.Backend, backend.Options{Hostname: c.Hostname, Log: log, Clock: u.clock, DomainsConfigured: len(c.Domains) > 0})
		if err != nil {
			t.Fatal(err)
		}
		return group, runUntil(ctx, &running, group.Run)
	}
	group, stopGroup := openGroup()
	h.group = group
	spill, err := front.NewSpill(t.TempDir(), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	h.spill = &fickleSpill{Spill: spill}
	service := proxy.Service{
		Hostname: c.Hostname, Engine: engine, Backend: h.group, Limits: c.Limits, LineEndings: c.LineEndings,
		Duplicates: c.Duplicates, Store: s.store, Retired: func() { stopEngine(); stopGroup() },
		Runtime: &policy.Runtime{Recorder: recorder, Bypass: &policy.Bypass{}, Clock: u.clock},
		Hold:    time.Duration(c.Backend.Hold), TraceField: c.Backend.ClientAddress == backend.NoAddress,
	}
	if u.hold > 0 {
		service.Hold = u.hold // shorter than a configuration may say
	}
	if h.server, err = proxy.New(proxy.Options{Service: service, Spill: h.spill, Log: log, Clock: u.clock}); err != nil {
		t.Fatal(err)
	}
	h.reload = func() {
		group, stopGroup := openGroup()
		<-group.Probed()
		if !group.Seen() {
			stopGroup()
			return
		}
		next := h.compile(c, env)
		next.Adopt(engine)
		engine = next
		stopEngine := runUntil(ctx, &running, next.Run)
		service.Engine, service.Backend = next, group
		service.Retired = func() { stopEngine(); stopGroup() }
		if err := h.server.Reload(service, nil); err != nil {
			t.Error(err)
		}
	}
	socket, err := c.Listen[0].Bind(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if u.wrap != nil {
		socket.Listener = u.wrap(socket.Listener)
	}
	running.Go(func() {
		if err := h.server.Serve(ctx, socket); err != nil {
			t.Error(err)
		}
	})
	h.address = socket.Addr().String()
	if u.relayed {
		front := newRelay(t, h.address, fromClient, toClient, &h.plan)
		h.relays = append([]*relay{front}, h.relays...)
		h.address = front.address()
	}
	if !u.tolerant {
		<-h.group.Probed()
	}
	h.stop = func() {
		h.shutDown(u.dirty)
		cancel()
		running.Wait()
		h.tearDown(u.dirty)
	}
	return h
}

func (h *house) compile(c *config.Config, env filters.Env) *policy.Engine {
	h.t.Helper()
	engine, problems := c.Compile(all.Specs(), env)
	if engine == nil {
		h.t.Fatal(problems)
	}
	return engine
}

// runUntil runs what ends with ctx, or by stop.
func runUntil(ctx context.Context, running *sync.WaitGroup, run func(context.Context)) (stop func()) {
	ctx, stop = context.WithCancel(ctx)
	running.Go(func() { run(ctx) })
	return stop
}

func (h *house) addBackend(b backendtest.Behaviour, relayed bool) (address string) {
	server, err := backendtest.Start(b)
	if err != nil {
		h.t.Fatal(err)
	}
	h.backends = append(h.backends, server)
	if !relayed {
		return server.Address()
	}
	r := newRelay(h.t, server.Address(), toBackend, fromBackend, &h.plan)
	h.relays = append(h.relays, r)
	return r.address()
}

// file is the configuration. Time-outs are as short as they may be.
func (s *site) file(u setup, backends []string) string {
	patience := u.patience
	if patience == 0 {
		patience = time.Second
	}
	if u.rules == "" {
		u.rules = usualRules
	}
	return fmt.Sprintf(`
hostname: mx.test
domains: [example.com]
listen: [{address: "127.0.0.1:0", certificate: %s}]
backend:
  address: [%s]
  command_timeout: %[7]s
  block_timeout: %[7]s
  final_timeout: %[7]s
  connect_timeout: %[7]s
  hold: 1s
%[3]s
filters:
  earlytalker: {enabled: false}
  ratelimit: {enabled: false}
  spf: {timeout: 500ms}
  rdns: {timeout: 500ms}
  helo: {timeout: 500ms}
limits:
  connections_per_client: 0
  message_memory: 16KiB
  command_timeout: %[4]s
  data_timeout: %[4]s
  message_timeout: %[8]s
  handshake_timeout: %[4]s
  greeting_budget: %[7]s
  envelope_budget: %[7]s
  message_budget: %[7]s
%[5]s
rules:
%[6]s`, s.certificate, strings.Join(backends, ", "), u.backend, patience, u.extra, u.rules, max(u.work, time.Second), max(u.work, 5*time.Second))
}

// waitIdle waits until no session is open.
func (h *house) waitIdle() error {
	for limit := time.Now().Add(15 * time.Second); h.server.Metrics().Open.Load() > 0; time.Sleep(100 * time.Microsecond) {
		if time.Now().After(limit) {
			return fmt.Errorf("%d sessions do not end", h.server.Metrics().Open.Load())
		}
	}
	if n := h.spill.open.Load(); n != 0 {
		return fmt.Errorf("%d spill files are left", n)
	}
	return nil
}

func (h *house) shutDown(dirty bool) {
	patience := 10 * time.Second
	if dirty {
		patience = 100 * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := h.server.Shutdown(ctx); err != nil && !(dirty && errors.Is(err, context.DeadlineExceeded)) {
		h.t.Errorf("shutdown: %v", err)
	}
}

// tearDown closes the rest, and looks for what is left. Who comes while the proxy ends is turned away without a record.
func (h *house) tearDown(dirty bool) {
	if err := h.waitIdle(); err != nil {
		h.t.Error(err)
	}
	for i, r := range h.relays {
		// The proxy has closed its end: what is still there was left open by it.
		if i > 0 && !r.settles() {
			h.t.Errorf("%d connections to a backend are left", r.open())
		}
		r.close()
	}
	for _, b := range h.backends {
		b.Close()
	}
	m := h.server.Metrics()
	if n := m.Panics.Load(); n != 0 {
		h.t.Errorf("%d panics", n)
	}
	if n := h.spill.Spill.(*front.Spill).Used(); n != 0 {
		h.t.Errorf("%d bytes of spill are still claimed", n)
	}
	if sessions, records := m.Sessions.Load(), h.ledger.sessionRecords(); sessions != records && !(dirty && sessions > records) {
		h.t.Errorf("%d sessions, %d records of them", sessions, records)
	}
}

// settles waits until no connection is open.
func (r *relay) settles() bool {
	for limit := time.Now().Add(2 * time.Second); r.open() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			return false
		}
	}
	return true
}
