//go:build mta

package main

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/proxy/backend"
)

// header starts every message: servers add some of these fields where they are missing.
const header = "From: bob@example.net\r\nTo: alice@example.org\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.net>\r\n"

// cases are what an operator counts on, in this order: the last one kills the server.
var cases = []struct {
	name    string
	applies func(s *site) bool // nil: to all
	run     func(t *testing.T, s *site)
}{
	{"mail arrives with the client's address", nil, arrives},
	{"no keyword is offered that the server lacks", nil, offers},
	{"an unknown user is refused in the server's words", nil, refusesRecipient},
	{"many recipients are refused", nil, refusesMany},
	{"a message is refused in the server's words", nil, refusesMessage},
	{"a greylisted sender passes on retry", nil, greylistsMail},
	{"20 MiB", nil, func(t *testing.T, s *site) {
		mustArrive(t, s, header+"Subject: large\r\n\r\n"+strings.Repeat(strings.Repeat("0123456789abcdef", 4)+"\r\n", 20<<20/66), "")
	}},
	{"8-bit", nil, func(t *testing.T, s *site) {
		mustArrive(t, s, header+"Subject: eight\r\n\r\nGr\xc3\xbc\xc3\x9fe \xe4\xf6\xfc\r\n", " BODY=8BITMIME")
	}},
	{"SMTPUTF8", carries("SMTPUTF8"), func(t *testing.T, s *site) {
		mustArrive(t, s, header+"Subject: Gr\xc3\xbc\xc3\x9fe\r\n\r\nutf8\r\n", " SMTPUTF8")
	}},
	{"no SMTPUTF8", lacks("SMTPUTF8"), refusesUTF8},
	{"dots, blanks and long lines", nil, func(t *testing.T, s *site) {
		mustArrive(t, s, header+"Subject:  dots \r\nX-Folded: a\r\n\t b \r\n\r\n.\r\n..\r\n.x\r\n \t \r\n\r\n"+
			strings.Repeat("y", 998)+"\r\nFrom here\r\n>From there\r\n\r\n", "")
	}},
	{"BDAT", carries("CHUNKING"), chunks},
	{"a client that pipelines", nil, pipelines},
	{"the next transaction with the message", nil, hurries},
	{"several messages and EHLOs in a session", nil, repeats},
	{"TLS", nil, secure},
	{"a user signs in", func(s *site) bool { return s.mta.wrong != "" }, signsIn},
	{"the server has nothing to complain of", nil, complains},
	{"the server dies in mid-message", nil, dies},
}

func carries(keyword string) func(s *site) bool {
	return func(s *site) bool { return !slices.Contains(s.mta.lacks, keyword) }
}

func lacks(keyword string) func(s *site) bool {
	return func(s *site) bool { return slices.Contains(s.mta.lacks, keyword) }
}

// arrives looks for the client's address in the server's own Received field, which is the topmost one.
func arrives(t *testing.T, s *site) {
	body := header + "Subject: hello\r\n\r\nHello.\r\n"
	arrived := deliver(t, s, body, "")
	mustEnd(t, arrived, body)
	own, others := received(arrived)
	if s.way == backend.NoAddress {
		if !strings.Contains(own, s.front.host+"]") || !strings.Contains(others, "["+stranger+"]") {
			t.Errorf("%s is not the client's field, or Gatepost's below does not name %s:\n%s", own, stranger, arrived)
		}
		return
	}
	if !strings.Contains(own, "["+stranger+"]") && !strings.Contains(own, "[::ffff:"+stranger+"]") {
		t.Errorf("no [%s] in the server's field:\n%s", stranger, arrived)
	}
	if s.mta.names && s.way == backend.XClient && !strings.Contains(own, strangerName+" ["+stranger+"]") {
		t.Errorf("no %s [%s] in the server's field:\n%s", strangerName, stranger, arrived)
	}
}

// received returns the first Received field and what follows.
func received(message []byte) (own, others string) {
	text := strings.ReplaceAll(strings.ReplaceAll(string(message), "\n\t", " "), "\n ", " ")
	_, text, _ = strings.Cut("\n"+text, "\nReceived:")
	own, others, _ = strings.Cut(text, "\n")
	return own, others
}

// offers compares the answer to EHLO with what is known of the server.
func offers(t *testing.T, s *site) {
	got := s.dial(t).say("EHLO client.example.net", "250")
	for _, keyword := range []string{"PIPELINING", "SIZE", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN", "SMTPUTF8", "CHUNKING", "STARTTLS"} {
		if offered := strings.Contains(got, keyword); offered == slices.Contains(s.mta.lacks, keyword) {
			t.Errorf("%s is offered: %v, in %q", keyword, offered, got)
		}
	}
}

func refusesRecipient(t *testing.T, s *site) {
	c := s.dial(t)
	c.say("EHLO client.example.net", "250")
	c.say("MAIL FROM:<bob@example.net>", "250")
	if got := c.say("RCPT TO:<noone@example.org>", "5"); got != s.mta.unknown {
		t.Errorf("got %q, want %q", got, s.mta.unknown)
	}
	c.say("RCPT TO:<someone@example.com>", "550 5.7.1")
}

