package backend

import (
	"context"
	"net/netip"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatepost/proxy/backend/backendtest"
)

// Whoever came before on a kept connection, the backend hears of a client exactly what it would hear on a new one.
func TestNothingOfAnEarlierClientIsLeftOver(t *testing.T) {
	kept, fresh := start(t, backendtest.Behaviour{}), start(t, backendtest.Behaviour{})
	reusing, _ := newGroup(t, nil, kept)
	renewing, _ := newGroup(t, func(c *Config) { c.Reuse = false }, fresh)
	name := rapid.SampledFrom([]string{"", "a.example.org", "b.example.net", Unavailable, "two words"})
	addr := rapid.SampledFrom([]netip.AddrPort{client4, client6, netip.MustParseAddrPort("198.51.100.9:9")})
	local := rapid.SampledFrom([]netip.AddrPort{local4, local6, {}})
	rapid.Check(t, func(rt *rapid.T) {
		for range rapid.IntRange(1, 5).Draw(rt, "clients") {
			client := Client{Addr: addr.Draw(rt, "client"), Local: local.Draw(rt, "local"), Name: name.Draw(rt, "name"),
				ReverseName: name.Draw(rt, "reverse name"), Helo: name.Draw(rt, "helo"), Extended: rapid.Bool().Draw(rt, "EHLO"),
				Login: rapid.SampledFrom([]string{"", "", "", "user"}).Draw(rt, "login")}
			abandons := rapid.Bool().Draw(rt, "abandons")
			for _, g := range []*Group{reusing, renewing} {
				c, err := g.Dial(testContext(t), client)
				if err != nil {
					rt.Fatal(err)
				}
				envelope(t, c)
				if !abandons {
					send(t, c, message("x\r\n"))
				}
				c.Release()
			}
			a, b := kept.Messages(), fresh.Messages()
			if len(a) != len(b) {
				rt.Fatalf("%d and %d messages", len(a), len(b))
			}
			if n := len(a) - 1; n >= 0 && !reflect.DeepEqual(seen(a[n]), seen(b[n])) {
				rt.Fatalf("on a kept connection:\n%+v\non a new one:\n%+v", seen(a[n]), seen(b[n]))
			}
		}
	})
	if k, f := len(kept.Sessions()), len(fresh.Sessions()); k >= f {
		t.Errorf("%d sessions with reuse, %d without", k, f)
	}
}

// seen is what a backend knows of a message's client.
func seen(m *backendtest.Message) backendtest.Message {
	return backendtest.Message{Client: m.Client, ClientName: m.ClientName, Helo: m.Helo, Extended: m.Extended, Login: m.Login,
		Attributes: m.Attributes, From: m.From, To: m.To}
}

func TestConnectionIsNotKeptAfterATimeout(t *testing.T) {
	s := start(t, backendtest.Behaviour{Answer: answering("RCPT TO:<slow", backendtest.Stall)})
	g, _ := newGroup(t, nil, s)
	c := dial(t, g, testClient())
	ask(t, c, "MAIL FROM:<>", 250)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Command(ctx, []byte("RCPT TO:<slow@example.net>")); err == nil {
		t.Fatal("it was answered")
	}
	c.Release()
	if c := dial(t, g, testClient()); c.kept || g.servers[0].pool.open != 1 {
		t.Errorf("kept %v, %d open", c.kept, g.servers[0].pool.open)
	}
}

// Courier answers each error on a connection later than the one before: 8, 16, 32 seconds. The next client does not wait
// for what this one did.
func TestConnectionIsNotKeptAfterALateRefusal(t *testing.T) {
	var clock atomic.Pointer[testClock]
	s := start(t, backendtest.Behaviour{Mailboxes: []string{"b@example.net"}, Answer: func(_ *backendtest.Session, line string) string {
		if strings.HasPrefix(line, "RCPT") {
			clock.Load().advance(lateRefusal)
		}
		return ""
	}})
	g, _ := newGroup(t, nil, s)
	clock.Store(useClock(g))
	for _, kept := range []bool{false, true, true, false} {
		c := dial(t, g, testClient())
		if c.kept != kept {
			t.Errorf("kept %v", c.kept)
		}
		transact(t, c, message("x\r\n")) // accepted late, which is a busy backend
		if len(s.Messages()) == 3 {
			ask(t, c, "MAIL FROM:<>", 250)
			ask(t, c, "RCPT TO:<unknown@example.net>", 550)
		}
		c.Release()
	}
}

// Errors of all clients of a connection count together, since the backend counts them so.
func TestConnectionIsNotKeptAfterThreeErrors(t *testing.T) {
	s := start(t, backendtest.Behaviour{Mailboxes: []string{"b@example.net"}})
	g, _ := newGroup(t, nil, s)
	for n := range 2 * maxErrors {
		c := dial(t, g, testClient())
		if c.kept != (n%maxErrors != 0) {
			t.Errorf("client %d: kept %v", n, c.kept)
		}
		ask(t, c, "MAIL FROM:<>", 250)
		ask(t, c, "RCPT TO:<unknown@example.net>", 550)
		ask(t, c, "RCPT TO:<b@example.net>", 250)
		send(t, c, message("x\r\n"))
		c.Release()
	}
}
