package backend

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/proxy/backend/backendtest"
)

func TestConnectionsAreBounded(t *testing.T) {
	s := start(t, backendtest.Behaviour{})
	g, _ := newGroup(t, func(c *Config) { c.Connections = 2 }, s)
	a, b := dial(t, g, testClient()), dial(t, g, testClient())
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	_, err := g.Dial(ctx, testClient())
	wantError(t, err, "all 2 connections are in use", "backend.connections")
	if !errors.Is(err, context.DeadlineExceeded) || g.servers[0].down() {
		t.Errorf("%v; down %v", err, g.servers[0].down())
	}

	got := make(chan *Conn)
	go func() {
		c, err := g.Dial(testContext(t), testClient())
		if err != nil {
			t.Error(err)
		}
		got <- c
	}()
	eventually(t, "a session waits", func() bool {
		g.servers[0].pool.mu.Lock()
		defer g.servers[0].pool.mu.Unlock()
		return g.servers[0].pool.waiting.Len() == 1
	})
	ask(t, a, "NOOP", 250)
	a.Release()
	c := <-got
	ask(t, c, "NOOP", 250)
	b.Close()
	c.Close()
	if open := g.servers[0].pool.open; open != 0 {
		t.Errorf("%d connections are counted as open", open)
	}
}

func TestNobodyLosesAPlaceInTheQueue(t *testing.T) {
	s := start(t, backendtest.Behaviour{})
	g, _ := newGroup(t, func(c *Config) { c.Connections = 3 }, s)
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			for k := range 5 {
				patience := 20 * time.Second
				if (i+k)%3 == 0 {
					patience = time.Duration(i) * time.Millisecond / 4
				}
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				c, err := g.Dial(ctx, testClient())
				if err == nil {
					c.Queue([]byte("NOOP"))
					c.Reply(ctx)
					if k%2 == 0 {
						c.Release()
					}
					c.Close()
				}
				cancel()
			}
		})
	}
	wg.Wait()
	p := &g.servers[0].pool
	if p.open != len(p.idle) || p.open > 3 || p.waiting.Len() != 0 {
		t.Errorf("%d open, %d idle, %d waiting", p.open, len(p.idle), p.waiting.Len())
	}
}

func TestKeptConnectionServesTheNextClient(t *testing.T) {
	for _, address := range []ClientAddress{XClient, NoAddress} {
		t.Run(string(address), func(t *testing.T) {
			s := start(t, backendtest.Behaviour{})
			g, _ := newGroup(t, func(c *Config) { c.ClientAddress = address }, s)
			c := dial(t, g, testClient())
			envelope(t, c) // left open: RSET must go first
			c.Release()

			other := Client{Addr: client6, Local: local6, Helo: "other.example.net", Extended: true}
			c = dial(t, g, other)
			if !c.kept {
				t.Fatal("not kept")
			}
			transact(t, c, message("x\r\n"))
			c.Release()
			m := onlyMessage(t, s)
			if len(s.Sessions()) != 1 {
				t.Errorf("%d sessions", len(s.Sessions()))
			}
			if address == XClient && (m.Client != client6 || m.ClientName != "" || m.Helo != "other.example.net") {
				t.Errorf("the backend saw %v %q %q", m.Client, m.ClientName, m.Helo)
			}
		})
	}
}

