package proxy

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/rules"
)

const envelopeAndData = "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"

// TestConfirmation: a final reply is confirmed by a command that was taken from the socket after it was written.
func TestConfirmation(t *testing.T) {
	ready := func(c *client) {
		c.send(envelopeAndData)
		c.expect("250 2.1.0", "250 2.1.5", "354 ")
	}
	chunks := strings.Repeat("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nBDAT 6 LAST\r\nS: x\r\n", 2)
	for _, test := range []struct {
		name      string
		tls       bool
		play      func(c *client)
		confirmed []int // the messages, by number
		messages  int
		warns     int
	}{
		{name: "next command", messages: 1, confirmed: []int{1}, play: func(c *client) {
			ready(c)
			c.send("x\r\n.\r\n")
			c.expect("250 ")
			c.say("NOOP", "250 ")
			c.Close()
		}},
		{name: "hang-up", messages: 1, warns: 1, play: func(c *client) {
			ready(c)
			c.send("x\r\n.\r\n")
			c.expect("250 ")
			c.Close()
		}},
		{name: "reset before the reply", messages: 1, warns: 1, play: func(c *client) {
			ready(c)
			c.send("x\r\n.\r\n")
			c.CloseWrite()
			c.expect("250 ", "EOF")
		}},
		{name: "half a command", messages: 1, warns: 1, play: func(c *client) {
			ready(c)
			c.send("x\r\n.\r\n")
			c.expect("250 ")
			c.send("NOO")
			c.Close()
		}},
		{name: "QUIT in one go with the message", messages: 1, play: func(c *client) {
			ready(c)
			c.send("x\r\n.\r\nQUIT\r\n")
			c.expect("250 ", "221 ")
		}},
		{name: "a command in one go with the message, another later", messages: 1, confirmed: []int{1}, play: func(c *client) {
			ready(c)
			c.send("x\r\n.\r\nNOOP\r\n")
			c.expect("250 ", "250 ")
			c.say("QUIT", "221 ")
		}},
		{name: "a command in one go with the message, then nothing", messages: 1, warns: 1, play: func(c *client) {
			ready(c)
			c.send("x\r\n.\r\nNOOP\r\n")
			c.expect("250 ", "250 ")
			c.Close()
		}},
		{name: "two messages in one go", messages: 2, confirmed: []int{2, 1}, play: func(c *client) {
			c.send(chunks)
			c.expect("250 ", "250 ", "250 ", "250 ", "250 ", "250 ")
			c.say("NOOP", "250 ")
			c.Close()
		}},
		{name: "two messages in one go, then nothing", messages: 2, warns: 2, play: func(c *client) {
			c.send(chunks)
			c.expect("250 ", "250 ", "250 ", "250 ", "250 ", "250 ")
			c.Close()
		}},
		{name: "the first of two", messages: 2, confirmed: []int{1}, warns: 1, play: func(c *client) {
			for range 2 {
				ready(c)
				c.send("x\r\n.\r\n")
				c.expect("250 ")
			}
			c.Close()
		}},
		{name: "a refusal, hang-up", messages: 1, play: func(c *client) {
			ready(c)
			c.send("Subject: bad\r\n\r\n.\r\n")
			c.expect("550 ")
			c.Close()
		}},
		{name: "a refusal, next command", messages: 1, confirmed: []int{1}, play: func(c *client) {
			ready(c)
			c.send("Subject: bad\r\n\r\n.\r\n")
			c.expect("550 ")
			c.say("RSET", "250 ")
			c.Close()
		}},
		{name: "TLS, next command", tls: true, messages: 1, confirmed: []int{1}, play: func(c *client) {
			ready(c)
			c.send("x\r\n.\r\n")
			c.expect("250 ")
			c.say("QUIT", "221 ")
		}},
		{name: "TLS, hang-up", tls: true, messages: 1, warns: 1, play: func(c *client) {
			ready(c)
			c.send("x\r\n.\r\n")
			c.expect("250 ")
			c.Close()
		}},
		{name: "TLS, one go", tls: true, messages: 1, warns: 1, play: func(c *client) {
			ready(c)
			c.send("x\r\n.\r\nNOOP\r\n")
			c.expect("250 ", "250 ")
			c.Close()
		}},
	} {
		for _, threads := range []bool{false, true} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				u := setup{threads: threads, rules: []rules.Definition{definition(map[string]string{
					"name": "bad", "when": `header("Subject") == "bad"`, "then": "reject", "reply": "550 5.7.1 Bad"})}}
				u.listen.Certificate = certificate(t)
				h := start(t, u)
				h.t = t
				c := h.hello()
				if test.tls {
					c.say("STARTTLS", "220 ")
					c.Conn = tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
					c.r = bufio.NewReader(c.Conn)
					c.say("EHLO client.test", "250")
				}
				test.play(c)
				c.Close()
				h.ended()
				messages, confirmed := h.journal.transactions(), h.journal.confirmed
				var want []string
				for _, n := range test.confirmed {
					want = append(want, messages[n-1].ID)
				}
				if len(messages) != test.messages || !slices.Equal(confirmed, want) {
					t.Errorf("%d messages, confirmed are %q, want %q", len(messages), confirmed, want)
				}
				warned, queued := 0, ""
				if test.warns == 1 && test.messages == 1 {
					queued = h.backends[0].Messages()[0].ID
				}
				for line := range strings.Lines(h.log.String()) {
					if strings.Contains(line, "without confirming") {
						warned++
						for _, part := range []string{"level=WARN", "transaction=" + h.session() + ".", "backend=" + h.backends[0].Address(), "queue_id=" + queued} {
							if !strings.Contains(line, part) {
								t.Errorf("%q is missing in %s", part, line)
							}
						}
					}
				}
				if n := h.server.Metrics().Unconfirmed.Load(); warned != test.warns || int(n) != test.warns {
					t.Errorf("%d warnings, %d counted; want %d", warned, n, test.warns)
				}
			})
		}
	}
}