// refusesMany ends with a recipient who is there. A server that takes its time for refusals may be given up meanwhile.
func refusesMany(t *testing.T, s *site) {
	body := header + "Subject: many\r\n\r\nx\r\n"
	c := s.dial(t)
	c.say("EHLO client.example.net", "250")
	c.say("MAIL FROM:<bob@example.net>", "250")
	for i := range 3 {
		got := c.say(fmt.Sprintf("RCPT TO:<noone%d@example.org>", i), "")
		if own := strings.Replace(s.mta.unknown, "noone", fmt.Sprint("noone", i), 1); got != own && !strings.HasPrefix(got, "451 4.4.1") {
			t.Errorf("got %q, want %q", got, own)
		}
	}
	c.say("RCPT TO:<alice@example.org>", "250")
	c.message(body, "250")
	mustEnd(t, s.message(t), body)
}

func refusesMessage(t *testing.T, s *site) {
	c := s.dial(t)
	c.transaction("alice@example.org", "")
	if got := c.message(s.mta.content.body, "5"); got != s.mta.content.reply {
		t.Errorf("got %q, want %q", got, s.mta.content.reply)
	}
	body := header + "Subject: the next one\r\n\r\nx\r\n"
	c.transaction("alice@example.org", "")
	c.message(body, "250")
	mustEnd(t, s.message(t), body)
}

func greylistsMail(t *testing.T, s *site) {
	body := header + "Subject: grey\r\n\r\nAgain.\r\n"
	attempt := func(want string) {
		c := s.dial(t)
		c.say("EHLO client.example.net", "250")
		c.say("MAIL FROM:<grey@example.com>", "250")
		c.say("RCPT TO:<alice@example.org>", want)
		if want == "250" {
			c.message(body, "250")
		}
	}
	attempt("451 4.7.1")
	time.Sleep(2 * time.Second) // the configured greylist delay is one second; the server is another process
	attempt("250")
	mustEnd(t, s.message(t), body)
	listed, err := exec.Command(binary(t), "greylist", "list", "-c", s.configuration).CombinedOutput()
	if err != nil || !strings.Contains(string(listed), "passed") {
		t.Errorf("greylist list: %v\n%s", err, listed)
	}
}

func refusesUTF8(t *testing.T, s *site) {
	c := s.dial(t)
	c.say("EHLO client.example.net", "250")
	c.say("MAIL FROM:<bob@example.net> SMTPUTF8", "550 5.6.7")
	c.say("MAIL FROM:<bob@example.net>", "250")
	c.say("RCPT TO:<älice@example.org>", "553 5.6.7")
}

func chunks(t *testing.T, s *site) {
	first, second := header+"Subject: chunks\r\n\r\nOne.\r\n.\r\n", "Two.\r\n"
	c := s.dial(t)
	c.transaction("alice@example.org", "")
	c.raw(fmt.Sprintf("BDAT %d\r\n%s", len(first), first), "250")
	c.raw(fmt.Sprintf("BDAT %d LAST\r\n%s", len(second), second), "250")
	mustEnd(t, s.message(t), first+second)
}

// pipelines sends what RFC 2920 lets a client send in one go; some servers hang up on whoever does that to them.
func pipelines(t *testing.T, s *site) {
	body := header + "Subject: pipeline\r\n\r\nx\r\n"
	c := s.dial(t)
	c.say("EHLO client.example.net", "250")
	for range 2 {
		c.raw("MAIL FROM:<bob@example.net>\r\nRCPT TO:<alice@example.org>\r\nRCPT TO:<noone@example.org>\r\nDATA\r\n", "250")
		c.expect("250")
		if got := c.expect("5"); got != s.mta.unknown {
			t.Errorf("got %q, want %q", got, s.mta.unknown)
		}
		c.expect("354")
		c.raw(body+".\r\nNOOP\r\nRSET\r\n", "250")
		c.expect("250")
		c.expect("250")
		mustEnd(t, s.message(t), body)
	}
	c.say("QUIT", "221")
}

// hurries sends the next transaction behind each message, as RFC 2920, 3.1 allows. A rule accepts the client from the start,
// so that the server hears it with the message.
func hurries(t *testing.T, s *site) {
	c := s.dial(t)
	c.say("EHLO hurry.example.net", "250")
	const envelope = "MAIL FROM:<bob@example.net>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n"
	c.write(envelope)
	for i := range 3 {
		c.expect("250")
		c.expect("250")
		c.expect("354")
		body := fmt.Sprintf("%sSubject: number %d\r\n\r\nx\r\n", header, i)
		behind := envelope
		if i == 2 {
			behind = "QUIT\r\n"
		}
		c.raw(body+".\r\n"+behind, "250")
		mustEnd(t, s.message(t), body)
	}
	c.expect("221")
}

