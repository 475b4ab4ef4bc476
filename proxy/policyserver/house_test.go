package policyserver

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
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
	"gatepost/proxy/called/calledtest"
	"gatepost/rules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// setup says what a test's policy server is like.
type setup struct {
	domains []string // nil: example.org
	trusted []string
	rules   []rules.Definition
	zone    *filtertest.Zone
	limits  func(*proxy.Limits)
	journal calledtest.Journal
	dirty   bool // the test makes it panic, or be killed
}

// house is a policy server that runs.
type house struct {
	t       testing.TB
	server  *Server
	address string
	journal *calledtest.Journal
	clock   *filtertest.Clock
	service called.Service
	log     *bytes.Buffer // read it behind the end only
}

func compile(t testing.TB, u *setup) (*policy.Engine, *filtertest.Clock) {
	t.Helper()
	if u.domains == nil {
		u.domains = []string{"example.org"}
	}
	p := calledtest.Policy{Domains: u.domains, Trusted: u.trusted, Specs: all.Specs(), Rules: u.rules, Zone: u.zone}
	return calledtest.Compile(t, p)
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
	h.service = called.Service{Hostname: calledtest.Hostname, Engine: engine, Limits: limits, Runtime: &policy.Runtime{Recorder: h.journal, Clock: filters.SystemClock{}}}
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
	socket, err := l.Bind(ctx, nil)
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

var rule = calledtest.Rule

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
	p, err := h.dial()
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { p.conn.Close() })
	return p
}

func (h *house) dial() (*postfix, error) {
	conn, err := net.Dial("unix", h.address)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return &postfix{t: h.t, conn: conn, in: bufio.NewReader(conn), a: map[string]string{
		"request": "smtpd_access_policy", "client_address": "192.0.2.77", "client_name": "unknown", "reverse_client_name": "unknown",
		"client_port": "40000", "server_port": "25", "protocol_name": "ESMTP", "helo_name": "client.test", "recipient_count": "0", "size": "0",
		"sasl_username": "", "encryption_protocol": "", "ccert_subject": "", "queue_id": "", "instance": "",
	}}, nil
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
	action, err := p.request(state)
	if err != nil {
		p.t.Fatal(err)
	}
	return action
}

func (p *postfix) request(state string) (string, error) {
	var b strings.Builder
	p.a["protocol_state"] = state
	for name, value := range p.a {
		fmt.Fprintf(&b, "%s=%s\n", name, value)
	}
	b.WriteString("\n")
	if _, err := p.conn.Write([]byte(b.String())); err != nil {
		return "", err
	}
	line, err := p.in.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("no answer: %w", err)
	}
	if empty, err := p.in.ReadString('\n'); err != nil || empty != "\n" {
		return "", fmt.Errorf("behind %q comes %q, %v", line, empty, err)
	}
	action, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "action=")
	if !ok {
		return "", fmt.Errorf("%q is no action", line)
	}
	return action, nil
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
