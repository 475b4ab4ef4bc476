package backend

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"gatepost/proxy/backend/backendtest"
)

var lockStepKeywords = []string{"8BITMIME", "SIZE 36700160", "DSN"}

// envelope queues MAIL and RCPT at once and reads both replies.
func envelope(t testing.TB, c *Conn) {
	t.Helper()
	c.Queue([]byte("MAIL FROM:<a@example.org>"))
	c.Queue([]byte("RCPT TO:<b@example.net>"))
	for range 2 {
		if r, err := c.Reply(testContext(t)); err != nil || r.Code != 250 {
			t.Fatalf("%s, %v", r, err)
		}
	}
}

const (
	xclientLine  = "XCLIENT NAME=client.example.org ADDR=203.0.113.7 PORT=40001 PROTO=ESMTP DESTADDR=198.51.100.1 DESTPORT=25 REVERSE_NAME=client.example.org HELO=helo.example.org\r\n"
	ehloLine     = "EHLO helo.example.org\r\n"
	envelopeText = "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\n"
)

// With eager, and a backend whose ways are known, hand-over, EHLO and the first commands are one segment.
func TestKnownBackendGetsOneSegment(t *testing.T) {
	for address, handOver := range map[ClientAddress]string{
		XClient: xclientLine + ehloLine, ProxyV2: ehloLine, NoAddress: "EHLO mx.example.org\r\n",
	} {
		b := backendtest.Behaviour{Lenient: true}
		if address == ProxyV2 {
			b.Proxy = backendtest.ProxyV2
		}
		s := start(t, b)
		g, _ := newGroup(t, func(c *Config) { c.ClientAddress, c.Reuse, c.Eager = address, false, true }, s)
		for range 2 {
			c := dial(t, g, testClient())
			envelope(t, c)
			send(t, c, message("x\r\n"))
			c.Release()
		}
		segments := s.Sessions()[1].Segments()
		if address == ProxyV2 {
			segments = segments[1:] // the header, before the greeting
		}
		if len(segments) < 2 || segments[0] != handOver+envelopeText || segments[1] != "BDAT 3 LAST\r\nx\r\n" {
			t.Errorf("%s: segments: %q", address, segments)
		}
	}
}

func TestLockStepBackendGetsOneCommandAtATime(t *testing.T) {
	for _, address := range []ClientAddress{XClient, ProxyV2, NoAddress} {
		b := backendtest.Behaviour{Keywords: lockStepKeywords, LockStep: true}
		if address == ProxyV2 {
			b.Proxy = backendtest.ProxyV2
		}
		s := start(t, b)
		g, _ := newGroup(t, func(c *Config) { c.ClientAddress = address }, s)
		for i := range 3 {
			c := dial(t, g, testClient())
			envelope(t, c)
			if i == 1 { // an open transaction goes with RSET
				c.Release()
				continue
			}
			send(t, c, message("x\r\n"))
			c.Release()
		}
		if n := len(s.Messages()); n != 2 {
			t.Errorf("%s: %d messages, want 2", address, n)
		}
		if n := len(s.Sessions()); (n == 1) != (address != ProxyV2) {
			t.Errorf("%s: %d sessions", address, n)
		}
	}
}

func TestRepliesInOrderAndMultiLine(t *testing.T) {
	s := start(t, backendtest.Behaviour{Answer: func(_ *backendtest.Session, line string) string {
		if strings.Contains(line, "unknown@") {
			return "550-5.1.1 first\r\n550 5.1.1 second"
		}
		return ""
	}})
	g, _ := newGroup(t, nil, s)
	c := dial(t, g, testClient())
	for _, line := range []string{"MAIL FROM:<>", "RCPT TO:<unknown@example.net>", "RCPT TO:<b@example.net>"} {
		c.Queue([]byte(line))
	}
	if err := c.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"250 2.1.0 Ok", "550 5.1.1 first\n5.1.1 second", "250 2.1.5 Ok"} {
		if r, err := c.Reply(testContext(t)); err != nil || r.String() != want {
			t.Errorf("%q, %v, want %q", r, err, want)
		}
	}
}

func TestCommandWithLineBreakIsNotSent(t *testing.T) {
	for _, line := range []string{"MAIL FROM:<a\r\nRSET>", "NOOP\n", "NOOP \x00"} {
		s := start(t, backendtest.Behaviour{})
		g, _ := newGroup(t, nil, s)
		c := dial(t, g, testClient())
		if r, err := c.Command(testContext(t), []byte(line)); err == nil {
			t.Errorf("%q was answered with %s", line, r)
		}
		if strings.Contains(transcript(s), line[:4]) {
			t.Errorf("%q was sent", line)
		}
	}
}

// answering answers lines with the prefix.
func answering(prefix, reply string) func(*backendtest.Session, string) string {
	return func(_ *backendtest.Session, line string) string {
		if strings.HasPrefix(line, prefix) {
			return reply
		}
		return ""
	}
}

