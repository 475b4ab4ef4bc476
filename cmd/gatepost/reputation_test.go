package main

import (
	"fmt"
	"strings"
	"testing"

	"gatepost/proxy/store/redistest"
)

// trapping knows a trap, and does not let clients wait for their greeting.
const trapping = "filters: {earlytalker: {pause: 100ms}, reputation: {traps: [trap@example.org], minimum: 1}}\n"

// eventually runs a command until it prints something: what is learned is written beside the sessions.
func (s *served) eventually(want string, command ...string) {
	s.t.Helper()
	redistest.Eventually(s.t, patience, func() error {
		if text, status := s.command(command...); status != 0 || !strings.Contains(text, want) {
			return fmt.Errorf("%s: status %d, without %q:\n%s", command, status, want, text)
		}
		return nil
	})
}

// The default rules: a trap is nobody, and who writes to nothing else is refused after three messages, whomever he writes
// to then; an operator can forgive him. What is known survives a restart.
func TestSpamTrapsTeachTheDefaultRules(t *testing.T) {
	s := startServe(t, trapping)
	hit := func(n int) {
		t.Helper()
		c := s.dial()
		defer c.conn.Close()
		c.say(fmt.Sprintf("MAIL FROM:<junk%d@bulk.test>", n), "250")
		c.say("RCPT TO:<trap@example.org>", "550 5.1.1 trap@example.org does not exist here")
		c.say("RSET", "250")
	}
	first := func(sender string) string {
		c := s.dial()
		defer c.conn.Close()
		c.say("MAIL FROM:<"+sender+">", "250")
		return c.say("RCPT TO:<alice@example.org>", "")
	}
	for n := range 3 {
		hit(n)
	}
	s.eventually("clients  3 ", "traps", "list")
	s.eventually("127.0.0.0/24", "traps", "show", "trap@example.org")
	s.eventually("127.0.0.0/24       -8.6   0.0        0.0      0.0      3.0 ", "reputation", "list")
	if reply := first("ann@else.test"); !strings.HasPrefix(reply, "550 5.7.1 Next to nothing but spam") {
		t.Errorf("another sender of that network hears %s", reply)
	}
	s.signal(15)
	if status := s.exit(); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	s.run()
	s.eventually("3.0 ", "reputation", "list", "127.0.0.1")
	if reply := first("ann@else.test"); !strings.HasPrefix(reply, "550 5.7.1 Next to nothing but spam") {
		t.Errorf("after a restart it hears %s", reply)
	}
	// Its refusal was for what is known of it, and does not feed that.
	s.eventually("-8.6 ", "reputation", "list", "127.0.0.0/8")
	if text, status := s.command("reputation", "forget", "127.0.0.1"); status != 0 || text != "Forgotten: 1\n" {
		t.Errorf("status %d: %s", status, text)
	}
	if reply := first("ann@else.test"); strings.HasPrefix(reply, "550") {
		t.Errorf("forgiven, it hears %s", reply)
	}
}

func TestReputationIsCopiedToTheSharedStore(t *testing.T) {
	redis := redistest.Start(t, redistest.Options{})
	everybody := trapping + "rules:\n  - {name: trap, when: reputation.trap, then: reject}\n"
	s := startServe(t, everybody)
	s.recipient("a@bulk.test", "250")
	c := s.dial()
	defer c.conn.Close()
	c.say("MAIL FROM:<junk@bulk.test>", "250")
	c.say("RCPT TO:<trap@example.org>", "550")
	c.say("RSET", "250")
	s.eventually("1.0 ", "reputation", "list", "127.0.0.1")
	s.configure(strings.Replace(settings, "store: {path: state}\n", shares(redis, "gp"), 1) + everybody)
	for range 2 { // the second time changes nothing
		if text, status := s.command("store", "copy", "--from", "embedded", "--to", "shared"); status != 0 || !strings.Contains(text, "Standings copied: 1") {
			t.Fatalf("%d %s", status, text)
		}
	}
	mx2 := startServeWith(t, strings.Replace(settings, "store: {path: state}\n", shares(redis, "gp"), 1)+everybody)
	mx2.eventually("127.0.0.0/24       -6.7   0.0        0.0      0.0      1.0 ", "reputation", "list")
	if text, status := mx2.command("store", "copy", "--from", "shared", "--to", "embedded"); status != 0 || !strings.Contains(text, "Standings copied: 1") {
		t.Fatalf("%d %s", status, text)
	}
}
