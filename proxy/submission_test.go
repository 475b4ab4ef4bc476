package proxy

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/proxy/backend"
	"gatepost/proxy/backend/backendtest"
	"gatepost/rules"
)

// secrets is what must be in no log and no record.
var secrets = []string{"open sesame", base64.StdEncoding.EncodeToString([]byte("open sesame")), "hang up", "aGFuZyB1"}

func encode(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// users is a backend's side of AUTH: everybody whose response holds "open sesame" is let in.
type users struct {
	mu      sync.Mutex // guards all below
	pending map[*backendtest.Session]string
	heard   []string
}

func (u *users) answer(s *backendtest.Session, line string) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.pending == nil {
		u.pending = map[*backendtest.Session]string{}
	}
	step, open := u.pending[s]
	if !open && !strings.HasPrefix(line, "AUTH ") {
		return ""
	}
	u.heard = append(u.heard, line)
	response := line
	if !open {
		_, arg, _ := strings.Cut(line, " ")
		mechanism, initial, _ := strings.Cut(arg, " ")
		step, response = mechanism+" 1", initial
		if initial == "" {
			u.pending[s] = step
			return "334 " + encode("go on")
		}
	}
	delete(u.pending, s)
	text, _ := base64.StdEncoding.DecodeString(response)
	switch {
	case line == "*":
		return "501 5.7.0 Authentication aborted"
	case step == "LOGIN 1":
		u.pending[s] = "LOGIN 2"
		return "334 " + encode("Password:")
	case strings.Contains(string(text), "open sesame"):
		return "235 2.7.0 Welcome"
	case strings.Contains(string(text), "hang up"):
		return backendtest.Hangup
	}
	return "535-5.7.8 Authentication failed\r\n535 5.7.8 for once and all"
}

func (u *users) take() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	heard := u.heard
	u.heard = nil
	return heard
}

var authKeywords = []string{"PIPELINING", "SIZE 1000000", "8BITMIME", "AUTH PLAIN LOGIN CRAM-MD5 SCRAM-SHA-256 EXTERNAL GSSAPI SCRAM-SHA-256-PLUS", "ENHANCEDSTATUSCODES"}

// submission is a house with a listener for users, who come from 192.0.2.7.
func submission(t *testing.T, change func(*setup)) (*house, *users) {
	t.Helper()
	u := &users{}
	s := setup{
		listen:  Listen{Certificate: certificate(t), Submission: true, ProxyFrom: prefixes("127.0.0.1/32")},
		backend: backendtest.Behaviour{Keywords: authKeywords, Answer: u.answer, Domains: []string{"example.com"}},
		domains: []string{"example.com"},
	}
	if change != nil {
		change(&s)
	}
	var h *house
	t.Cleanup(func() { // when all is over
		for _, secret := range secrets {
			if strings.Contains(h.log.String(), secret) || strings.Contains(fmt.Sprintf("%+v", h.journal.records), secret) {
				t.Errorf("a secret is in the log or the journal")
			}
		}
	})
	h = start(t, s)
	return h, u
}

// user connects from an address and goes over to TLS.
func (h *house) user(from string) *client {
	h.t.Helper()
	c := h.dial()
	c.send("PROXY TCP4 " + from + " 192.0.2.1 4000 587\r\n")
	c.expect("220 ")
	c.say("EHLO client.test", "250")
	c.say("STARTTLS", "220")
	c.upgrade()
	return c
}

func TestSubmissionNeedsTLSAndAuth(t *testing.T) {
	h, u := submission(t, nil)
	c := h.dial()
	c.send("PROXY TCP4 192.0.2.7 192.0.2.1 4000 587\r\n")
	c.expect("220 ")
	if reply := c.say("EHLO client.test", "250"); strings.Contains(reply, "AUTH") || !strings.Contains(reply, "STARTTLS") {
		t.Errorf("in the clear: %q", reply)
	}
	c.say("MAIL FROM:<a@example.com>", "530 5.7.0 Must issue a STARTTLS")
	c.say("AUTH PLAIN "+encode("\x00anna\x00open sesame"), "530 5.7.0")
	c.say("STARTTLS", "220")
	c.upgrade()
	if reply := c.say("EHLO client.test", "250"); !strings.HasSuffix(reply, " AUTH PLAIN LOGIN CRAM-MD5 SCRAM-SHA-256") {
		t.Errorf("with TLS: %q", reply)
	}
	c.say("MAIL FROM:<a@example.com>", "530 5.7.0 Authentication required")
	c.say("RCPT TO:<b@example.com>", "503 5.5.1")
	c.say("AUTH GSSAPI", "504 5.5.4")
	c.say("AUTH FOO", "504 5.5.4")
	c.say("AUTH PLAIN "+encode("\x00anna\x00open sesame"), "235 2.7.0 Welcome")
	c.say("AUTH PLAIN "+encode("\x00anna\x00open sesame"), "503 5.5.1")
	c.say("MAIL FROM:<a@example.com> AUTH=<>", "250")
	c.say("RCPT TO:<b@example.com>", "250")
	c.say("DATA", "354")
	c.say("x: y\r\n.", "250 2.0.0")
	c.say("QUIT", "221")
	if heard := u.take(); len(heard) != 1 || heard[0] != "AUTH PLAIN "+encode("\x00anna\x00open sesame") {
		t.Errorf("the backend heard %q", heard)
	}
	if m := h.backends[0].Messages(); len(m) != 1 || m[0].From != "<a@example.com> AUTH=<>" || m[0].Client.Addr().String() != "192.0.2.7" {
		t.Errorf("delivered: %+v", m)
	}
	if user := h.journal.transactions()[0].Greeting.AuthUser; user != "anna" {
		t.Errorf("the record names %q", user)
	}
}