func TestBackendCloses(t *testing.T) {
	t.Run("421 to a command", func(t *testing.T) {
		s := start(t, backendtest.Behaviour{Answer: answering("RCPT", "421 4.7.0 too many errors"+backendtest.Hangup)})
		g, _ := newGroup(t, nil, s)
		c := dial(t, g, testClient())
		ask(t, c, "MAIL FROM:<>", 250)
		ask(t, c, "RCPT TO:<b@example.net>", 421)
		_, err := c.Command(testContext(t), []byte("RSET"))
		wantError(t, err)
		c.Release()
		if dial(t, g, testClient()).kept {
			t.Error("a connection that ended with 421 was kept")
		}
	})
	t.Run("421 unasked", func(t *testing.T) {
		s := start(t, backendtest.Behaviour{Answer: answering("MAIL", "250 2.1.0 Ok\r\n421 4.4.2 timeout"+backendtest.Hangup)})
		g, _ := newGroup(t, nil, s)
		c := dial(t, g, testClient())
		ask(t, c, "MAIL FROM:<>", 250)
		r, err := c.Command(testContext(t), []byte("RCPT TO:<b@example.net>"))
		if err == nil && r.Code != 421 {
			t.Errorf("%s", r)
		}
		if err != nil {
			wantError(t, err, "421 4.4.2 timeout")
		}
	})
	t.Run("silently", func(t *testing.T) {
		s := start(t, backendtest.Behaviour{Answer: answering("MAIL", backendtest.Hangup)})
		g, _ := newGroup(t, nil, s)
		_, err := dial(t, g, testClient()).Command(testContext(t), []byte("MAIL FROM:<>"))
		wantError(t, err, "MAIL")
	})
	t.Run("garbage", func(t *testing.T) {
		s := start(t, backendtest.Behaviour{Answer: answering("MAIL", "hello there")})
		g, _ := newGroup(t, nil, s)
		_, err := dial(t, g, testClient()).Command(testContext(t), []byte("MAIL FROM:<>"))
		wantError(t, err, "MAIL", "not an SMTP reply")
	})
}

func TestGreetings(t *testing.T) {
	for name, test := range map[string]struct{ greeting, says string }{
		"421":         {"421 4.3.2 shutting down", `"421 4.3.2 shutting down"`},
		"554":         {"554 no", `"554 no"`},
		"250":         {"250 ok", `"250 ok"`},
		"nothing":     {backendtest.Hangup, "greeting"},
		"garbage":     {"SSH-2.0-x", "not an SMTP reply"},
		"long line":   {"220 " + strings.Repeat("x", 3000), "too long"},
		"many lines":  {strings.Repeat("220-x\r\n", 200) + "220 x", "too many lines"},
		"escape":      {"554 \x1b[2J", `\x1b[2J`},
		"binary junk": {"\x16\x03\x01\x02\x00\x01", "not an SMTP reply"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, backendtest.Behaviour{Greeting: test.greeting})
			g, _ := newGroup(t, nil, s)
			_, err := g.Dial(testContext(t), testClient())
			wantError(t, err, "greeting", test.says)
			if strings.ContainsAny(err.Error(), "\x1b\r\n") {
				t.Errorf("%q is not fit for a log", err)
			}
		})
	}
}

func TestEndOfContextEndsTheWait(t *testing.T) {
	t.Run("dial", func(t *testing.T) {
		s := start(t, backendtest.Behaviour{Greeting: backendtest.Stall})
		g, logs := newGroup(t, nil, s)
		ctx, cancel := context.WithCancel(testContext(t))
		time.AfterFunc(20*time.Millisecond, cancel)
		_, err := g.Dial(ctx, testClient())
		if !errors.Is(err, context.Canceled) || logs.String() != "" {
			t.Errorf("%v; log: %s", err, logs)
		}
	})
	t.Run("deadline", func(t *testing.T) {
		s := start(t, backendtest.Behaviour{Answer: answering("MAIL", backendtest.Stall)})
		g, _ := newGroup(t, nil, s)
		c := dial(t, g, testClient())
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		_, err := c.Command(ctx, []byte("MAIL FROM:<>"))
		wantError(t, err, "MAIL", "no answer in time")
	})
	t.Run("command_timeout", func(t *testing.T) {
		s := start(t, backendtest.Behaviour{Answer: answering("MAIL", backendtest.Stall)})
		g, _ := newGroup(t, nil, s)
		c := dial(t, g, testClient())
		g.config.CommandTimeout = 20e6
		_, err := c.Command(context.Background(), []byte("MAIL FROM:<>"))
		wantError(t, err, "MAIL", "no answer in time")
	})
}

func TestReleasedConnIsOfNoUse(t *testing.T) {
	s := start(t, backendtest.Behaviour{})
	g, _ := newGroup(t, nil, s)
	c := dial(t, g, testClient())
	ask(t, c, "NOOP", 250)
	c.Release()
	c.Release()
	c.Close()
	c.Queue([]byte("NOOP"))
	if _, err := c.Reply(testContext(t)); err == nil {
		t.Error("Reply works after Release")
	}
	if _, _, err := c.SendMessage(testContext(t), message("x"), 0); err == nil {
		t.Error("SendMessage works after Release")
	}
	if c := dial(t, g, testClient()); !c.kept {
		t.Error("the connection was not kept")
	}
}
