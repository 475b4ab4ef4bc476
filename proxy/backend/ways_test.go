package backend

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gatepost/proxy/backend/backendtest"
)

// What MTAs do beside taking mail, each as a script.

// OpenSMTPD answers 503 to an EHLO behind another, unless STARTTLS came between.
func TestBackendThatTakesOneEHLO(t *testing.T) {
	config, _ := certificate(t)
	for _, address := range []ClientAddress{XClient, ProxyV2, NoAddress} {
		for _, mode := range []TLSMode{TLSNone, TLSOpportunistic, TLSRequired} {
			for _, offered := range []bool{true, false} {
				for _, extended := range []bool{true, false} {
					if mode == TLSRequired && !offered {
						continue
					}
					t.Run(fmt.Sprintf("%s TLS %s offered %v EHLO %v", address, mode, offered, extended), func(t *testing.T) {
						b := backendtest.Behaviour{OneHello: true, LockStep: true, Keywords: lockStepKeywords}
						if address == ProxyV2 {
							b.Proxy = backendtest.ProxyV2
						}
						if offered {
							b.TLS = config
						}
						s := start(t, b)
						g, logs := newGroup(t, func(c *Config) { c.ClientAddress, c.TLS = address, mode }, s)
						run(t, g)
						client := testClient()
						client.Extended = extended
						for range 2 {
							c := dial(t, g, client)
							transact(t, c, message("x\r\n"))
							c.Release()
						}
						for _, m := range s.Messages() {
							if address != NoAddress && (m.Client != client4 || m.Helo != client.Helo) || m.TLS != (offered && mode != TLSNone) {
								t.Errorf("client %v %q, TLS %v", m.Client, m.Helo, m.TLS)
							}
						}
						if len(s.Messages()) != 2 || strings.Contains(logs.String(), "out of order") {
							t.Errorf("%d messages, log: %s", len(s.Messages()), logs)
						}
					})
				}
			}
		}
	}
}

// sendmail answers 421 in the middle of a message, OpenSMTPD 500, and both hang up. A small message has left whole by then.
func TestUnsolicitedReplyBeforeTheDot(t *testing.T) {
	for _, reply := range []string{"421 4.5.0 bare LF", "500 5.5.1 Line too long"} {
		for name, keywords := range map[string][]string{"BDAT": nil, "DATA": dataKeywords} {
			for _, size := range []int{10, 20_000, 500_000} {
				t.Run(fmt.Sprintf("%s %s %d", reply[:3], name, size), func(t *testing.T) {
					s := start(t, backendtest.Behaviour{Keywords: keywords,
						During: func(*backendtest.Session, int64) string { return reply + backendtest.Hangup }})
					g, _ := newGroup(t, nil, s)
					c := dial(t, g, testClient())
					envelope(t, c)
					r, dotSent, err := c.SendMessage(testContext(t), message(strings.Repeat("0123456789abcde\r\n", size/17+1)), 0)
					if r.Class() == 2 {
						t.Fatal(r)
					}
					if err == nil && r.String() != reply || err != nil && !dotSent && size < 100_000 {
						t.Errorf("%s, dotSent %v, %v", r, dotSent, err)
					}
					c.Release()
					askOnAny(t, g, "MAIL FROM:<>")
				})
			}
		}
	}
}

// askOnAny says a line on a new session; it goes on to another where the first turns out to be dead, as callers do.
func askOnAny(t *testing.T, g *Group, line string) *Conn {
	t.Helper()
	c := dial(t, g, testClient())
	if _, err := c.Command(testContext(t), []byte(line)); err == nil {
		return c
	}
	c, err := g.DialNext(testContext(t), testClient(), c)
	if err != nil {
		t.Fatal(err)
	}
	ask(t, c, line, 250)
	return c
}

// A kept connection that ends with 421 where RSET was to be answered is no trouble of the backend, nor of the next client.
func TestKeptConnectionThatSays421(t *testing.T) {
	s := start(t, backendtest.Behaviour{Answer: answering("RSET", "250 2.0.0 Ok\r\n421 4.4.2 idle"+backendtest.Hangup)})
	g, logs := newGroup(t, nil, s)
	c := dial(t, g, testClient())
	envelope(t, c)
	c.Release()
	for range 20 { // the 421 may not have come yet
		askOnAny(t, g, "MAIL FROM:<>").Release()
	}
	if logs.String() != "" {
		t.Errorf("the backend was blamed: %s", logs)
	}
}

