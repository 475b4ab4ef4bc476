package policyserver

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gatepost/filters"
	"gatepost/filters/all"
	"gatepost/filters/filtertest"
	"gatepost/policy"
	"gatepost/proxy"
	"gatepost/proxy/called"
	"gatepost/rules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// journal keeps what gates record.
type journal struct {
	panics bool // with every record of a transaction

	mu      sync.Mutex // guards records
	records []*policy.Record
}

func (j *journal) Record(r *policy.Record) {
	if j.panics && r.Kind == policy.TransactionRecord {
		panic("as the test wants it")
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.records = append(j.records, r)
}

// await waits for n records of transactions.
func (j *journal) await(t testing.TB, n int) (list []*policy.Record) {
	t.Helper()
	for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit); time.Sleep(time.Millisecond) {
		list = nil
		j.mu.Lock()
		for _, r := range j.records {
			if r.Kind == policy.TransactionRecord {
				list = append(list, r)
			}
		}
		j.mu.Unlock()
		if len(list) >= n {
			return list
		}
	}
	t.Fatalf("%d records, want %d", len(list), n)
	return nil
}

type noLists struct{}

func (noLists) ReadList(string) ([]byte, error) { return nil, fs.ErrNotExist }

// setup says what a test's policy server is like.
type setup struct {
	rules   []rules.Definition
	trusted string
	limits  func(*proxy.Limits)
	journal journal
	dirty   bool // the test makes it panic, or be killed
}

// house is a policy server that runs.
type house struct {
	t       testing.TB
	server  *Server
	address string
	journal *journal
	clock   *filtertest.Clock
	service called.Service
	log     *bytes.Buffer // read it behind the end only
}

func compile(t testing.TB, u *setup) (*policy.Engine, *filtertest.Clock) {
	t.Helper()
	config := policy.Config{Hostname: "mx.test", Domains: []string{"example.org"}, Rules: u.rules}
	env := filtertest.NewEnv(filtertest.NewZone())
	engine, problems := policy.Compile(config, all.Specs(), env, noLists{})
	if engine == nil {
		t.Fatalf("policy does not compile: %v", problems)
	}
	clock, _ := env.Clock.(*filtertest.Clock)
	return engine, clock
}

// start runs a policy server on a UNIX socket until the test ends.
func start(t testing.TB, u *setup) *house {
	t.Helper()
	limits := proxy.DefaultLimits()
	if u.limits != nil {
		u.limits(&limits)
	}
	h := &house{t: t, journal: &u.journal, log: &bytes.Buffer{}}
	engine, clock := compile(t, u)
	h.clock = clock
	h.service = called.Service{Hostname: "mx.test", Engine: engine, Limits: limits, Runtime: &policy.Runtime{Recorder: h.journal, Clock: filters.SystemClock{}}}
	var err error
	h.server, err = New(Options{Service: h.service, Log: slog.New(slog.NewTextHandler(h.log, nil)), Clock: filters.SystemClock{}})
	if err != nil {
		t.Fatal(err)
	}
	h.address = filepath.Join(t.TempDir(), "policy.sock")
	l := Listen{}
	l.SetDefaults()
	l.Address = "unix:" + h.address
	ctx, cancel := context.WithCancel(context.Background())
	socket, err := l.Bind(ctx)
	if err != nil {
		t.Fatal(err)
	}
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
		if m.Open.Load() != 0 || m.Panics.Load() != 0 && !u.dirty {
			t.Errorf("left: %d sessions, %d panics", m.Open.Load(), m.Panics.Load())
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
	source := func(key string) rules.Source {
		return rules.Source{Text: r[key], At: func(int) rules.Pos { return rules.Pos{File: "test", Line: 1, Column: 1} }}
	}
	return rules.Definition{Name: source("name"), When: source("when"), Then: source("then"), Reply: source("reply"),
		At: source("at"), Mode: source("mode"), OnError: source("on_error"), Header: source("header"), Points: source("points"),
		Delay: source("delay"), Keep: source("keep")}
}

// postfix asks as an smtpd process does.
type postfix struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
	a    map[string]string
	seq  int
}

func (h *house) postfix() *postfix {
	h.t.Helper()
	conn, err := net.Dial("unix", h.address)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return &postfix{t: h.t, conn: conn, in: bufio.NewReader(conn), a: map[string]string{
		"request": "smtpd_access_policy", "client_address": "192.0.2.77", "client_name": "unknown", "reverse_client_name": "unknown",
		"client_port": "40000", "server_port": "25", "protocol_name": "ESMTP", "helo_name": "client.test", "recipient_count": "0", "size": "0",
		"sasl_username": "", "encryption_protocol": "", "ccert_subject": "", "queue_id": "", "instance": "",
	}}
}

// mail is MAIL, which Postfix asks about with smtpd_delay_reject = no only: then `instance` is still the last one's.
func (p *postfix) mail(from string) {
	p.a["sender"] = from
	p.seq++
	p.a["instance"] = fmt.Sprintf("1a2b.6744.%x.0", p.seq)
}

// ask sends a request and returns the action.
func (p *postfix) ask(state string) string {
	p.t.Helper()
	var b strings.Builder
	p.a["protocol_state"] = state
	for name, value := range p.a {
		fmt.Fprintf(&b, "%s=%s\n", name, value)
	}
	b.WriteString("\n")
	if _, err := p.conn.Write([]byte(b.String())); err != nil {
		p.t.Fatal(err)
	}
	return p.read()
}

func (p *postfix) read() string {
	p.t.Helper()
	line, err := p.in.ReadString('\n')
	if err != nil {
		p.t.Fatalf("no answer: %v", err)
	}
	if empty, err := p.in.ReadString('\n'); err != nil || empty != "\n" {
		p.t.Fatalf("behind %q comes %q, %v", line, empty, err)
	}
	action, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "action=")
	if !ok {
		p.t.Fatalf("%q", line)
	}
	return action
}

// rcpt is RCPT.
func (p *postfix) rcpt(to string) string {
	p.t.Helper()
	p.a["recipient"] = to
	return p.ask("RCPT")
}

// want looks at the beginning of an action.
func (p *postfix) want(want, got string) {
	p.t.Helper()
	if got != want && (!strings.HasPrefix(got, want) || want == "DUNNO") {
		p.t.Errorf("got %q, want %q", got, want)
	}
}