func TestConnectionsThatAreNotKept(t *testing.T) {
	errorReply := answering("VRFY", "550 5.1.1 no")
	for name, test := range map[string]struct {
		b      backendtest.Behaviour
		change func(*Config)
		client func(*Client)
		before func(t *testing.T, c *Conn)
	}{
		"XCLIENT only once": {b: backendtest.Behaviour{XClient: backendtest.XClientOnce}},
		"PROXY":             {b: backendtest.Behaviour{Proxy: backendtest.ProxyV2}, change: func(c *Config) { c.ClientAddress = ProxyV2 }},
		"reuse off":         {change: func(c *Config) { c.Reuse = false }},
		"authenticated":     {client: func(c *Client) { c.Login = "user" }},
		"many errors": {b: backendtest.Behaviour{Answer: errorReply}, before: func(t *testing.T, c *Conn) {
			for range maxErrors {
				ask(t, c, "VRFY x", 550)
			}
		}},
		"AUTH": {b: backendtest.Behaviour{Answer: answering("auth", "235 2.7.0 welcome")}, before: func(t *testing.T, c *Conn) {
			ask(t, c, "auth PLAIN AHUAcA==", 235)
		}},
		"many clients": {before: func(_ *testing.T, c *Conn) { c.link.uses = maxUses }},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, test.b)
			g, _ := newGroup(t, test.change, s)
			client := testClient()
			if test.client != nil {
				test.client(&client)
			}
			c := dial(t, g, client)
			if test.before != nil {
				test.before(t, c)
			}
			transact(t, c, message("x\r\n"))
			c.Release()
			eventually(t, "QUIT has come", func() bool { return strings.Contains(transcript(s), "0 QUIT") })
			if c := dial(t, g, client); c.kept {
				t.Error("kept")
			}
		})
	}
}

// A login, which XCLIENT hands over, does not outlive its client.
func TestLoginReachesTheBackendOnce(t *testing.T) {
	s := start(t, backendtest.Behaviour{})
	g, _ := newGroup(t, nil, s)
	client := testClient()
	client.Login = "user"
	for _, cl := range []Client{client, testClient()} {
		c := dial(t, g, cl)
		transact(t, c, message("x\r\n"))
		c.Release()
	}
	if m := s.Messages(); m[0].Login != "user" || m[1].Login != "" {
		t.Errorf("logins %q, %q", m[0].Login, m[1].Login)
	}
}

func TestDeadKeptConnections(t *testing.T) {
	t.Run("seen before use", func(t *testing.T) {
		s := start(t, backendtest.Behaviour{})
		g, _ := newGroup(t, nil, s)
		c := dial(t, g, testClient())
		ask(t, c, "NOOP", 250)
		c.Release()
		s.CloseSessions()
		eventually(t, "the end has arrived", func() bool { return !g.servers[0].pool.idle[0].alive() })
		if c := dial(t, g, testClient()); c.kept {
			t.Error("a dead connection was used")
		}
	})
	for name, keywords := range map[string][]string{"seen in use": nil, "seen in use, lock-step": lockStepKeywords} {
		t.Run(name, func(t *testing.T) {
			var hangup atomic.Bool
			s := start(t, backendtest.Behaviour{Keywords: keywords, Answer: func(sess *backendtest.Session, line string) string {
				if strings.HasPrefix(line, "XCLIENT") && hangup.CompareAndSwap(true, false) {
					return backendtest.Hangup
				}
				return ""
			}})
			g, logs := newGroup(t, nil, s)
			c := dial(t, g, testClient())
			ask(t, c, "NOOP", 250)
			c.Release()
			hangup.Store(true)
			c = dial(t, g, testClient())
			if eager && keywords == nil {
				if _, err := c.Command(testContext(t), []byte("MAIL FROM:<>")); err == nil {
					t.Fatal("MAIL was answered")
				}
				var err error
				if c, err = g.DialNext(testContext(t), testClient(), c); err != nil {
					t.Fatal(err)
				}
			}
			if c.kept || hangup.Load() { // the same backend, on a new connection
				t.Error("the dead connection was not used, or is used still")
			}
			transact(t, c, message("x\r\n"))
			if logs.String() != "" {
				t.Errorf("the backend was blamed: %s", logs)
			}
		})
	}
	t.Run("too old", func(t *testing.T) {
		s := start(t, backendtest.Behaviour{})
		g, _ := newGroup(t, nil, s)
		clock := useClock(g)
		c := dial(t, g, testClient())
		ask(t, c, "NOOP", 250)
		c.Release()
		clock.advance(maxIdle)
		g.servers[0].pool.expire(clock.Now())
		eventually(t, "QUIT has come", func() bool { return strings.Contains(transcript(s), "QUIT") })
		if open := g.servers[0].pool.open; open != 0 {
			t.Errorf("%d open", open)
		}
	})
}
