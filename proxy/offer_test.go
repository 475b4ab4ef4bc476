package proxy

import (
	"strings"
	"testing"

	"gatepost/proxy/backend"
	"gatepost/proxy/backend/backendtest"
	"gatepost/proxy/wire"
)

// What a client is offered depends on more than the backend's keywords.
func TestOfferDependsOn(t *testing.T) {
	all := []string{"PIPELINING", "CHUNKING", "BINARYMIME", "REQUIRETLS", "VRFY", "EXPN", "ETRN", "MT-PRIORITY", "LIMITS MAILMAX=7"}
	strict := func(u *setup) { u.ending = wire.Strict }
	lists := func(u *setup) {
		u.group = func(c *backend.Config) { c.Extensions = append(c.Extensions, "VRFY", "EXPN", "ETRN", "MT-PRIORITY") }
	}
	fewer := func(u *setup) { u.limits = func(l *Limits) { l.Recipients = 20 } }
	for _, test := range []struct {
		name     string
		change   func(*setup)
		keyword  string
		expected bool
	}{
		{"binary by default", func(*setup) {}, "BINARYMIME", true},
		{"binary where line ends are refused", strict, "BINARYMIME", false},
		{"REQUIRETLS without TLS", func(*setup) {}, "REQUIRETLS", false},
		{"VRFY by default", func(*setup) {}, "VRFY", false},
		{"VRFY", lists, "VRFY", true},
		{"EXPN", lists, "EXPN", true},
		{"ETRN", lists, "ETRN", true},
		{"MT-PRIORITY by default", func(*setup) {}, "MT-PRIORITY", false},
		{"MT-PRIORITY", lists, "MT-PRIORITY", true},
		{"both limits", fewer, "LIMITS MAILMAX=7 RCPTMAX=20", true},
	} {
		u := setup{backend: backendtest.Behaviour{Keywords: all}}
		test.change(&u)
		h := start(t, u)
		c := h.dial()
		c.expect("220 ")
		reply := c.say("EHLO client.test", "250") + "\n"
		if got := strings.Contains(reply, "-"+test.keyword+"\n") || strings.Contains(reply, " "+test.keyword+"\n"); got != test.expected {
			t.Errorf("%s: %q", test.name, reply)
		}
		c.Close()
	}
}

// REQUIRETLS is a promise for the whole way: a backend leg whose certificate nobody has looked at breaks it.
func TestRequireTLSNeedsVerifiedBackend(t *testing.T) {
	h := start(t, setup{listen: Listen{Certificate: certificate(t)}, backend: backendtest.Behaviour{Keywords: []string{"REQUIRETLS"}}})
	c := h.hello()
	c.say("STARTTLS", "220")
	c.upgrade()
	if reply := c.say("EHLO client.test", "250"); strings.Contains(reply, "REQUIRETLS") {
		t.Errorf("offered: %q", reply)
	}
	c.say("MAIL FROM:<a@example.org> REQUIRETLS", "555 5.5.4")
}

// A backend that limits the transactions of a session gets a session for each client.
func TestMailmaxIsPerClient(t *testing.T) {
	h := start(t, setup{backend: backendtest.Behaviour{Keywords: []string{"PIPELINING", "LIMITS MAILMAX=1"}}})
	before := len(h.backends[0].Sessions())
	for range 3 {
		c := h.hello()
		c.say("MAIL FROM:<a@example.org>", "250")
		c.say("RCPT TO:<b@example.com>", "250")
		c.say("QUIT", "221")
		c.expect("EOF")
	}
	if n := len(h.backends[0].Sessions()) - before; n != 3 {
		t.Errorf("%d sessions for 3 clients", n)
	}
}