// Every line of an exchange passes as it is, in both directions.
func TestAuthIsRelayed(t *testing.T) {
	h, u := submission(t, nil)
	long := encode(strings.Repeat("x", 9000) + "open sesame")
	for _, test := range []struct {
		name string
		say  []string // command or response, and the reply to it
		user string   // signed in as
	}{
		{"PLAIN later", []string{"AUTH PLAIN", "334 Z28gb24=", encode("\x00anna\x00open sesame"), "235 2.7.0 Welcome"}, "anna"},
		{"lower case", []string{"auth plain " + encode("x\x00anna\x00open sesame"), "235 2.7.0 Welcome"}, "anna"},
		{"LOGIN", []string{"AUTH LOGIN", "334 Z28gb24=", encode("anna"), "334 UGFzc3dvcmQ6", encode("open sesame"), "235 2.7.0 Welcome"}, "anna"},
		{"LOGIN at once", []string{"AUTH LOGIN " + encode("anna"), "334 UGFzc3dvcmQ6", encode("open sesame"), "235 2.7.0 Welcome"}, "anna"},
		{"CRAM-MD5", []string{"AUTH CRAM-MD5", "334 Z28gb24=", encode("anna open sesame"), "235 2.7.0 Welcome"}, "anna open"},
		{"SCRAM", []string{"AUTH SCRAM-SHA-256 " + encode("n,,n=anna,r=open sesame"), "235 2.7.0 Welcome"}, "anna"},
		{"long", []string{"AUTH PLAIN", "334 Z28gb24=", long, "235 2.7.0 Welcome"}, unknownUser},
		{"like a command", []string{"AUTH LOGIN", "334 Z28gb24=", "QUIT", "334 UGFzc3dvcmQ6", "RSET", "535-5.7.8 Authentication failed\n535 5.7.8 for once and all"}, ""},
		{"cancelled", []string{"AUTH LOGIN", "334 Z28gb24=", "*", "501 5.7.0 Authentication aborted"}, ""},
		{"wrong", []string{"AUTH PLAIN " + encode("\x00anna\x00guess"), "535-5.7.8 Authentication failed\n535 5.7.8 for once and all"}, ""},
		{"empty", []string{"AUTH PLAIN =", "535-5.7.8 Authentication failed\n535 5.7.8 for once and all"}, ""},
	} {
		u.take()
		c := h.user("192.0.2.7")
		c.say("EHLO client.test", "250")
		var want []string
		for i := 0; i < len(test.say); i += 2 {
			c.send(test.say[i] + "\r\n")
			if got := c.reply(); got != test.say[i+1] {
				t.Fatalf("%s: %.40q: %q", test.name, test.say[i], got)
			}
			want = append(want, test.say[i])
		}
		if strings.HasPrefix(want[0], "auth") {
			want[0] = "AUTH" + want[0][4:]
		}
		if got := u.take(); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s: the backend heard %.200q", test.name, got)
		}
		expected := "530 5.7.0"
		if test.user != "" {
			expected = "250"
		}
		c.say("MAIL FROM:<a@example.com>", expected)
		c.say("QUIT", "221")
		c.expect("EOF")
		if test.user != "" && !strings.Contains(h.log.String(), fmt.Sprintf("user=%s", test.user)) && !strings.Contains(h.log.String(), fmt.Sprintf("user=%q", test.user)) {
			t.Errorf("%s: %s is not in the log", test.name, test.user)
		}
	}
}

