package milter

import (
	"bytes"
	"context"
	"io/fs"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	"gatepost/policy"
	"gatepost/proxy"
	"gatepost/proxy/called"
	"gatepost/proxy/front"
	"gatepost/rules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// journal keeps what gates record.
type journal struct {
	panics atomic.Bool // with every record of a transaction

	mu      sync.Mutex // guards records
	records []*policy.Record
}

func (j *journal) Record(r *policy.Record) {
	if j.panics.Load() && r.Kind == policy.TransactionRecord {
		panic("as the test wants it")
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.records = append(j.records, r)
}

// await waits for n records of a kind.
func (j *journal) await(t testing.TB, kind string, n int) []*policy.Record {
	t.Helper()
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		var list []*policy.Record
		j.mu.Lock()
		for _, r := range j.records {
			if r.Kind == kind {
				list = append(list, r)
			}
		}
		j.mu.Unlock()
		if len(list) >= n {
			return list
		}
		if time.Now().After(limit) {
			t.Fatalf("%d records of a %s, want %d", len(list), kind, n)
		}
	}
}

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
	journal *journal
	log     *safeBuffer
	spill   *front.Spill
	service called.Service
}

type noLists struct{}

func (noLists) ReadList(string) ([]byte, error) { return nil, fs.ErrNotExist }

func compile(t testing.TB, u setup) *policy.Engine {
	t.Helper()
	config := policy.Config{Hostname: "mx.test", Domains: u.domains, Rules: u.rules}
	for _, p := range u.trusted {
		config.Trusted = append(config.Trusted, netip.MustParsePrefix(p))
	}
	env := filtertest.NewEnv(filtertest.NewZone())
	env.Hostname, env.Domains = "mx.test", u.domains
	engine, problems := policy.Compile(config, u.specs, env, noLists{})
	if engine == nil {
		t.Fatalf("policy does not compile: %v", problems)
	}
	return engine
}

// start runs a milter on a UNIX socket until the test ends.
func start(t testing.TB, u setup) *house {
	t.Helper()
	h := &house{t: t, journal: &journal{}, log: &safeBuffer{}}
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
	h.service = called.Service{Hostname: "mx.test", Engine: compile(t, u), Limits: limits,
		Runtime: &policy.Runtime{Recorder: h.journal, Clock: filters.SystemClock{}}}
	h.server, err = New(Options{Service: h.service, Spill: h.spill, Log: log, Clock: filters.SystemClock{}})
	if err != nil {
		t.Fatal(err)
	}
	if u.listen.SetDefaults(); u.listen.Address == "" {
		u.listen.Address = "unix:" + filepath.Join(t.TempDir(), "milter.sock")
	}
	ctx, cancel := context.WithCancel(context.Background())
	socket, err := u.listen.Bind(ctx)
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

// rule makes a definition from name, condition, action and further keys in turn.
func rule(name, when, then string, more ...string) rules.Definition {
	r := map[string]string{"name": name, "when": when, "then": then}
	for i := 0; i+1 < len(more); i += 2 {
		r[more[i]] = more[i+1]
	}
	return definition(r)
}

func definition(r map[string]string) rules.Definition {
	source := func(key string) rules.Source {
		return rules.Source{Text: r[key], At: func(int) rules.Pos { return rules.Pos{File: "test", Line: 1, Column: 1} }}
	}
	return rules.Definition{Name: source("name"), When: source("when"), Then: source("then"), Reply: source("reply"),
		At: source("at"), Mode: source("mode"), OnError: source("on_error"), Header: source("header"), Points: source("points"),
		Delay: source("delay"), Keep: source("keep")}
}

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }
