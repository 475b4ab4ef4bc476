package backend

import (
	"strings"
	"testing"

	"gatepost/proxy/backend/backendtest"
)

// A backend that has gone, or has said that it goes, before the message gets nothing of it: it can go elsewhere.
func TestLostBeforeTheMessage(t *testing.T) {
	for name, test := range map[string]struct {
		answer string // to the last RCPT
		says   string
	}{
		"closed":           {"250 2.1.5 Ok" + backendtest.Hangup, "EOF"},
		"closed, in words": {"250 2.1.5 Ok\r\n421 4.3.2 Going down" + backendtest.Hangup, "421 4.3.2 Going down"},
		"spoken":           {"250 2.1.5 Ok\r\n421 4.4.2 Timeout", "421 4.4.2 Timeout"},
	} {
		for _, keywords := range [][]string{nil, dataKeywords} {
			s := start(t, backendtest.Behaviour{Keywords: keywords, Answer: answering("RCPT TO:<b@example.net>", test.answer)})
			g, _ := newGroup(t, func(c *Config) { c.RelayCheck = false }, s)
			c := dial(t, g, testClient())
			envelope(t, c)
			l := c.link
			eventually(t, "the end has arrived", func() bool { return !l.alive() })
			_, dotSent, err := c.SendMessage(testContext(t), message("x\r\n"), 0)
			if dotSent {
				t.Errorf("%s: dotSent", name)
			}
			wantError(t, err, test.says)
			for _, line := range s.Sessions()[0].Lines() {
				if strings.HasPrefix(line, "BDAT") || strings.HasPrefix(line, "DATA") {
					t.Errorf("%s: it was given %q", name, line)
				}
			}
		}
	}
}
