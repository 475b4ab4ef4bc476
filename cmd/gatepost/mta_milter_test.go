//go:build mta

package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatepost/proxy/backend"
)

// Postfix and sendmail call Gatepost as a milter. The client talks to the MTA.
func TestMTAMilter(t *testing.T) {
	prepareRoot(t)
	for _, m := range []*mta{&postfix, &sendmail} {
		t.Run(m.name, func(t *testing.T) {
			for _, kind := range []string{"unix", "inet"} {
				t.Run(kind, func(t *testing.T) {
					way := backend.NoAddress
					if m == &postfix {
						way = backend.XClient
					}
					s := newSite(t, m, way)
					s.startMilter(t, kind)
					m.start(t, s)
					s.awaitListener(t)
					passed := 0
					for _, c := range milterCases {
						if c.only != nil && c.only != m {
							continue
						}
						if t.Run(c.name, func(t *testing.T) { c.run(t, s) }) {
							passed++
						}
					}
					fmt.Printf("mta %s by milter at %s: %d cases passed\n", m.name, kind, passed)
				})
			}
		})
	}
}

// startMilter runs the real binary as a milter until the test ends. MTAs see its socket below their root.
func (s *site) startMilter(t *testing.T, kind string) {
	t.Helper()
	folder := t.TempDir()
	socket := filepath.Join(s.root, "run", "gatepost.sock")
	os.Remove(socket)
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	s.milterAddress = "unix:" + socket
	s.milter = "unix:/run/gatepost.sock"
	if kind == "inet" {
		host, port, _ := net.SplitHostPort(s.front.freePort(t))
		s.milterAddress = "inet:" + host + ":" + port
		s.milter = "inet:" + port + "@" + host
		if s.mta == &postfix {
			s.milter = "inet:" + host + ":" + port
		}
	}
	s.configuration = filepath.Join(folder, "gatepost.yaml")
	write(t, s.configuration, fmt.Sprintf(`hostname: mx.example.org
domains: [example.org]
limits: {message_size: 10MiB}
milter: [{address: %q, mode: 0666}]
store: {path: %s/state}
resolver: {servers: [%q], timeout: 2s}
log: {level: debug}
filters:
  milter: [{name: readdresser, address: %q, edits: [recipients, sender]}]
rules:
  - {name: c5, when: 'client.ip == "198.51.100.55" or client.ip == "127.0.0.55"', then: reject, at: connect}
  - {name: c4, when: 'client.ip == "198.51.100.44" or client.ip == "127.0.0.44"', then: defer, at: connect}
  - {name: h5, when: 'helo.name == "h5.test"', then: reject, at: helo, reply: "550 5.7.1 helo"}
  - {name: h4, when: 'helo.name == "h4.test"', then: defer, at: helo, reply: "451 4.7.1 helo"}
  - {name: m5, when: 'mail.local == "m5"', then: reject, at: mail, reply: "550 5.7.1 by a rule"}
  - {name: m4, when: 'mail.local == "m4"', then: defer, at: mail, reply: "451 4.7.1 by a rule"}
  - {name: r5, when: 'mail.local == "r5" or rcpt.local == "Alice"', then: reject, reply: "550 5.7.1 100%% rcpt\n{client.ip}"}
  - {name: r4, when: 'mail.local == "r4"', then: defer, reply: "451 4.7.1 rcpt"}
  - {name: d5, when: 'mail.local == "d5"', then: reject, at: data, reply: "554 5.7.1 by a rule"}
  - {name: d4, when: 'mail.local == "d4"', then: defer, at: data, reply: "451 4.7.1 by a rule"}
  - {name: e5, when: 'header("Subject") == "e5"', then: reject, reply: "554 5.7.1 100%% end\nof it"}
  - {name: e4, when: 'header("Subject") == "e4"', then: defer, reply: "451 4.7.1 by a rule"}
  - {name: e421, when: 'header("Subject") == "e421"', then: defer, reply: "421 4.7.0 go"}
  - {name: held, when: 'header("Subject") == "held"', then: quarantine}
  - {name: close, when: 'mail.local == "close"', then: defer, at: mail, reply: "421 4.7.0 go"}
  - {name: void, when: 'header("Subject") == "void"', then: discard}
  - {name: one, when: 'true', then: tag, header: "X-One: {client.ip} {helo.name} name={client.name} {client.submission}"}
  - {name: two, when: 'message.size > 0', then: tag, header: "X-Two: {helo.tls_version} {helo.user} {client.authenticated} {message.size}"}
  - {name: three, when: 'helo.client_cert != ""', then: tag, header: "X-Three: {helo.client_cert}"}
`, s.milterAddress, folder, serveDNS(t, s.front), startReaddresser(t)))
	s.runCalled(t, s.milterAddress)
}