func repeats(t *testing.T, s *site) {
	c := s.dial(t)
	for i := range 3 {
		body := fmt.Sprintf("%sSubject: number %d\r\n\r\nx\r\n", header, i)
		c.say("EHLO client.example.net", "250")
		c.transaction("alice@example.org", "")
		c.say("RSET", "250")
		c.transaction("alice@example.org", "")
		c.message(body, "250")
		mustEnd(t, s.message(t), body)
	}
}

func secure(t *testing.T, s *site) {
	body := header + "Subject: tls\r\n\r\nSecret.\r\n"
	c := s.dial(t)
	c.startTLS()
	c.transaction("alice@example.org", "")
	c.message(body, "250")
	mustEnd(t, s.message(t), body)
}

// signsIn hands in mail as a user of the server (RFC 4954, RFC 6409).
func signsIn(t *testing.T, s *site) {
	plain := func(password string) string {
		return "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+userName+"\x00"+password))
	}
	c := s.dialPort(t, s.submission)
	if got := c.say("EHLO client.example.net", "250"); strings.Contains(got, "AUTH") {
		t.Errorf("AUTH is offered in the clear: %q", got)
	}
	c.startTLS()
	if got := c.say("EHLO client.example.net", "250"); !strings.Contains(got, "AUTH") || !strings.Contains(got, "PLAIN") {
		t.Errorf("no AUTH PLAIN in %q", got)
	}
	c.say("MAIL FROM:<alice@example.org>", "530 5.7.0")
	if got := c.say(plain("not it"), "535"); got != s.mta.wrong {
		t.Errorf("got %q, want %q", got, s.mta.wrong)
	}
	c.say(plain(userPassword), "235")
	c.say("MAIL FROM:<alice@example.org>", "250")
	c.say("RCPT TO:<someone@example.com>", "250") // users may send anywhere
	c.say("RSET", "250")
	body := header + "Subject: submission\r\n\r\nx\r\n"
	c.say("MAIL FROM:<alice@example.org>", "250")
	c.say("RCPT TO:<alice@example.org>", "250")
	c.message(body, "250")
	arrived := s.message(t)
	mustEnd(t, arrived, body)
	if own, _ := received(arrived); !withAuth.MatchString(own) || !strings.Contains(own, stranger) {
		t.Errorf("the server's field does not name the client: %s", own)
	}
}

// withAuth is the protocol of a session with AUTH, with or without TLS (RFC 3848).
var withAuth = regexp.MustCompile("(?i)esmtps?a")

func complains(t *testing.T, s *site) {
	log := s.readLog()
	if s.eager { // which it lets pass, and remarks upon: so the manual says
		log = strings.ReplaceAll(log, "improper command pipelining after", "")
	}
	for _, complaint := range []string{"improper command pipelining", "synchronization error", "unauthorized PIPELINING", "lost input channel"} {
		if strings.Contains(log, complaint) {
			t.Errorf("%s's log has %q:\n%s", s.mta.name, complaint, tail(log, 20))
		}
	}
}

func dies(t *testing.T, s *site) {
	c := s.dial(t)
	c.transaction("alice@example.org", "")
	c.say("DATA", "354")
	c.write(header + "Subject: lost\r\n\r\nHalf a mess")
	s.kill()
	c.raw("age.\r\n.\r\n", "4")
	c.say("NOOP", "250")
}

// mustArrive delivers body to alice and compares.
func mustArrive(t *testing.T, s *site, body, params string) {
	t.Helper()
	mustEnd(t, deliver(t, s, body, params), body)
}

// deliver sends one message and returns what arrived.
func deliver(t *testing.T, s *site, body, params string) []byte {
	t.Helper()
	c := s.dial(t)
	recipient := "alice@example.org"
	if params == " SMTPUTF8" {
		recipient = "älice@example.org"
	}
	c.transaction(recipient, params)
	c.message(body, "250")
	c.say("QUIT", "221")
	return s.message(t)
}

// mustEnd compares what arrived, below the fields that servers put on top, with what was sent. All servers store
// messages with the system's line ends.
func mustEnd(t *testing.T, arrived []byte, sent string) {
	t.Helper()
	want := []byte(strings.ReplaceAll(sent, "\r\n", "\n"))
	if !bytes.HasSuffix(arrived, want) {
		t.Errorf("%d bytes arrived and do not end in the %d bytes sent; the last are %q", len(arrived), len(want), tail(string(arrived), 12))
		return
	}
	for line := range strings.Lines(string(arrived[:len(arrived)-len(want)])) {
		name, _, _ := strings.Cut(line, ":")
		if !slices.Contains([]string{"return-path", "received", "delivered-to", "x-original-to", "authentication-results"}, strings.ToLower(name)) && !strings.ContainsAny(line[:1], " \t") {
			t.Errorf("on top stands %q", line)
		}
	}
}

var anyCertificate = &tls.Config{InsecureSkipVerify: true}
