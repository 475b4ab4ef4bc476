package main

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-milter"
)

// learnedZone: no client has a name, so that all are suspicious.
const learnedZone = `
shop.test     TXT  v=spf1 ip4:198.51.100.0/22 -all
partner.test  TXT  v=spf1 ip4:198.51.100.0/22 -all
wide.test     TXT  v=spf1 +all
`

// caller is a client at some address.
func (s *served) caller(client string) *smtpClient {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "PROXY TCP4 %s 192.0.2.25 4000 25\r\n", client)
	c := newSMTPClient(s.t, conn)
	c.expect("220 mx.example.org")
	c.say("EHLO client.example.net", "250")
	return c
}

// offer begins a transaction and returns the code for its recipient; what is taken is delivered.
func (s *served) offer(client, sender string) string {
	s.t.Helper()
	c := s.caller(client)
	defer c.conn.Close()
	c.say("MAIL FROM:<"+sender+">", "250")
	code := c.say("RCPT TO:<alice@example.org>", "")[:3]
	if code == "250" {
		c.say("DATA", "354")
		c.say("Subject: x\r\n\r\ny\r\n.", "250")
	}
	return code
}

func (s *served) wantOffer(client, sender, want string) {
	s.t.Helper()
	if got := s.offer(client, sender); got != want {
		s.t.Errorf("%s from %s: %s, want %s", sender, client, got, want)
	}
}

// until repeats what needs a moment.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("in vain: " + what)
		}
	}
}

func (s *served) lists(memory, text string) bool {
	s.t.Helper()
	output, status := s.command(memory, "list")
	if status != 0 {
		s.t.Fatalf("%s list: %s", memory, output)
	}
	return strings.Contains(output, text)
}

func startLearning(t *testing.T) (s *served, milterSocket string) {
	socket := filepath.Join(t.TempDir(), "m.sock")
	return startServeWith(t, settingsWithout("resolver")+fmt.Sprintf("resolver: {servers: [%q], timeout: 1s, attempt: 500ms}\n", serveZone(t, learnedZone))+
		"filters: {earlytalker: {enabled: false}, ratelimit: {enabled: false}, greylist: {delay: 1s}}\n"+
		fmt.Sprintf("milter: [{address: %q}]\n", "unix:"+socket)+
		"listen: {address: '127.0.0.1:0', proxy_from: [127.0.0.1]}\n"), socket
}

// The default rules: a code of a shop waits once, and none of that shop's ever again.
func TestAKnownSenderIsNotDelayed(t *testing.T) {
	s, _ := startLearning(t)
	s.wantOffer("198.51.100.7", "codes@shop.test", "451")
	s.wantOffer("198.51.100.7", "a@wide.test", "451")
	until(t, "the retry from another network", func() bool { return s.offer("198.51.101.9", "codes@shop.test") == "250" })
	until(t, "the shop becomes known", func() bool { return s.lists("known", "codes@shop.test") })
	s.wantOffer("198.51.102.3", "news@shop.test", "250")
	s.wantOffer("203.0.113.5", "codes@shop.test", "451")
	s.wantOffer("198.51.101.9", "a@wide.test", "451")
	until(t, "the retry from its own network", func() bool { return s.offer("198.51.100.7", "a@wide.test") == "250" })
	s.wantOffer("198.51.103.9", "b@wide.test", "451")

	if text, status := s.command("known", "show", "codes@shop.test"); status != 0 || !strings.Contains(text, "\n  kind      sender\n  seen      1\n") {
		t.Errorf("show: %d, %s", status, text)
	}
	if s.lists("known", "wide.test") || s.lists("pools", "wide.test") || !s.lists("pools", "shop.test") {
		t.Error("the lists are wrong")
	}
	if text, status := s.command("known", "forget", "shop.test"); status != 0 || !strings.HasPrefix(text, "Forgotten: ") {
		t.Errorf("forget: %d, %s", status, text)
	}
	s.awaitLog("learned: forgotten by command")
	if text, status := s.command("pools", "forget", "shop.test"); status != 0 || text != "Forgotten: 1\n" {
		t.Errorf("forget: %d, %s", status, text)
	}
	s.wantOffer("198.51.102.9", "more@shop.test", "451")
	for _, arguments := range [][]string{{"known", "forget", "x"}, {"pools", "list", "a@b.test"}, {"correspondents", "show", "@"}} {
		if text, status := s.command(arguments...); status != 1 || !strings.HasPrefix(text, "gatepost: ") {
			t.Errorf("%q: %d, %s", arguments, status, text)
		}
	}
}

// The default rules: whom a user has written to is not greylisted, and nobody else in his name.
func TestAnAnswerIsNotDelayed(t *testing.T) {
	s, socket := startLearning(t)
	handIn(t, socket, "anna@example.org", "bob@partner.test", "ben@example.org")
	until(t, "the correspondent becomes known", func() bool { return s.lists("correspondents", "bob@partner.test") })
	if s.lists("correspondents", "ben@example.org") {
		t.Error("one of our own users is a correspondent")
	}
	s.wantOffer("203.0.113.5", "bob@partner.test", "451")
	s.wantOffer("198.51.100.7", "carol@partner.test", "451")
	s.wantOffer("198.51.100.7", "bob@partner.test", "250")
	if text, status := s.command("correspondents", "forget", "partner.test"); status != 0 || text != "Forgotten: 1\n" {
		t.Errorf("forget: %d, %s", status, text)
	}
}

// handIn is an MTA that asks about mail which came to it without SMTP.
func handIn(t *testing.T, socket, from string, to ...string) {
	t.Helper()
	client := milter.NewClientWithOptions("unix", socket, milter.ClientOptions{ActionMask: 0x1ff, ProtocolMask: 0x1ffbff,
		ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second})
	s, err := client.Session()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	must := func(a *milter.Action, err error) {
		t.Helper()
		if err != nil || a.Code != milter.ActContinue && a.Code != milter.ActAccept {
			t.Fatalf("%+v, %v", a, err)
		}
	}
	must(s.Conn("localhost", milter.FamilyInet, 0, "127.0.0.1"))
	must(s.Helo("localhost"))
	must(s.Mail(from, nil))
	for _, address := range to {
		must(s.Rcpt(address, nil))
	}
	must(s.HeaderField("Subject", "x"))
	must(s.HeaderEnd())
	_, a, err := s.End()
	must(a, err)
}