// runCalled runs the real binary with the site's configuration until the test ends, and waits until it can be called.
func (s *site) runCalled(t *testing.T, address string) {
	t.Helper()
	process := exec.Command(binary(t), "serve", "-c", s.configuration)
	output, err := os.Create(filepath.Join(filepath.Dir(s.configuration), "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	process.Stdout, process.Stderr = output, output
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		process.Process.Signal(syscall.SIGTERM)
		if err := process.Wait(); err != nil {
			t.Errorf("gatepost serve: %v", err)
		}
		log, _ := os.ReadFile(output.Name())
		if !s.misused && (bytes.Contains(log, []byte("level=ERROR")) || bytes.Contains(log, []byte("out of sequence"))) {
			t.Error("Gatepost has something to complain of")
		}
		if t.Failed() {
			t.Logf("gatepost's log:\n%s", tail(string(log), 80))
		}
	})
	for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit); time.Sleep(50 * time.Millisecond) {
		network, at, _ := strings.Cut(strings.Replace(address, "inet:", "tcp:", 1), ":")
		if conn, err := net.Dial(network, at); err == nil {
			conn.Close()
			return
		}
	}
	t.Fatal("gatepost does not listen")
}

// dialServer connects to the MTA itself.
func (s *site) dialServer(t *testing.T) *mtaClient {
	t.Helper()
	c := s.dialServerFrom(t, s.front.host)
	c.expect("220")
	return c
}

