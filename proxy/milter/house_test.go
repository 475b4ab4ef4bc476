package milter

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	"gatepost/policy"
	"gatepost/proxy"
	"gatepost/proxy/called"
	"gatepost/proxy/called/calledtest"
	"gatepost/proxy/front"
	"gatepost/rules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type safeBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// setup says what a test's milter is like; the zero value has no rules and no filters.
type setup struct {
	domains []string
	trusted []string
	specs   []filters.Spec
	zone    *filtertest.Zone
	rules   []rules.Definition
	limits  func(*proxy.Limits)
	listen  Listen
	dirty   bool // the test makes it panic, or be killed
	spill   int64
}

// house is a milter that runs.
type house struct {
	t       testing.TB
	server  *Server
	network string
	address string
	journal *calledtest.Journal
	log     *safeBuffer
	spill   *front.Spill
	service called.Service
}

func compile(t testing.TB, u setup) *policy.Engine {
	t.Helper()
	engine, _ := calledtest.Compile(t, calledtest.Policy{Domains: u.domains, Trusted: u.trusted, Specs: u.specs, Rules: u.rules, Zone: u.zone})
	return engine
}

// start runs a milter on a UNIX socket until the test ends.
func start(t testing.TB, u setup) *house {
	t.Helper()
	h := &house{t: t, journal: &calledtest.Journal{}, log: &safeBuffer{}}
	log := slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	limits := proxy.DefaultLimits()
	if u.limits != nil {
		u.limits(&limits)
	}
	if u.spill == 0 {
		u.spill = 1 << 30
	}
	var err error
	if h.spill, err = front.NewSpill(t.TempDir(), u.spill); err != nil {
		t.Fatal(err)
	}
	h.service = called.Service{Hostname: calledtest.Hostname, Engine: compile(t, u), Limits: limits,
		Runtime: &policy.Runtime{Recorder: h.journal, Clock: filters.SystemClock{}}}
	h.server, err = New(Options{Service: h.service, Spill: h.spill, Log: log, Clock: filters.SystemClock{}})
	if err != nil {
		t.Fatal(err)
	}
	if u.listen.SetDefaults(); u.listen.Address == "" {
		u.listen.Address = "unix:" + filepath.Join(t.TempDir(), "milter.sock")
	}
	ctx, cancel := context.WithCancel(context.Background())
	socket, err := u.listen.Bind(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	h.network, h.address = socket.Addr().Network(), socket.Addr().String()
	var running sync.WaitGroup
	running.Go(func() { h.server.Serve(ctx, socket) })
	t.Cleanup(func() {
		stop, done := context.WithTimeout(context.Background(), 5*time.Second)
		defer done()
		if err := h.server.Shutdown(stop); err != nil && !u.dirty {
			t.Errorf("shutdown: %v", err)
		}
		cancel()
		running.Wait()
		m := h.server.Metrics()
		if m.Open.Load() != 0 || h.server.memory.Used() != 0 || h.spill.Used() != 0 {
			t.Errorf("left: %d sessions, %d bytes of memory, %d of files", m.Open.Load(), h.server.memory.Used(), h.spill.Used())
		}
		if n := m.Panics.Load(); n != 0 && !u.dirty {
			t.Errorf("%d panics", n)
		}
		if t.Failed() {
			t.Logf("log:\n%s", h.log)
		}
	})
	return h
}

var rule = calledtest.Rule