// Courier answers every refusal later than the one before. That is waited for as long as the caller has time, and a
// reply that comes too late is never taken for the one to another command.
func TestBackendThatIsSlowOnPurpose(t *testing.T) {
	b := backendtest.Behaviour{Pause: 4 * time.Millisecond, Mailboxes: []string{"b@example.net"}}
	s := start(t, b)
	g, logs := newGroup(t, nil, s)
	c := dial(t, g, testClient())
	ask(t, c, "MAIL FROM:<>", 250)
	for range 4 {
		ask(t, c, "RCPT TO:<unknown@example.net>", 550)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	c.Queue([]byte("RCPT TO:<unknown@example.net>")) // the answer takes 64 ms
	c.Queue([]byte("RCPT TO:<b@example.net>"))
	_, err := c.Reply(ctx)
	wantError(t, err, "RCPT", "no answer in time")
	if _, err := c.Reply(testContext(t)); err == nil {
		t.Error("a reply that came too late was used")
	}
	if _, err = g.DialNext(testContext(t), testClient(), c); err == nil {
		t.Fatal("there is no other backend")
	}
	c = dial(t, g, testClient())
	transact(t, c, message("x\r\n"))
	if len(s.Sessions()) != 2 || logs.String() != "" {
		t.Errorf("%d sessions, log: %s", len(s.Sessions()), logs)
	}
}

// Exim hangs up at the eleventh command in a row that does not belong to a message. A connection that is kept is given up
// before; a client that brings it about by itself costs only its own session.
func TestBackendThatLimitsOtherCommands(t *testing.T) {
	for _, address := range []ClientAddress{NoAddress, XClient} {
		s := start(t, backendtest.Behaviour{MaxNonMail: 10})
		g, logs := newGroup(t, func(c *Config) { c.ClientAddress = address }, s)
		for n := range 40 {
			c := dial(t, g, testClient())
			envelope(t, c)
			if n%20 == 0 {
				send(t, c, message("x\r\n"))
			}
			c.Release()
		}
		if n := len(s.Sessions()); n < 3 || n > 14 {
			t.Errorf("%s: %d sessions for 40 clients", address, n)
		}
		c := dial(t, g, testClient())
		var err error
		for n := 0; err == nil; n++ {
			if n > 20 {
				t.Fatal("no limit was met")
			}
			_, err = c.Command(testContext(t), []byte("RSET"))
		}
		c = dial(t, g, testClient())
		transact(t, c, message("x\r\n"))
		if logs.String() != "" {
			t.Errorf("the backend was blamed: %s", logs)
		}
	}
}

// A backend that turns connections away, with 421 (Exim, smtp_accept_max) or without a word (Courier, MAXPERIP), gets no
// more than it takes: others of ours are waited for, or the next backend is used.
func TestBackendThatLimitsConnections(t *testing.T) {
	for name, words := range map[string]string{"421": "421 Too many concurrent SMTP connections; please try again later.", "without a word": ""} {
		t.Run(name, func(t *testing.T) {
			b := backendtest.Behaviour{MaxSessions: 3, TooMany: words}
			s := start(t, b)
			g, logs := newGroup(t, nil, s)
			clock := useClock(g)
			began := time.Now()
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					c, err := g.Dial(testContext(t), testClient())
					if err != nil {
						t.Error(err)
						return
					}
					c.Queue([]byte("NOOP"))
					if r, err := c.Reply(testContext(t)); err != nil || r.Code != 250 {
						t.Error(r, err)
					}
					time.Sleep(5 * time.Millisecond) // so that there are many at a time
					c.Close()
				})
			}
			wg.Wait()
			if strings.Contains(logs.String(), "out of order") {
				t.Errorf("log: %s", logs)
			}
			// All but three are turned away once. Then each of three places may be asked for too early, by one client a pause.
			early := 3 * int(time.Since(began)/(turnedAwayPause*4/5))
			if n := len(s.Sessions()); n > 20+17+3+early {
				t.Errorf("%d connections for 20 clients, %d of them may have come too early", n, early)
			}

			eventually(t, "the last session has ended", func() bool { return s.Open() == 0 })
			clock.advance(2 * shrunk)
			held := make([]*Conn, 3)
			for i := range held {
				held[i] = dial(t, g, testClient())
				ask(t, held[i], "NOOP", 250)
			}
			wantError(t, dialUntilItWaits(t, g), "greeting") // the backend says so
			wantError(t, dialUntilItWaits(t, g), "all 3 connections are in use")
			time.AfterFunc(20*time.Millisecond, held[0].Release)
			c := dial(t, g, testClient())
			ask(t, c, "NOOP", 250)
			for _, c := range append(held[1:], c) {
				c.Close()
			}
			clock.advance(2 * shrunk)
			if p := &g.servers[0].pool; p.open != len(p.idle) || p.waiting.Len() != 0 {
				t.Errorf("%d open, %d idle, %d waiting", p.open, len(p.idle), p.waiting.Len())
			}
		})
		t.Run(name+", two backends", func(t *testing.T) {
			first := start(t, backendtest.Behaviour{MaxSessions: 1, TooMany: words})
			second := start(t, backendtest.Behaviour{})
			g, _ := newGroup(t, nil, first, second)
			a := dial(t, g, testClient())
			ask(t, a, "NOOP", 250)
			if b := dial(t, g, testClient()); a.Address() != first.Address() || b.Address() != second.Address() {
				t.Errorf("went to %s and %s", a.Address(), b.Address())
			}
		})
		t.Run(name+", none of ours", func(t *testing.T) {
			s := start(t, backendtest.Behaviour{Greeting: words + backendtest.Hangup})
			g, logs := newGroup(t, nil, s)
			began := time.Now()
			_, err := g.Dial(testContext(t), testClient())
			if wantError(t, err, "greeting"); time.Since(began) > 5*time.Second || !strings.Contains(logs.String(), "out of order") {
				t.Errorf("%v after %v, log: %s", err, time.Since(began), logs)
			}
		})
	}
}

