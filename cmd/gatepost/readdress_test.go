package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// TestAMilterReaddresses: a milter that may adds a recipient and takes another one's mail away; the rule calls it by its
// name alone, and why tells what it did.
func TestAMilterReaddresses(t *testing.T) {
	address := startCorpusMilter(t, "a@example.com => to carol@example.org\na@example.com => not bob@example.org\n")
	s := startServe(t, fmt.Sprintf("journal: {path: journal}\nfilters:\n  milter:\n    - {name: mover, address: '%s', edits: [recipients], on_error: defer}\n"+
		"rules:\n  - {name: moved, when: known(mover.edits), then: tag, header: 'X-Moved: {mover.action}'}\n", address))
	s.awaitLog("relay check passed")
	c := s.dial()
	c.say("MAIL FROM:<a@example.com>", "250")
	c.say("RCPT TO:<alice@example.org>", "250")
	c.say("RCPT TO:<bob@example.org>", "250")
	c.say("DATA", "354")
	c.say("Subject: x\r\n\r\nhello\r\n.", "250")
	c.say("QUIT", "221")
	messages := s.backend.Messages()
	if len(messages) != 1 || fmt.Sprint(messages[0].Recipients) != "[alice@example.org carol@example.org]" || !strings.Contains(string(messages[0].Data), "X-Moved: continue") {
		t.Fatalf("%d messages, the first to %s:\n%s", len(messages), messages[0].Recipients, messages[0].Data)
	}
	s.awaitLog("msg=transaction")
	s.signal(syscall.SIGTERM)
	s.exit()
	why, status := s.command("why", "a@example.com")
	for _, want := range []string{"to <carol@example.org> too", "not to <bob@example.org>", "delete recipient <bob@example.org>"} {
		if status != 0 || !strings.Contains(why, want) {
			t.Errorf("%d, without %s:\n%s", status, want, why)
		}
	}
}