// dialServerFrom connects from another address of the loopback network. The greeting is not read.
func (s *site) dialServerFrom(t *testing.T, address string) *mtaClient {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	conn, err := dialer.DialContext(t.Context(), "tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	return &mtaClient{t: t, conn: conn, in: bufio.NewReader(conn)}
}

// dialByXCLIENT connects as a stranger, as far as the MTA can be told so.
func (s *site) dialByXCLIENT(t *testing.T, address, greeting string) *mtaClient {
	t.Helper()
	c := s.dialServer(t)
	c.say("XCLIENT ADDR="+address+" NAME=[UNAVAILABLE]", greeting)
	return c
}

// later expects the reply to a command or, where an MTA puts it off until then, to RCPT.
func (c *mtaClient) later(line, want string) {
	c.t.Helper()
	if reply := c.say(line, ""); strings.HasPrefix(reply, "250") {
		c.say("RCPT TO:<alice@example.org>", want)
	} else if !strings.HasPrefix(reply, want) {
		c.t.Errorf("%s: got %q, want %q", line, reply, want)
	}
}

// mustBeBelow compares what arrived, below the fields on top, with what was sent.
func mustBeBelow(t *testing.T, arrived []byte, sent string) {
	t.Helper()
	if !bytes.HasSuffix(arrived, []byte(strings.ReplaceAll(sent, "\r\n", "\n"))) {
		t.Errorf("not what was sent: %.3000s", arrived)
	}
}

var milterCases = []struct {
	name string
	only *mta
	run  func(t *testing.T, s *site)
}{
	{"refusals at every stage", nil, milterStages},
	{"a refused connection", nil, func(t *testing.T, s *site) {
		s.dialServerFrom(t, "127.0.0.55").expect("5")
		c := s.dialServerFrom(t, "127.0.0.44")
		if reply := c.expect(""); strings.HasPrefix(reply, "220") { // both say so later
			c.say("EHLO client.example.net", "")
			c.later("MAIL FROM:<bob@example.net>", "4")
		} else if !strings.HasPrefix(reply, "4") {
			t.Error(reply)
		}
	}},
	{"a connection that is refused behind XCLIENT", &postfix, func(t *testing.T, s *site) {
		s.dialByXCLIENT(t, "198.51.100.55", "554")
		c := s.dialByXCLIENT(t, "198.51.100.44", "220") // behind XCLIENT it says so later
		c.say("EHLO client.example.net", "250")
		c.later("MAIL FROM:<bob@example.net>", "4")
	}},
	{"two messages behind a refused recipient", nil, milterTwoMessages},
	{"forged results go", nil, milterForged},
	{"discard", nil, func(t *testing.T, s *site) {
		c := s.dialServer(t)
		c.transaction("alice@example.org", "")
		c.message(header+"Subject: void\r\n\r\nx\r\n", "250")
		c.transaction("alice@example.org", "")
		c.message(header+"Subject: behind it\r\n\r\nx\r\n", "250")
		if m := s.message(t); !bytes.Contains(m, []byte("Subject: behind it")) {
			t.Errorf("the discarded message arrived:\n%s", m)
		}
	}},
	{"quarantine", nil, milterQuarantine},
	{"recipients and sender", nil, milterReaddresses},
	{"a large message", nil, func(t *testing.T, s *site) {
		c := s.dialServer(t)
		c.transaction("alice@example.org", "")
		body := header + "Subject: large\r\n\r\n" + strings.Repeat("0123456789abcdefghijklmnopqrstuvwxyz\r\n", 200_000)
		c.message(body, "250")
		m := s.message(t)
		mustBeBelow(t, m, body)
		if want := fmt.Sprintf(" false %d\n", len(body)); !bytes.Contains(m, []byte(want)) {
			t.Errorf("no %q in\n%.2000s", want, m)
		}
	}},
	{"XCLIENT", &postfix, milterXCLIENT},
	{"TLS and AUTH", nil, milterAUTH},
	{"without SMTP", &postfix, milterWithoutSMTP},
	{"a refused recipient without SMTP", &postfix, milterRefusedWithoutSMTP},
	{"an unknown command", nil, func(t *testing.T, s *site) {
		c := s.dialServer(t)
		c.say("EHLO client.example.net", "250")
		c.say("XFOO", "5")
		c.say("MAIL FROM:<bob@example.net>", "250")
		c.say("RCPT TO:<noone@example.org>", "550 5.1.1")
		c.say("RCPT TO:<alice@example.org>", "250")
		c.say("RSET", "250")
		c.say("QUIT", "221")
	}},
}

// milterStages has the enhanced codes of ours at least; sendmail puts the address before the text.
func milterStages(t *testing.T, s *site) {
	for _, name := range []struct{ name, want string }{{"h5.test", "550 5.7.1"}, {"h4.test", "451 4.7.1"}} {
		c := s.dialServer(t)
		c.write("EHLO " + name.name + "\r\n")
		if reply := c.expect(""); strings.HasPrefix(reply, "250") {
			c.later("MAIL FROM:<bob@example.net>", name.want)
		} else if !strings.HasPrefix(reply, name.want) {
			t.Errorf("EHLO %s: %q", name.name, reply)
		}
	}
	c := s.dialServer(t)
	c.say("EHLO client.example.net", "250")
	c.say("MAIL FROM:<m5@example.net>", "550 5.7.1")
	c.say("MAIL FROM:<m4@example.net>", "451 4.7.1")
	for _, from := range []struct{ name, want string }{{"r5", "550"}, {"r4", "451 4.7.1"}} {
		c.say("MAIL FROM:<"+from.name+"@example.net>", "250")
		if got := c.say("RCPT TO:<alice@example.org>", from.want); from.name == "r5" && (!strings.Contains(got, "100% rcpt") || strings.Contains(got, "%%") || !strings.Contains(got, "\n550 ")) {
			t.Errorf("%q", got)
		}
		c.say("RSET", "250")
	}
	for _, from := range []struct{ name, want string }{{"d5", "554 5.7.1"}, {"d4", "451 4.7.1"}} {
		c.say("MAIL FROM:<"+from.name+"@example.net>", "250")
		c.say("RCPT TO:<alice@example.org>", "250")
		c.say("DATA", from.want)
		c.say("RSET", "250")
	}
	for _, subject := range []struct{ text, want string }{{"e5", "554"}, {"e4", "451 4.7.1"}} {
		c.transaction("alice@example.org", "")
		got := c.message(header+"Subject: "+subject.text+"\r\n\r\nx\r\n", subject.want)
		if subject.text == "e5" && (!strings.Contains(got, "5.7.1 100% end") || !strings.Contains(got, "of it (id ")) {
			t.Errorf("%q", got)
		}
	}
	c.say("MAIL FROM:<close@example.net>", "421 4.7.0")
}

// milterTwoMessages: nothing of a connection is lost by a refusal.
func milterTwoMessages(t *testing.T, s *site) {
	c := s.dialServer(t)
	c.say("EHLO client.example.net", "250")
	for i := range 3 {
		body := header + fmt.Sprintf("Subject: number %d\r\nX-Fold:  a\r\n\tb\r\n\r\n..\r\n.x\r\n", i)
		c.say("MAIL FROM:<bob@example.net> SIZE=1000", "250")
		c.say("RCPT TO:<Alice@example.org>", "550")
		c.say("RCPT TO:<alice@example.org>", "250")
		c.message(body, "250")
		m := s.message(t)
		mustBeBelow(t, m, body)
		one, two, results := bytes.Index(m, []byte("\nX-One: 127.0.0.1 client.example.net ")), bytes.Index(m, []byte("\nX-Two: ")), bytes.Index(m, []byte("Authentication-Results: mx.example.org;"))
		if received := bytes.Index(m, []byte("\nReceived:")); results < 0 || one < results || two < one || received < two {
			t.Errorf("at %d, %d, %d, Received at %d in\n%s", results, one, two, received, m)
		}
		if !bytes.Contains(m, []byte(fmt.Sprintf(" false %d\n", len(body)))) {
			t.Errorf("the message has not %d bytes:\n%s", len(body), m)
		}
	}
	c.say("QUIT", "221")
}

func milterForged(t *testing.T, s *site) {
	c := s.dialServer(t)
	c.transaction("alice@example.org", "")
	c.message("Authentication-Results: mx.example.org; spf=pass\r\nAuthentication-Results: other.example; spf=pass\r\n"+
		"authentication-results: MX.example.org;\r\n\tdkim=pass (forged)\r\n"+header+"Subject: forged\r\n\r\nx\r\n", "250")
	m := s.message(t)
	if n := bytes.Count(bytes.ToLower(m), []byte("authentication-results: mx.example.org;")); n != 1 || bytes.Contains(m, []byte("forged)")) || !bytes.Contains(m, []byte("Authentication-Results: other.example; spf=pass")) {
		t.Errorf("%d results of ours in\n%s", n, m)
	}
}

func milterXCLIENT(t *testing.T, s *site) {
	c := s.dialServer(t)
	for _, client := range []string{stranger, "198.51.100.8"} {
		c.say("XCLIENT ADDR="+client+" NAME=[UNAVAILABLE]", "220")
		c.transaction("alice@example.org", "")
		c.message(header+"Subject: xclient\r\n\r\nx\r\n", "250")
		want := "X-One: " + client + " client.example.net name=unknown false\n"
		if m := s.message(t); !bytes.Contains(m, []byte(want)) {
			t.Errorf("no %q in\n%s", want, m)
		}
	}
	c.say("XCLIENT ADDR="+stranger+" NAME=mail.stranger.example", "220")
	c.transaction("alice@example.org", "")
	c.message(header+"Subject: xclient\r\n\r\nx\r\n", "250")
	if m := s.message(t); !bytes.Contains(m, []byte(" name=mail.stranger.example false\n")) {
		t.Errorf("no name in\n%s", m)
	}
}

// milterAUTH signs in behind TLS with a certificate that the MTA trusts. Postfix tells a milter the user's realm and the
// certificate's common name, sendmail the name as it was given and the whole subject. Only Postfix can be told that the
// client is somebody else, whom nothing but AUTH makes a user.
func milterAUTH(t *testing.T, s *site) {
	c, client, user, subject := s.dialServer(t), s.front.host, userName, "/CN="+s.back.host
	if s.mta == &postfix {
		c, client, user, subject = s.dialByXCLIENT(t, stranger, "220"), stranger, userName+"@example.org", s.back.host
	}
	folder := filepath.Join(s.root, s.certificate)
	pair, err := tls.LoadX509KeyPair(filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	c.startTLSWith(&tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}})
	c.say("EHLO client.example.net", "250")
	c.say("AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00"+userName+"\x00"+userPassword)), "235")
	c.say("MAIL FROM:<bob@example.net>", "250")
	c.say("RCPT TO:<alice@example.org>", "250")
	c.message(header+"Subject: auth\r\n\r\nx\r\n", "250")
	m := s.message(t)
	for _, want := range []string{"X-One: " + client + " client.example.net name=", " true\n",
		"X-Two: TLSv1.3 " + user + " true ", "X-Three: " + subject + "\n"} {
		if !bytes.Contains(m, []byte(want)) {
			t.Errorf("no %q in\n%s", want, m)
		}
	}
}

