package proxy

import (
	"gatepost/proxy/backend/backendtest"
	"gatepost/rules"
	"strings"
	"testing"
)

// A client's batch is a batch for the backend: its commands in one segment, after the hand-over.
func TestRecipientsGoToTheBackendTogether(t *testing.T) {
	h := start(t, setup{})
	c := h.hello()
	envelope := "MAIL FROM:<a@example.org>\r\n" + strings.Repeat("RCPT TO:<b@example.com>\r\n", 12)
	c.send(envelope + "DATA\r\n")
	for range 13 {
		c.expect("250")
	}
	c.expect("354")
	c.send("one\r\n.\r\nQUIT\r\n")
	c.expect("250")
	c.expect("221")
	sessions := h.backends[0].Sessions()
	segments := sessions[len(sessions)-1].Segments()
	for _, segment := range segments {
		if segment == envelope {
			return
		}
	}
	t.Errorf("the backend got %q", segments)
}

const pipelined = "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"

// nextWithMessage tells whether a backend has heard the next transaction's MAIL and RCPT together with a message.
func nextWithMessage(h *house) bool {
	sessions := h.backends[0].Sessions()
	for _, segment := range sessions[len(sessions)-1].Segments() {
		if strings.HasPrefix(segment, "BDAT ") && strings.HasSuffix(segment, strings.TrimSuffix(pipelined, "DATA\r\n")) {
			return true
		}
	}
	return false
}

// Where nothing here can refuse it, the next transaction of a client that pipelines goes to the backend with the message,
// and comes out as it would have later.
func TestNextTransactionLeavesWithTheMessage(t *testing.T) {
	own := []string{"example.com"}
	for _, test := range []struct {
		name   string
		setup  setup
		next   string // behind the first message
		codes  []string
		ahead  bool
		arrive int
	}{
		{"another message", setup{}, pipelined, []string{"250", "250", "354"}, true, 2},
		{"to a domain of ours", setup{domains: own}, pipelined, []string{"250", "250", "354"}, true, 2},
		{"to another's domain", setup{domains: own}, "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n" + pipelined,
			[]string{"250", "550", "554", "503", "250", "354"}, false, 2},
		{"a rule that has a say", setup{rules: []rules.Definition{definition(map[string]string{
			"name": "r", "when": `mail.domain == "bad.test"`, "then": "reject"})}}, pipelined,
			[]string{"250", "250", "354"}, false, 2},
		{"two recipients", setup{}, strings.Replace(pipelined, "DATA", "RCPT TO:<c@example.com>\r\nDATA", 1), []string{"250", "250", "250", "354"}, false, 2},
		{"refused by the backend", setup{backend: backendtest.Behaviour{Answer: func(s *backendtest.Session, line string) string {
			if strings.HasPrefix(line, "RCPT TO:<no@") {
				return "550 5.1.1 No such user"
			}
			return ""
		}}}, "MAIL FROM:<a@example.org>\r\nRCPT TO:<no@example.com>\r\nDATA\r\n" + pipelined,
			[]string{"250", "550", "554", "503", "250", "354"}, false, 2},
		{"given up", setup{}, "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nRSET\r\n" + pipelined,
			[]string{"250", "250", "250", "250", "250", "354"}, true, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := start(t, test.setup)
			c := h.hello()
			c.send(pipelined)
			c.expect("250")
			c.expect("250")
			c.expect("354")
			c.send("Subject: 1\r\n\r\none\r\n.\r\n" + test.next)
			c.expect("250")
			for _, code := range test.codes {
				c.expect(code)
			}
			c.send("Subject: 2\r\n\r\ntwo\r\n.\r\nQUIT\r\n")
			c.expect("250")
			c.expect("221")
			if got := nextWithMessage(h); got != test.ahead {
				t.Errorf("said with the message: %v", got)
			}
			messages := h.backends[0].Messages()
			if len(messages) != test.arrive {
				t.Fatalf("%d messages arrived", len(messages))
			}
			for i, m := range messages {
				if want := 1 + i*strings.Count(test.next, "RCPT TO:<c@"); len(m.Recipients) != want {
					t.Errorf("message %d went to %v", i+1, m.Recipients)
				}
			}
			h.waitIdle()
			if wrong := h.backends[0].Violations(); len(wrong) > 0 {
				t.Errorf("the backend complains: %q", wrong)
			}
		})
	}
}
