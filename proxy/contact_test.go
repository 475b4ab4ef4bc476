package proxy

import (
	"regexp"
	"strings"
	"testing"
)

// Our own refusals name the record and whom to ask, as those of rules do, however long the contact is.
func TestContact(t *testing.T) {
	for _, contact := range []string{"https://example.org/postmaster", "https://example.org/" + strings.Repeat("x", 180)} {
		h := start(t, setup{contact: contact, limits: func(l *Limits) { l.ConnectionsPerClient = 1 }})
		want := regexp.MustCompile(` \(id \w+(\.\d+)?\); see ` + regexp.QuoteMeta(contact) + "$")
		c := h.hello()
		if got := h.dial().reply(); !strings.HasPrefix(got, "421 4.7.0 ") || !want.MatchString(got) || len(got) > 510 {
			t.Errorf("turned away: %q", got)
		}
		c.say("MAIL FROM:<a@example.org>", "250")
		c.say("RCPT TO:<b@example.com>", "250")
		c.say("DATA", "354")
		if got := c.say("x: y\r\n\r\n\x00\r\n.", "550 5.6.0 "); !want.MatchString(got) {
			t.Errorf("message refused: %q", got)
		}
		h.backends[0].Close()
		c.say("MAIL FROM:<a@example.org>", "451 4.4.1 ")
		c.say("QUIT", "221")
	}
}