// A line that is too long, or is none, ends the exchange on both sides: what follows is a command again.
func TestAuthExchangeSpoilt(t *testing.T) {
	h, u := submission(t, nil)
	for _, line := range []string{strings.Repeat("A", maxAuthLine), "a\x01b", "a\nb"} {
		c := h.user("192.0.2.7")
		c.say("EHLO client.test", "250")
		c.say("AUTH LOGIN", "334")
		c.say(line, "500 5.5.")
		c.say("NOOP", "250")
		c.say("AUTH PLAIN "+encode("\x00anna\x00open sesame"), "235")
		if heard := u.take(); len(heard) != 3 || heard[1] != "*" {
			t.Errorf("the backend heard %q", heard)
		}
		c.say("NOOP "+strings.Repeat("x", 5000), "500 5.5.2")
		c.say("QUIT", "221")
	}
}

// No two users, and nobody else, are ever served by the same session of the backend.
func TestSubmissionIsNotReused(t *testing.T) {
	h, _ := submission(t, nil)
	server := h.backends[0]
	before := len(server.Sessions())
	for range 3 {
		c := h.user("192.0.2.7")
		if n := len(server.Sessions()) - before; n != 0 {
			t.Errorf("%d sessions before EHLO", n)
		}
		c.say("EHLO client.test", "250")
		if n := len(server.Sessions()) - before; n != 1 {
			t.Errorf("%d sessions behind EHLO", n)
		}
		c.say("AUTH PLAIN "+encode("\x00anna\x00open sesame"), "235")
		c.say("EHLO client.test", "250") // the user stays
		c.say("MAIL FROM:<a@example.com>", "250")
		c.say("RSET", "250")
		c.say("MAIL FROM:<a@example.com>", "250")
		c.say("QUIT", "221")
		c.expect("EOF")
		if n := len(server.Sessions()) - before; n != 1 {
			t.Errorf("%d sessions for one user", n)
		}
		before++
	}
}

// While a user thinks, the backend waits: nobody could sign in again in his name.
func TestSubmissionKeepsItsBackend(t *testing.T) {
	h, _ := submission(t, func(s *setup) { s.hold = 50 * time.Millisecond })
	c := h.user("192.0.2.7")
	c.say("EHLO client.test", "250")
	c.say("AUTH PLAIN "+encode("\x00anna\x00open sesame"), "235")
	before := len(h.backends[0].Sessions())
	time.Sleep(300 * time.Millisecond) // longer than hold, and the parker's ticks
	c.say("MAIL FROM:<a@example.com>", "250")
	c.say("RCPT TO:<b@example.com>", "250")
	c.say("DATA", "354")
	time.Sleep(300 * time.Millisecond)
	c.say("x: y\r\n.", "250 2.0.0")
	if n := len(h.backends[0].Sessions()); n != before {
		t.Errorf("%d more sessions", n-before)
	}
	h.backends[0].CloseSessions()
	c.say("MAIL FROM:<a@example.com>", "421 4.4.1")
	c.expect("EOF")
}

func TestSubmissionWithoutBackend(t *testing.T) {
	h, _ := submission(t, nil)
	c := h.user("192.0.2.7")
	h.backends[0].Close()
	c.say("EHLO client.test", "421 4.4.1")
	c.expect("EOF")
}

func TestBackendLostInAuth(t *testing.T) {
	h, _ := submission(t, nil)
	c := h.user("192.0.2.7")
	c.say("EHLO client.test", "250")
	c.say("AUTH LOGIN "+encode("hang up"), "334")
	c.say(encode("hang up"), "454 4.7.0")
	c.say("AUTH PLAIN "+encode("\x00anna\x00open sesame"), "235")
	c.say("MAIL FROM:<a@example.com>", "250")
}

func TestAuthFailuresAreLimited(t *testing.T) {
	clock := &hand{now: time.Now()}
	h, u := submission(t, func(s *setup) {
		s.clock = clock
		s.limits = func(l *Limits) { l.AuthFailures = 3 }
	})
	c := h.user("192.0.2.7")
	c.say("EHLO client.test", "250")
	c.say("AUTH LOGIN", "334")
	c.say("*", "501") // does not count
	for range 3 {
		c.say("AUTH PLAIN "+encode("\x00anna\x00guess"), "535")
	}
	u.take()
	c.say("AUTH PLAIN "+encode("\x00anna\x00open sesame"), "421 4.7.0")
	c.expect("EOF")
	if heard := u.take(); len(heard) > 0 {
		t.Errorf("the backend was asked: %q", heard)
	}
	again := h.dial()
	again.send("PROXY TCP4 192.0.2.7 192.0.2.1 4000 587\r\n")
	again.expect("421 4.7.0")
	other := h.user("192.0.2.8")
	other.say("EHLO client.test", "250")
	other.say("AUTH PLAIN "+encode("\x00anna\x00open sesame"), "235")
	clock.advance(failureSpan)
	c = h.user("192.0.2.7")
	c.say("EHLO client.test", "250")
	c.say("AUTH PLAIN "+encode("\x00anna\x00open sesame"), "235")
}

