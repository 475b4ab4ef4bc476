//go:build mta

package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/proxy/backend"
)

// Postfix asks Gatepost as a policy server, at RCPT, DATA and the end of the message. The client talks to Postfix.
func TestMTAPolicyServer(t *testing.T) {
	prepareRoot(t)
	for _, kind := range []string{"unix", "inet"} {
		t.Run(kind, func(t *testing.T) {
			s := newSite(t, &postfix, backend.XClient)
			s.startPolicyServer(t, kind)
			postfix.start(t, s)
			s.awaitListener(t)
			passed := 0
			for _, c := range policyCases {
				if t.Run(c.name, func(t *testing.T) { c.run(t, s) }) {
					passed++
				}
			}
			fmt.Printf("mta Postfix by policy server at %s: %d cases passed\n", kind, passed)
		})
	}
}

// startPolicyServer runs the real binary as a policy server. Postfix sees its socket below its root.
func (s *site) startPolicyServer(t *testing.T, kind string) {
	t.Helper()
	folder := t.TempDir()
	socket := filepath.Join(s.root, "run", "policy.sock")
	os.Remove(socket)
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	address := "unix:" + socket
	s.policyServer = "check_policy_service unix:/run/policy.sock"
	if kind == "inet" {
		host, port, _ := net.SplitHostPort(s.front.freePort(t))
		address = "inet:" + host + ":" + port
		s.policyServer = "check_policy_service " + address
	}
	s.configuration = filepath.Join(folder, "gatepost.yaml")
	write(t, s.configuration, fmt.Sprintf(`hostname: mx.example.org
domains: [example.org]
policy_server: [{address: %q, mode: 0666}]
store: {path: %s/state}
resolver: {servers: [%q], timeout: 2s}
log: {level: debug}
filters:
  greylist: {delay: 1s}
rules:
  - {name: c5, when: 'client.ip == "198.51.100.55"', then: reject, at: connect, reply: "554 5.7.1 connect"}
  - {name: h4, when: 'helo.name == "h4.test"', then: defer, at: helo, reply: "451 4.7.1 helo"}
  - {name: r5, when: 'mail.local == "r5"', then: reject, reply: "550 5.7.1 100%% rcpt\n{client.ip}"}
  - {name: r4, when: 'mail.local == "r4"', then: defer, reply: "451 4.7.1 rcpt"}
  - {name: gone, when: 'mail.local == "gone"', then: drop}
  - {name: grey, when: 'mail.local == "grey"', then: greylist}
  - {name: d5, when: 'mail.local == "d5"', then: reject, at: data, reply: "554 5.7.1 data"}
  - {name: one, when: 'true', then: tag, header: "X-One: {client.ip} {helo.name} {client.submission}"}
  - {name: two, when: 'mail.local == "two"', then: tag, header: "X-Two: {helo.extended}"}
  - {name: void, when: 'mail.local == "void"', then: discard}
  - {name: held, when: 'mail.local == "held"', then: quarantine}
`, address, folder, serveDNS(t, s.front)))
	s.runCalled(t, address)
}

var policyCases = []struct {
	name string
	run  func(t *testing.T, s *site)
}{
	{"refusals at every stage", func(t *testing.T, s *site) {
		c := s.dialByXCLIENT(t, stranger, "220")
		c.say("EHLO client.example.net", "250")
		for _, from := range []struct{ name, want, text string }{
			{"r5", "550 5.7.1", "100% rcpt " + stranger + " (id "}, {"r4", "451 4.7.1", "rcpt (id "}, {"grey", "450 4.7.1", "Greylisted"},
		} {
			c.say("MAIL FROM:<"+from.name+"@example.net>", "250")
			if got := c.say("RCPT TO:<alice@example.org>", from.want); !strings.Contains(got, from.text) {
				t.Errorf("%q", got)
			}
			c.say("RSET", "250")
		}
		c.say("MAIL FROM:<d5@example.net>", "250")
		c.say("RCPT TO:<alice@example.org>", "250")
		c.say("DATA", "554 5.7.1")
		c.say("RSET", "250")
		c.say("MAIL FROM:<gone@example.net>", "250")
		c.say("RCPT TO:<alice@example.org>", "421 4.7.0")
		c = s.dialByXCLIENT(t, "198.51.100.55", "220")
		c.say("EHLO client.example.net", "250")
		c.say("MAIL FROM:<bob@example.net>", "250")
		c.say("RCPT TO:<alice@example.org>", "554 5.7.1")
		c = s.dialByXCLIENT(t, stranger, "220")
		c.say("EHLO h4.test", "250")
		c.say("MAIL FROM:<bob@example.net>", "250")
		c.say("RCPT TO:<alice@example.org>", "451 4.7.1")
	}},
	{"who is greylisted still hears that nobody is there", func(t *testing.T, s *site) {
		c := s.dialByXCLIENT(t, stranger, "220")
		c.say("EHLO client.example.net", "250")
		c.say("MAIL FROM:<grey@example.net>", "250")
		c.say("RCPT TO:<noone@example.org>", "550 5.1.1")
		c.say("RCPT TO:<alice@example.com>", "554 5.7.1")
	}},
	{"tags", func(t *testing.T, s *site) {
		c := s.dialByXCLIENT(t, stranger, "220")
		c.say("EHLO client.example.net", "250")
		for range 2 {
			c.say("MAIL FROM:<two@example.net>", "250")
			c.say("RCPT TO:<alice@example.org>", "250")
			c.message(header+"Subject: tags\r\n\r\nx\r\n", "250")
			m := s.message(t)
			for _, want := range []string{"X-One: " + stranger + " client.example.net false\n", "X-Two: true\n"} {
				if bytes.Count(m, []byte(want)) != 1 {
					t.Errorf("not one %q in\n%s", want, m)
				}
			}
		}
	}},
	{"discard and quarantine", func(t *testing.T, s *site) {
		c := s.dialByXCLIENT(t, stranger, "220")
		c.say("EHLO client.example.net", "250")
		for _, from := range []string{"void", "held", "bob"} {
			c.say("MAIL FROM:<"+from+"@example.net>", "250")
			c.say("RCPT TO:<alice@example.org>", "250")
			c.message(header+"Subject: from "+from+"\r\n\r\nx\r\n", "250")
		}
		if m := s.message(t); !bytes.Contains(m, []byte("Subject: from bob")) {
			t.Errorf("it arrived:\n%s", m)
		}
		held, _ := filepath.Glob(filepath.Join(s.root, "var/spool/postfix/hold/*"))
		if len(held) != 1 {
			t.Errorf("%d messages are on hold", len(held))
		}
		for _, path := range held {
			os.Remove(path)
		}
	}},
}
