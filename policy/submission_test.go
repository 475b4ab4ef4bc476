package policy

import (
	"context"
	"net/netip"
	"sync/atomic"
	"testing"

	"gatepost/filters"
)

// Where users hand in their mail, nothing that judges mail servers runs or acts.
func TestSubmission(t *testing.T) {
	var asked atomic.Int32
	listed := func(context.Context, filters.View) (*listFacts, error) {
		asked.Add(1)
		return &listFacts{Score: 9, Listed: "list.test"}, nil
	}
	f := &fakes{dnsbl: listed, spf: answers(spfFacts{Result: "fail"}), dmarc: answers(dmarcFacts{Result: "fail"}), grey: &greylist{state: filters.GreylistNew}}
	rules := []string{
		"dnsbl.score >= 4 -> reject; at: connect",
		`spf.result == "fail" or mail.address == "a@example.com" -> reject`,
		`dmarc.result == "fail" -> reject`,
		`mail.address != "" -> greylist`,
		`client.authenticated and rcpt.local == "vip" -> reject; reply: 550 5.7.1 {helo.user} may not`,
		`not client.authenticated and rcpt.local == "vip" -> reject; reply: 550 5.7.1 nobody may`,
	}
	for _, test := range []struct {
		submission bool
		user       string
		greeting   string
		rcpt       string
		vip        string
	}{
		{true, "", "", "", "550 5.7.1 nobody may (id T1)"},
		{true, "anna", "", "", "550 5.7.1 anna may not (id T1)"},
		{false, "", "550 5.7.1 Refused by the policy of this site (id S1)", "", ""},
	} {
		asked.Store(0)
		c := session(t, compile(t, f, f.config(rules...)),
			&filters.Session{ID: "S1", Client: filters.Client{IP: netip.MustParseAddr("192.0.2.9"), Port: 1, Submission: test.submission}}, &Runtime{})
		expect(t, "greeting", c.greet(), test.greeting)
		if !test.submission {
			continue
		}
		expect(t, "helo", c.Helo(c.ctx, &filters.Greeting{Name: "x", Extended: filters.Known(true), AuthUser: test.user}), "")
		expect(t, "mail", c.mail("a@example.com"), "")
		if !c.NeedsBackend(c.ctx) {
			t.Error("the backend is not asked")
		}
		expect(t, "rcpt", c.rcpt("vip@example.org"), test.vip)
		expect(t, "rcpt", c.rcpt("b@example.org"), test.rcpt)
		v, _ := c.message(plain)
		expect(t, "message", v, "")
		if n := asked.Load(); n != 0 {
			t.Errorf("dnsbl was asked %d times", n)
		}
	}
}
