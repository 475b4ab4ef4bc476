package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

const suspicious = `rules:
  - {name: suspicious, when: 'header("Subject") == "money"', then: quarantine}
  - {name: refused, when: 'header("Subject") == "more money"', then: reject, keep: copy, reply: 550 5.7.1 no}
`

// deliver sends a letter and returns the id in the reply.
func (s *served) deliver(subject, want string) (id string) {
	s.t.Helper()
	c := s.dial()
	defer c.conn.Close()
	c.say("MAIL FROM:<nina@example.net> BODY=8BITMIME", "250")
	c.say("RCPT TO:<alice@example.org>", "250")
	c.say("DATA", "354")
	reply := c.say("Subject: "+subject+"\r\nX-Evil: \x1b]0;owned\x07\r\n\r\n..hello\r\n.", want)
	if found := regexp.MustCompile(`\(id (\S+)\)`).FindStringSubmatch(reply); found != nil {
		return found[1]
	}
	return ""
}

func (s *served) expect(status int, want string, args ...string) string {
	s.t.Helper()
	text, got := s.command(args...)
	if got != status || !strings.Contains(text, want) {
		s.t.Errorf("%s: status %d, without %q:\n%s", args, got, want, text)
	}
	return text
}

func TestQuarantineOnARunningProxy(t *testing.T) {
	s := startServe(t, suspicious)
	s.awaitLog("answers 250 and keeps the message: sender and recipient are not told")
	kept := s.deliver("money", "250 2.0.0 Message received")
	s.awaitLog(`verdict=quarantine`)
	copied := s.deliver("more money", "550 5.7.1 no")
	third := s.deliver("money", "250 2.0.0 Message received")
	if len(s.backend.Messages()) != 0 {
		t.Error("the backend has a message")
	}

	// Behind our 250 the message is there whatever becomes of the process.
	s.signal(syscall.SIGKILL)
	s.exit()
	s.run()
	list := s.expect(0, "3 in quarantine, ", "quarantine", "list")
	if strings.Index(list, third) > strings.Index(list, copied) || !regexp.MustCompile(copied+` .* refused \(copy\) +127\.0\.0\.1 +<nina@example\.net> +alice@example\.org +more money`).MatchString(list) {
		t.Errorf("listed:\n%s", list)
	}
	show := s.expect(0, kept+": kept in place of a delivery", "quarantine", "show", kept)
	for _, want := range []string{"<nina@example.net> BODY=8BITMIME", "for       <alice@example.org>", "rule      suspicious at ", "reply     250 2.0.0 Message received",
		"Subject: money\n", `mail.domain = "example.net"`, "X-Evil: ?]0;owned?\n"} {
		if !strings.Contains(show, want) {
			t.Errorf("show without %q:\n%s", want, show)
		}
	}

	s.expect(0, "delivered <alice@example.org>: 250 2.1.5", "quarantine", "release", kept)
	s.awaitLog("quarantine: released by command")
	got := s.backend.Messages()
	if len(got) != 1 || !strings.HasSuffix(string(got[0].Data), "Subject: money\r\nX-Evil: \x1b]0;owned\x07\r\n\r\n.hello\r\n") ||
		!strings.HasPrefix(string(got[0].Data), "Authentication-Results: mx.example.org;") || got[0].Client.Addr().String() != "127.0.0.1" || got[0].Helo != "client.example.net" {
		t.Errorf("released: %+v", got)
	}
	s.expect(1, "there is no such message in quarantine", "quarantine", "release", kept)

	s.reload("the new configuration is in force") // it is released by what is in force
	s.expect(0, copied+" is released.", "quarantine", "release", copied)
	s.expect(0, third+" is deleted.", "quarantine", "delete", third)
	s.expect(1, "there is no such message in quarantine", "quarantine", "delete", third)
	s.expect(1, "there is no such message in quarantine", "quarantine", "show", "../../LOCK")
	s.expect(0, "0 in quarantine, 0 bytes", "quarantine", "list")
	fourth := s.deliver("money", "250 2.0.0 Message received")
	s.signal(syscall.SIGTERM)
	if status := s.exit(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	s.expect(0, "`gatepost quarantine show "+fourth+"` shows it", "why", fourth)
	s.expect(0, `"kept":"`+fourth+`"`, "journal", "--json", "--where", `note == "kept in quarantine"`)
}

// Before anything is removed the operator hears of it wherever he looks.
func TestWhatExpiresIsToldBefore(t *testing.T) {
	s := startServe(t, suspicious+"admin: 127.0.0.1:0\nquarantine: {keep: 1h, warn: 1h}\n")
	id := s.deliver("money", "250 2.0.0 Message received")
	if list := s.expect(0, "1 in quarantine", "quarantine", "list"); strings.Contains(list, "soon") {
		t.Errorf("too early:\n%s", list)
	}
	s.signal(syscall.SIGTERM)
	s.exit()
	s.run() // it looks at once, and once a minute
	s.awaitLog("quarantine: messages are going to be removed")
	s.expect(0, "1 will be removed soon", "quarantine", "list")
	for path, want := range map[string]string{
		"/": "messages in quarantine that will be removed soon: 1", "/quarantine": ">soon</span>", "/api/quarantine": `"expiring":true`,
		"/metrics": "\ngatepost_quarantine_expiring_messages 1\n",
	} {
		if status, text := s.page("http", path, ""); status != 200 || !strings.Contains(text, want) {
			t.Errorf("%s: %d, without %q (message %s)", path, status, want, id)
		}
	}
}

func TestAQuarantineThatCannotWrite(t *testing.T) {
	s := startServe(t, suspicious)
	if err := os.Remove(filepath.Join(s.folder, "state", "quarantine", "tmp")); err != nil { // a mode would not stop root
		t.Fatal(err)
	}
	s.deliver("money", "452 4.3.1 No room for this message now")
	s.awaitLog("quarantine: a message could not be kept")
	s.deliver("more money", "550 5.7.1 no")
	s.awaitLog("no copy of a refused message was kept")
	s.deliver("news", "250 2.0.0 Ok: queued as")
}

func TestReleaseWithoutABackend(t *testing.T) {
	s := startServe(t, suspicious+"quarantine: {path: kept, keep: 2d, size: 1MiB}\n")
	kept := s.deliver("money", "250")
	if _, err := os.Stat(filepath.Join(s.folder, "kept", "new", kept)); err != nil {
		t.Error(err)
	}
	s.backend.Close()
	s.expect(1, "backend ", "quarantine", "release", kept)
	s.expect(0, kept, "quarantine", "list", "--limit", "1")
}
