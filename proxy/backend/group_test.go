package backend

import (
	"context"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/proxy/backend/backendtest"
)

// deadAddress is a port that nobody listens on.
func deadAddress(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// testClock is moved by hand.
type testClock struct {
	mu  sync.Mutex
	now time.Time // guarded by mu
}

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *testClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func useClock(g *Group) *testClock {
	clock := &testClock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	for _, s := range g.servers {
		s.clock = clock
	}
	return clock
}

func TestBackendsAreTriedInOrder(t *testing.T) {
	first, second := start(t, backendtest.Behaviour{}), start(t, backendtest.Behaviour{})
	dead := deadAddress(t)
	g, logs := newGroup(t, func(c *Config) { c.Address = append([]string{dead}, c.Address...) }, first, second)
	clock := useClock(g)
	for range 2 { // the dead one is passed over the second time
		c := dial(t, g, testClient())
		if c.Address() != first.Address() {
			t.Fatalf("went to %s", c.Address())
		}
		c.Close()
	}
	if n := strings.Count(logs.String(), "out of order"); n != 1 || g.servers[0].failures.Load() != 1 {
		t.Errorf("%d failures logged, %d counted:\n%s", n, g.servers[0].failures.Load(), logs)
	}
	clock.advance(maxDown * 2)
	dial(t, g, testClient()).Close()
	if n := g.servers[0].failures.Load(); n != 2 {
		t.Errorf("%d failures: the dead backend was not tried again", n)
	}
	first.Close()
	c := dial(t, g, testClient())
	if c.Address() != second.Address() {
		t.Errorf("went to %s", c.Address())
	}
	second.Close()
	_, err := g.DialNext(testContext(t), testClient(), c)
	wantError(t, err)
	wantError(t, err, dead) // it had been passed over
	if strings.Contains(err.Error(), first.Address()) || strings.Contains(err.Error(), second.Address()) {
		t.Errorf("a backend was tried twice for the same client: %v", err)
	}
	_, err = g.Dial(testContext(t), testClient()) // all are down: all are tried all the same
	for _, address := range []string{dead, first.Address(), second.Address()} {
		wantError(t, err, address)
	}
}

func TestDialNextGoesOn(t *testing.T) {
	hangup := backendtest.Behaviour{Answer: answering("MAIL", backendtest.Hangup)}
	first, second, third := start(t, hangup), start(t, hangup), start(t, backendtest.Behaviour{})
	g, _ := newGroup(t, nil, first, second, third)
	c := dial(t, g, testClient())
	for _, want := range []string{second.Address(), third.Address()} {
		if _, err := c.Command(testContext(t), []byte("MAIL FROM:<>")); err == nil {
			t.Fatal("MAIL was answered")
		}
		var err error
		if c, err = g.DialNext(testContext(t), testClient(), c); err != nil || c.Address() != want {
			t.Fatalf("%v, want %s", err, want)
		}
	}
	transact(t, c, message("x\r\n"))
	if _, err := g.DialNext(testContext(t), testClient(), c); err == nil {
		t.Error("there is no fourth backend")
	}
}

// A hand-over that is refused when it is awaited late counts like any other.
func TestLateRefusalOfHandOver(t *testing.T) {
	var refuse atomic.Bool
	first := start(t, backendtest.Behaviour{Lenient: true, Answer: func(_ *backendtest.Session, line string) string {
		if refuse.Load() && strings.HasPrefix(line, "XCLIENT") {
			return "550 5.7.0 insufficient authorization"
		}
		return ""
	}})
	second := start(t, backendtest.Behaviour{})
	g, logs := newGroup(t, func(c *Config) { c.Eager = true }, first, second)
	dial(t, g, testClient()).Close()
	refuse.Store(true)
	c := dial(t, g, testClient())
	_, err := c.Command(testContext(t), []byte("MAIL FROM:<>"))
	wantError(t, err, "550 5.7.0 insufficient", "smtpd_authorized_xclient_hosts")
	if !strings.Contains(logs.String(), "out of order") {
		t.Errorf("log: %s", logs)
	}
	next, err := g.DialNext(testContext(t), testClient(), c)
	if err != nil || next.Address() != second.Address() {
		t.Fatal(err)
	}
	next.Close()
}

func TestSilentBackendLeavesTimeForTheNext(t *testing.T) {
	first, second := start(t, backendtest.Behaviour{Greeting: backendtest.Stall}), start(t, backendtest.Behaviour{})
	g, _ := newGroup(t, nil, first, second)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	c, err := g.Dial(ctx, testClient())
	if err != nil || c.Address() != second.Address() {
		t.Fatal(err)
	}
	c.Close()
}

func TestExtensionsAreTheIntersection(t *testing.T) {
	first := start(t, backendtest.Behaviour{Keywords: []string{"PIPELINING", "SIZE 2000", "8BITMIME", "SMTPUTF8", "BINARYMIME", "CHUNKING", "HELP"}})
	second := start(t, backendtest.Behaviour{Keywords: []string{"size 1000", "8BitMime", "DSN", "BINARYMIME", "X-NEW"}})
	g, _ := newGroup(t, nil, first, second)
	if _, ok := g.Extensions(); ok || g.Seen() {
		t.Error("nobody was seen yet")
	}
	dial(t, g, testClient())
	e, ok := g.Extensions()
	want := Extensions{Size: 2000, Pipelining: true, EightBit: true, SMTPUTF8: true, BinaryMIME: true, Chunking: true}
	if e.XClient = nil; !ok || !g.Seen() || !e.equal(want) {
		t.Errorf("%+v, want %+v", e, want)
	}
	run(t, g)
	if e, _ := g.Extensions(); !e.equal(Extensions{Size: 1000, EightBit: true}) {
		t.Errorf("%+v", e)
	}
}

func TestBackendThatOffersLessIsPassedOver(t *testing.T) {
	first := start(t, backendtest.Behaviour{Keywords: []string{"PIPELINING", "8BITMIME", "SIZE 1000"}})
	second := start(t, backendtest.Behaviour{})
	g, _ := newGroup(t, nil, first, second)
	run(t, g)
	for _, test := range []struct {
		promised Extensions
		want     string
	}{
		{Extensions{Size: -1}, first.Address()},
		{Extensions{Size: 1000, EightBit: true, Pipelining: true, Chunking: true, EnhancedCodes: true}, first.Address()},
		{Extensions{Size: 1001}, second.Address()},
		{Extensions{Size: -1, SMTPUTF8: true}, second.Address()},
		{Extensions{Size: -1, DSN: true}, second.Address()},
	} {
		client := testClient()
		client.Promised = &test.promised
		g.servers[0].works()
		if c := dial(t, g, client); c.Address() != test.want {
			t.Errorf("%+v: went to %s", test.promised, c.Address())
		}
	}
	client := testClient()
	client.Promised = &Extensions{Size: -1, BinaryMIME: true}
	_, err := g.Dial(testContext(t), client)
	wantError(t, err, "BINARYMIME was promised", "backend.extensions")
}
