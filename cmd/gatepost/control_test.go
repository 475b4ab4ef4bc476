package main

import (
	"os/user"
	"strings"
	"testing"
)

func TestBypassOnARunningProxy(t *testing.T) {
	s := startServe(t, blocked("mallory@example.net"))
	s.recipient("mallory@example.net", "550 5.7.1 not you")
	if text, status := s.command("bypass", "--for", "1h"); status != 0 || !strings.HasPrefix(text, "Rules are only watched until 2") {
		t.Fatalf("status %d: %s", status, text)
	}
	s.awaitLog("bypass is on: rules are recorded and not enforced")
	s.log.forget()
	s.recipient("mallory@example.net", "250")
	if line := s.awaitLog("mallory@example.net"); !strings.Contains(line, "observed=blocked@") {
		t.Errorf("what would have happened is not in %s", line)
	}
	s.reload("the new configuration is in force") // it outlives a reload
	s.recipient("mallory@example.net", "250")
	write(t, s.file, "rules: none\nstore: {path: state}\n") // and can be ended with a file that was broken meanwhile
	if text, status := s.command("bypass", "--off"); status != 0 || !strings.Contains(text, "The rules are enforced again.") {
		t.Fatalf("status %d: %s", status, text)
	}
	s.awaitLog("bypass is off: rules are enforced again")
	s.recipient("mallory@example.net", "550 5.7.1 not you")
	if text, status := s.command("bypass", "--for", "8d"); status != 1 || !strings.Contains(text, "a bypass lasts 7d at most") {
		t.Errorf("status %d: %s", status, text)
	}
}

func TestGreylistOnARunningProxy(t *testing.T) {
	s := startServe(t, "rules:\n  - {name: grey, when: 'mail.address != \"\"', then: greylist}\n")
	listed := func(query, want string) {
		t.Helper()
		text, status := s.command(append([]string{"greylist", "list"}, strings.Fields(query)...)...)
		if status != 0 || !strings.Contains(text, want) {
			t.Errorf("list %s: status %d, without %q:\n%s", query, status, want, text)
		}
	}
	s.recipient("nina@new.test", "451 4.7.1")
	listed("", "127.0.0.0/24  nina@new.test")
	listed("new.test", "early  127.0.0.0/24")
	listed("198.51.100.1", "ATTEMPTS\n")
	if text, status := s.command("greylist", "show", "nina@new.test"); status != 0 || !strings.Contains(text, "  attempts  1\n") {
		t.Errorf("show: status %d:\n%s", status, text)
	}
	if text, status := s.command("greylist", "pass", "new.test"); status != 0 || text != "new.test passes.\n" {
		t.Errorf("pass: status %d: %s", status, text)
	}
	s.awaitLog("greylist: passed by command")
	s.recipient("nina@new.test", "250")
	if text, status := s.command("greylist", "forget", "new.test"); status != 0 || !strings.HasPrefix(text, "Marks forgotten: ") {
		t.Errorf("forget: status %d: %s", status, text)
	}
	s.recipient("nina@new.test", "451 4.7.1")
	if text, status := s.command("greylist", "show", "other.test"); status != 0 || text != "Nothing is remembered of that.\n" {
		t.Errorf("show of nothing: status %d: %s", status, text)
	}
	if text, status := s.command("greylist", "pass", "what is this"); status != 1 || !strings.HasPrefix(text, "gatepost: ") {
		t.Errorf("pass of nonsense: status %d: %s", status, text)
	}
}

func TestGreylistIsRememberedOverARestart(t *testing.T) {
	s := startServe(t, "rules:\n  - {name: grey, when: 'mail.address != \"\"', then: greylist}\n")
	if text, status := s.command("greylist", "pass", "new.test"); status != 0 {
		t.Fatal(text)
	}
	s.signal(15)
	if status := s.exit(); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	s.run()
	s.recipient("nina@new.test", "250")
}

func TestCommandsOfAFilterThatIsOff(t *testing.T) {
	s := startServe(t, "filters: {greylist: {enabled: false}}\nrules: []\n")
	if text, status := s.command("greylist", "list"); status != 1 || !strings.Contains(text, "the filter greylist is off") {
		t.Errorf("status %d: %s", status, text)
	}
}

func TestExceptionsOnARunningProxy(t *testing.T) {
	s := startServe(t, unpaused+"rules:\n  - {include: default}\n")
	who, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	run := func(want string, args ...string) {
		t.Helper()
		if text, status := s.command(args...); status != 0 || !strings.Contains(text, want) {
			t.Errorf("%s: status %d, without %q:\n%s", args, status, want, text)
		}
	}
	s.recipient("mallory@example.net", "250")
	run("sender mallory@example.net: block until 2", "block", "add", "Mallory@example.net", "--for", "2d", "--why", "ticket 4711")
	if line := s.awaitLog("exception: added by command"); !strings.Contains(line, "by="+who.Username) || !strings.Contains(line, `why="ticket 4711"`) {
		t.Errorf("who and why are not in %s", line)
	}
	s.recipient("mallory@example.net", "550 5.7.1 Mail from mallory@example.net is not accepted here at present")
	run("sender  mallory@example.net", "block", "list")
	run("ticket 4711", "block", "list")
	run("WHY\n", "allow", "list")
	run("client 127.0.0.1/32: allow until 2", "allow", "add", "127.0.0.1", "--for", "1h")
	s.recipient("mallory@example.net", "250")
	s.signal(15) // they outlast a restart
	if status := s.exit(); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	s.run()
	run("127.0.0.1 is as all others again.", "allow", "remove", "127.0.0.1")
	s.recipient("mallory@example.net", "550 5.7.1")
	s.reload("the new configuration is in force")
	run("mallory@example.net is as all others again.", "block", "remove", "mallory@example.net")
	s.recipient("mallory@example.net", "250")
	if text, status := s.command("block", "remove", "mallory@example.net"); status != 1 || !strings.Contains(text, "there is no such exception") {
		t.Errorf("status %d: %s", status, text)
	}
	run("recipient alice@example.org: block", "block", "add", "alice@example.org", "--for", "1h")
	s.recipient("mallory@example.net", "550 5.7.1 alice@example.org does not accept mail at present")
}

func TestAnExceptionThatNoRuleReads(t *testing.T) {
	s := startServe(t, "rules: []\n")
	text, status := s.command("block", "add", "192.0.2.7", "--for", "1h")
	if status != 0 || !strings.Contains(text, "No rule that is in force reads exception.client: this has no effect") {
		t.Errorf("status %d: %s", status, text)
	}
}
