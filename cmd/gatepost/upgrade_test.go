package main

import (
	"strings"
	"testing"
)

func TestUpgrade(t *testing.T) {
	s := startServe(t, "rules: []\n")
	idle, busy := s.dial(), s.dial()
	busy.say("MAIL FROM:<bob@example.net>", "250")
	busy.say("RCPT TO:<alice@example.org>", "250")
	busy.say("DATA", "354")
	output, status := s.command("upgrade")
	if status != 0 || !strings.Contains(output, "serves now") {
		t.Fatalf("exit status %d: %s", status, output)
	}
	s.recipient("bob@example.net", "250") // at the new one
	busy.say("Subject: last\r\n\r\nOne more.\r\n.", "250")
	idle.say("MAIL FROM:<bob@example.net>", "250")
	busy.say("QUIT", "221")
	idle.say("QUIT", "221")
	if status := s.exit(); status != 0 {
		t.Errorf("the old one ended with status %d", status)
	}
	s.recipient("bob@example.net", "250")
	if output, status = s.command("upgrade"); status != 0 {
		t.Errorf("exit status %d: %s", status, output)
	}
}
