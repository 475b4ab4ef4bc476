package backend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gatepost/proxy/backend/backendtest"
)

// eager is what backend.eager is in this round of tests.
var eager bool

// rounds runs all tests twice: with lock-step hand-over and strict backends, and with `eager` and backends that allow it.
type rounds struct{ m *testing.M }

func (r rounds) Run() int {
	for _, eager = range []bool{false, true} {
		if code := r.m.Run(); code != 0 {
			fmt.Println("failed with eager:", eager)
			return code
		}
	}
	return 0
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(rounds{m}) }

var (
	client4 = netip.MustParseAddrPort("203.0.113.7:40001")
	client6 = netip.MustParseAddrPort("[2001:db8::7]:40002")
	local4  = netip.MustParseAddrPort("198.51.100.1:25")
	local6  = netip.MustParseAddrPort("[2001:db8::25]:25")
)

func testClient() Client {
	return Client{Addr: client4, Local: local4, Name: "client.example.org", Helo: "helo.example.org", Extended: true}
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func start(t testing.TB, b backendtest.Behaviour) *backendtest.Server {
	t.Helper()
	b.Lenient = b.Lenient || eager
	s, err := backendtest.Start(b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		if v := s.Violations(); len(v) > 0 && !b.Lenient {
			t.Errorf("the backend complains: %q", v)
		}
	})
	return s
}

// logBuffer collects log lines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newGroup makes a group without a relay check over servers; change alters the configuration.
func newGroup(t testing.TB, change func(*Config), servers ...*backendtest.Server) (*Group, *logBuffer) {
	t.Helper()
	c := Default()
	c.RelayCheck, c.Eager = false, eager
	for _, s := range servers {
		c.Address = append(c.Address, s.Address())
	}
	if change != nil {
		change(&c)
	}
	logs := &logBuffer{}
	g, err := New(c, Options{Hostname: "mx.example.org", DomainsConfigured: true, Log: slog.New(slog.NewTextHandler(logs, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, s := range g.servers {
			s.pool.close()
		}
	})
	return g, logs
}

// run lets the group probe until the test ends and waits for the first round.
func run(t testing.TB, g *Group) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); g.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	select {
	case <-g.Probed():
	case <-time.After(20 * time.Second):
		t.Fatal("no probe within 20s")
	}
}

func dial(t testing.TB, g *Group, c Client) *Conn {
	t.Helper()
	conn, err := g.Dial(testContext(t), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// ask sends a line and expects the code.
func ask(t testing.TB, c *Conn, line string, code int) {
	t.Helper()
	r, err := c.Command(testContext(t), []byte(line))
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	if r.Code != code {
		t.Fatalf("%s: %s, want %d", line, r, code)
	}
}

func message(body string) Parts {
	return Parts{Body: bytes.NewBufferString(body), Size: int64(len(body))}
}

// transact sends a message in a whole transaction.
func transact(t testing.TB, c *Conn, p Parts) {
	t.Helper()
	ask(t, c, "MAIL FROM:<a@example.org>", 250)
	ask(t, c, "RCPT TO:<b@example.net>", 250)
	send(t, c, p)
}

func send(t testing.TB, c *Conn, p Parts) {
	t.Helper()
	r, dotSent, err := c.SendMessage(testContext(t), p, 0)
	if err != nil || r.Code != 250 || !dotSent {
		t.Fatalf("SendMessage: %s, dotSent %v, %v", r, dotSent, err)
	}
}

func onlyMessage(t testing.TB, s *backendtest.Server) *backendtest.Message {
	t.Helper()
	m := s.Messages()
	if len(m) != 1 {
		t.Fatalf("%d messages were delivered, want 1", len(m))
	}
	return m[0]
}

// wantError checks that err is an *Error whose text has all parts.
func wantError(t testing.TB, err error, parts ...string) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *Error", err)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%q does not say %q", err, p)
		}
	}
	return e
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// transcript is the commands of all sessions.
func transcript(s *backendtest.Server) string {
	var b strings.Builder
	for i, sess := range s.Sessions() {
		for _, line := range sess.Lines() {
			fmt.Fprintf(&b, "%d %s\n", i, line)
		}
	}
	return b.String()
}
