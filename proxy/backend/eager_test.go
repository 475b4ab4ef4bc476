package backend

import (
	"strings"
	"testing"

	"gatepost/proxy/backend/backendtest"
)

// By default every command that ends a group (RFC 2920) is answered before anything follows, also on kept connections.
func TestLockStepHandOver(t *testing.T) {
	s := start(t, backendtest.Behaviour{})
	g, _ := newGroup(t, func(c *Config) { c.Eager = false }, s)
	run(t, g)
	for range 2 {
		c := dial(t, g, testClient())
		envelope(t, c) // left open
		c.Release()
	}
	c := dial(t, g, testClient())
	c.Queue([]byte("vrfy x"))
	for _, line := range strings.Split(strings.TrimSuffix(envelopeText, "\r\n"), "\r\n") {
		c.Queue([]byte(line))
	}
	c.Queue([]byte("NOOP"))
	c.Queue([]byte("RSET"))
	for _, code := range []int{252, 250, 250, 250, 250} {
		if r, err := c.Reply(testContext(t)); err != nil || r.Code != code {
			t.Errorf("%s, %v, want %d", r, err, code)
		}
	}
	want := []string{xclientLine, ehloLine, envelopeText, "RSET\r\n", xclientLine, ehloLine, envelopeText, "RSET\r\n", xclientLine, ehloLine,
		"vrfy x\r\n", envelopeText + "NOOP\r\n", "RSET\r\n"}
	// RSET is sent when a connection is given back, and may or may not be read together with what the next client brings.
	join := func(segments []string) string {
		return strings.ReplaceAll(strings.Join(segments, "|"), "RSET\r\n|XCLIENT", "RSET\r\nXCLIENT")
	}
	if got := s.Sessions()[1].Segments(); join(got) != join(want) {
		t.Errorf("segments:\n%q, want\n%q", got, want)
	}
}

// A backend that does not stand what `eager` does is served again at once in lock-step, and for good.
func TestBackendThatDoesNotStandEagerness(t *testing.T) {
	for name, answer := range map[string]string{
		"strict Postfix":    "",
		"strict postscreen": "521 5.5.1 Protocol error" + backendtest.Hangup,
		"without a word":    backendtest.Hangup,
		"without a code":    "554 SMTP synchronization error" + backendtest.Hangup,
		"strict Exim":       "", // its client's address comes with the PROXY protocol
	} {
		t.Run(name, func(t *testing.T) {
			b := backendtest.Behaviour{}
			if answer != "" {
				b.Answer = func(sess *backendtest.Session, line string) string {
					// The group came in one segment: the stand-in has it all in hand.
					if segments := sess.Segments(); strings.HasPrefix(line, "XCLIENT") && strings.Contains(segments[len(segments)-1], "MAIL") {
						return answer
					}
					return ""
				}
				b.Lenient = true
			}
			address := XClient
			if name == "strict Exim" {
				address, b.Proxy = ProxyV2, backendtest.ProxyV2
			}
			s, err := backendtest.Start(b)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Close)
			other := start(t, backendtest.Behaviour{Proxy: b.Proxy})
			g, logs := newGroup(t, func(c *Config) { c.Eager, c.ClientAddress = true, address }, s, other)
			run(t, g)
			deliver := func(failures int) {
				c, err := g.Dial(testContext(t), testClient())
				for n := 0; ; n++ {
					if err != nil {
						t.Fatal(err)
					}
					c.Queue([]byte("MAIL FROM:<a@example.org>"))
					c.Queue([]byte("RCPT TO:<b@example.net>"))
					if _, err = c.Reply(testContext(t)); err == nil {
						if n != failures {
							t.Errorf("%d failures, want %d", n, failures)
						}
						break
					}
					if n == failures {
						t.Fatal(err)
					}
					if e := wantError(t, err); e.Refused {
						t.Error("it is not the client that was refused")
					}
					c, err = g.DialNext(testContext(t), testClient(), c)
				}
				c.Reply(testContext(t))
				send(t, c, message("x\r\n"))
				c.Release()
			}
			deliver(1)
			deliver(0)
			g.servers[0].pool.drain()
			deliver(0)
			if len(s.Messages()) != 3 || len(other.Messages()) != 0 {
				t.Errorf("%d messages, and %d at the other backend", len(s.Messages()), len(other.Messages()))
			}
			if text := logs.String(); strings.Count(text, "level=WARN") != 1 || strings.Contains(text, "out of order") {
				t.Errorf("log: %s", text)
			}
			if s.Close(); answer == "" && len(s.Violations()) != 1 {
				t.Errorf("violations: %q", s.Violations())
			}
		})
	}
}

// A client that the backend does not want is no sign that it minds eagerness.
func TestRefusalOfTheClientIsNotTakenForStrictness(t *testing.T) {
	s := start(t, backendtest.Behaviour{Lenient: true, Answer: answering("XCLIENT NAME=client", "554 5.7.1 go away")})
	g, logs := newGroup(t, func(c *Config) { c.Eager = true }, s)
	run(t, g)
	c := dial(t, g, testClient())
	_, err := c.Command(testContext(t), []byte("MAIL FROM:<>"))
	if e := wantError(t, err, "go away"); !e.Refused || g.servers[0].lockStep.Load() || logs.String() != "" {
		t.Errorf("%+v, log: %s", e, logs)
	}
}