// CloseWrite ends the client's side.
func (c *client) CloseWrite() {
	c.t.Helper()
	if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		c.t.Fatal(err)
	}
}

// ended waits until no session is open.
func (h *house) ended() {
	h.t.Helper()
	for limit := time.Now().Add(5 * time.Second); h.server.Metrics().Open.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			h.t.Fatal("the session does not end")
		}
	}
}

// session is the ID of the only session.
func (h *house) session() string {
	id, _, _ := strings.Cut(h.journal.transactions()[0].ID, ".")
	return id
}

// TestDigest: the digest is of what the backend gets below our own fields, however it came.
func TestDigest(t *testing.T) {
	h := start(t, setup{})
	h.service.Digest = true
	if err := h.server.Reload(h.service, nil); err != nil {
		t.Fatal(err)
	}
	c := h.hello()
	c.send(envelopeAndData + "Subject: x\r\n\r\n..dot\nbare\r\n.\r\n")
	c.expect("250 ", "250 ", "354 ", "250 ")
	c.send("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nBDAT 3\r\nS: BDAT 5 LAST\r\nx\r\n\r\n")
	c.expect("250 ", "250 ", "250 ", "250 ")
	c.send("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nRSET\r\nQUIT\r\n")
	c.expect("250 ", "250 ", "250 ", "221 ")
	h.ended()
	records := h.journal.transactions()
	if len(records) != 3 {
		t.Fatalf("%d records", len(records))
	}
	for i, m := range h.backends[0].Messages() {
		if want := sha256.Sum256(m.Data); records[i].Ending.Digest != want {
			t.Errorf("message %d: digest %x, want %x", i, records[i].Ending.Digest, want)
		}
	}
	if records[2].Ending.Digest != [32]byte{} {
		t.Error("what was abandoned has a digest")
	}
}
