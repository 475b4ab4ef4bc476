package proxy

import (
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