func milterWithoutSMTP(t *testing.T, s *site) {
	s.call(t, "printf 'Subject: cron\\n\\nx\\n' | /usr/sbin/sendmail -C /etc/postfix -f root@example.org alice@example.org")
	m := s.message(t)
	if !bytes.Contains(m, []byte("X-One: 127.0.0.1 ")) || !bytes.Contains(m, []byte(" true\n")) {
		t.Errorf("%s", m)
	}
}

// milterRefusedWithoutSMTP: there is nobody to hear it at RCPT, so that none of the recipients gets the message, and the
// sender is told.
func milterRefusedWithoutSMTP(t *testing.T, s *site) {
	s.call(t, "printf 'Subject: not to her\\n\\nx\\n' | /usr/sbin/sendmail -C /etc/postfix -f root@example.org alice@example.org Alice@example.org")
	s.awaitLog(t, "status=bounced (100% rcpt")
	if left := s.messages(t); len(left) > 0 {
		t.Errorf("%d messages arrived", len(left))
	}
}

// milterQuarantine: the MTA itself holds the message, with our fields on it, and delivers it when the operator says so.
// Postfix keeps no reason. What sendmail takes behind it on the same connection waits for a queue run, so it comes on
// another one here.
func milterQuarantine(t *testing.T, s *site) {
	body := header + "Subject: held\r\n\r\nx\r\n"
	for _, text := range []string{body, header + "Subject: behind it\r\n\r\nx\r\n"} {
		c := s.dialServer(t)
		c.transaction("alice@example.org", "")
		c.message(text, "250")
		c.say("QUIT", "221")
	}
	if m := s.message(t); !bytes.Contains(m, []byte("Subject: behind it")) {
		t.Errorf("the held message arrived:\n%s", m)
	}
	list, held := "mailq -C /etc/postfix", regexp.MustCompile(`(?s)[0-9A-F]+! .*alice@example.org`)
	release := "postsuper -c /etc/postfix -H ALL; postqueue -c /etc/postfix -f"
	if s.mta == &sendmail {
		list, held = "/usr/libexec/sendmail/sendmail -C /etc/mail/sendmail.cf -bp -qQ", regexp.MustCompile(`(?s)QUARANTINE: gatepost: rule held.*alice@example.org`)
		release = "/usr/libexec/sendmail/sendmail -C /etc/mail/sendmail.cf -qQ -Q; /usr/libexec/sendmail/sendmail -C /etc/mail/sendmail.cf -q"
	}
	queue, err := s.command(list, 0).CombinedOutput()
	if err != nil || !held.Match(queue) {
		t.Errorf("no %s in the queue: %v\n%s", held, err, queue)
	}
	s.call(t, release)
	m := s.message(t)
	mustBeBelow(t, m, body)
	if !bytes.Contains(m, []byte("X-One: ")) {
		t.Errorf("no field of ours in\n%s", m)
	}
}