// dialUntilItWaits gives up when nothing is left but to wait for another of our connections.
func dialUntilItWaits(t *testing.T, g *Group) error {
	t.Helper()
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		_, err := g.Dial(ctx, testClient())
		failed <- err
	}()
	p := &g.servers[0].pool
	eventually(t, "it waits for a connection", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.waiting.Len() > 0
	})
	cancel()
	return <-failed
}

// sendmail executes the part of a command that stands before the end of the stream. So whole lines are written or none,
// however long the backend does not read.
func TestNoPartOfACommandIsLeftBehind(t *testing.T) {
	goOn := make(chan struct{})
	s := start(t, backendtest.Behaviour{RunsPartialLine: true, Answer: func(_ *backendtest.Session, line string) string {
		switch {
		case strings.HasPrefix(line, "MAIL"):
			<-goOn
		case !strings.HasPrefix(line, "RCPT"):
			return ""
		}
		return backendtest.Silence
	}})
	g, _ := newGroup(t, nil, s)
	c := dial(t, g, testClient())
	recipient := "RCPT TO:<" + strings.Repeat("x", 400) + "@example.net>"
	c.Queue([]byte("MAIL FROM:<>"))
	for range 50_000 { // more than any socket buffer takes
		c.Queue([]byte(recipient))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, err := c.Reply(ctx)
	wantError(t, err, "no answer in time")
	close(goOn)
	eventually(t, "the backend has read the rest", func() bool { return s.Sessions()[0].End() != nil })
	s.Close()
	for _, line := range s.Sessions()[0].Lines() {
		if strings.HasPrefix(line, "R") && line != recipient {
			t.Errorf("the backend executed %d bytes of %d: %.40s", len(line), len(recipient), line)
		}
	}
}

// The bound on commands under way does not stop a long batch.
func TestLongBatch(t *testing.T) {
	s := start(t, backendtest.Behaviour{})
	g, _ := newGroup(t, nil, s)
	c := dial(t, g, testClient())
	c.Queue([]byte("MAIL FROM:<>"))
	for i := range 300 {
		c.Queue(fmt.Appendf(nil, "RCPT TO:<%s%d@example.net>", strings.Repeat("x", 200), i))
	}
	c.Queue([]byte("RCPT TO:<" + strings.Repeat("x", 2*maxFlying) + "@example.net>"))
	for range 302 {
		if r, err := c.Reply(testContext(t)); err != nil || r.Code != 250 {
			t.Fatal(r, err)
		}
	}
}

// A message that is given up half-way ends with a reset, which nobody can take for its end.
func TestMessageThatIsGivenUpEndsWithAReset(t *testing.T) {
	config, _ := certificate(t)
	for name, mode := range map[string]TLSMode{"plain": TLSNone, "TLS": TLSRequired} {
		t.Run(name, func(t *testing.T) {
			s := start(t, backendtest.Behaviour{Keywords: dataKeywords, TLS: config})
			g, _ := newGroup(t, func(c *Config) { c.TLS = mode }, s)
			c := dial(t, g, testClient())
			envelope(t, c)
			_, dotSent, err := c.SendMessage(testContext(t), Parts{Body: failing(strings.Repeat("x", 300_000)), Size: 400_000}, 0)
			if dotSent || !errors.Is(err, errSource) {
				t.Fatalf("dotSent %v, %v", dotSent, err)
			}
			eventually(t, "the session has ended", func() bool { return s.Sessions()[0].End() != nil })
			if end := s.Sessions()[0].End(); !errors.Is(end, syscall.ECONNRESET) {
				t.Errorf("the backend saw %v", end)
			}
		})
	}
}