// Rules know who has signed in; a trusted client need not.
func TestSubmissionRules(t *testing.T) {
	rule := []rules.Definition{definition(map[string]string{"name": "blocked", "when": `client.authenticated and helo.user == "berta"`, "then": "reject",
		"reply": "550 5.7.1 {helo.user} is blocked"})}
	h, _ := submission(t, func(s *setup) { s.rules, s.trusted = rule, []string{"192.0.2.9/32"} })
	for user, reply := range map[string]string{"anna": "554 5.7.1", "berta": "550 5.7.1 berta is blocked"} { // the backend has its own mind about relaying
		c := h.user("192.0.2.7")
		c.say("EHLO client.test", "250")
		c.say("AUTH PLAIN "+encode("\x00"+user+"\x00open sesame"), "235")
		c.say("MAIL FROM:<a@example.com>", "250")
		c.say("RCPT TO:<b@elsewhere.test>", reply)
		c.say("QUIT", "221")
	}
	c := h.user("192.0.2.9")
	c.say("EHLO client.test", "250")
	c.say("MAIL FROM:<a@example.com>", "250")
}

// On the machine itself nothing has to be encrypted.
func TestSubmissionOnLoopback(t *testing.T) {
	h, _ := submission(t, func(s *setup) { s.listen.ProxyFrom = nil })
	c := h.dial()
	c.expect("220 ")
	if reply := c.say("EHLO client.test", "250"); !strings.Contains(reply, "AUTH PLAIN") {
		t.Errorf("not offered: %q", reply)
	}
	c.say("AUTH PLAIN "+encode("\x00anna\x00open sesame"), "235")
	c.say("STARTTLS", "220")
	c.upgrade()
	c.say("EHLO client.test", "250")
	c.say("MAIL FROM:<a@example.com>", "530 5.7.0") // RFC 3207, 4.2
}

// A listener for servers has no AUTH, whatever the backend offers.
func TestNoAuthWithoutSubmission(t *testing.T) {
	h := start(t, setup{backend: backendtest.Behaviour{Keywords: authKeywords}})
	c := h.dial()
	c.expect("220 ")
	if reply := c.say("EHLO client.test", "250"); strings.Contains(reply, "AUTH") {
		t.Errorf("offered: %q", reply)
	}
	c.say("AUTH PLAIN", "502 5.5.1")
	c.say("MAIL FROM:<a@example.com> AUTH=<>", "555 5.5.4")
}

func TestForSubmission(t *testing.T) {
	config := backend.Default()
	config.Address = []string{"192.0.2.1:25"}
	if got := config.ForSubmission(); got.TLS != backend.TLSRequired || got.Reuse || got.Address[0] != "192.0.2.1:25" {
		t.Errorf("%+v", got)
	}
	config.Submission = []string{"127.0.0.1:10587"}
	if got := config.ForSubmission(); got.TLS != backend.TLSAuto || got.Address[0] != "127.0.0.1:10587" {
		t.Errorf("%+v", got)
	}
	config.Submission = []string{"127.0.0.1:10587", "mail.example.org:587"}
	config.TLS = backend.TLSVerified
	if got := config.ForSubmission(); got.TLS != backend.TLSVerified {
		t.Errorf("%+v", got)
	}
}

func FuzzUserOf(f *testing.F) {
	for _, m := range []string{"PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "XOAUTH2", "OAUTHBEARER"} {
		f.Add(m, encode("\x00anna\x00x"))
		f.Add(m, encode("n,,n=anna,r=x"))
		f.Add(m, encode("user=anna\x01auth=x"))
	}
	f.Fuzz(func(t *testing.T, mechanism, response string) {
		name := userOf(mechanism, response)
		if name == "" || len(name) > 255 || strings.ContainsAny(name, "\x00\r\n\x1b") {
			t.Errorf("%q", name)
		}
	})
}

func TestFailuresAreBounded(t *testing.T) {
	server := &Server{clock: &hand{now: time.Now()}}
	for i := range maxFailing + 100 {
		s := &session{server: server}
		s.info = infoFor(fmt.Sprintf("10.%d.%d.%d", i>>16&255, i>>8&255, i&255))
		server.failures.note(s)
	}
	if n := len(server.failures.networks); n > maxFailing {
		t.Errorf("%d networks", n)
	}
}

func infoFor(address string) *filters.Session {
	return &filters.Session{Client: filters.ClientAt(netip.AddrPortFrom(netip.MustParseAddr(address), 25))}
}
