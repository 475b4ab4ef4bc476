package policyserver

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"gatepost/policy"
	"gatepost/proxy"
	"gatepost/rules"
)

// Each verdict in the words of access(5).
func TestAnswers(t *testing.T) {
	h := start(t, &setup{rules: []rules.Definition{
		rule("c5", `client.ip == "192.0.2.5"`, "reject", "at", "connect", "reply", "554 5.7.1 connect"),
		rule("h5", `helo.name == "h5.test"`, "reject", "at", "helo", "reply", "550 5.7.1 helo"),
		rule("m5", `mail.local == "m5"`, "reject", "at", "mail", "reply", "550 5.7.1 mail"),
		rule("m4", `mail.local == "m4"`, "defer", "at", "mail", "reply", "451 4.7.1 mail"),
		rule("r5", `rcpt.local == "r5"`, "reject", "reply", "550 5.7.1 two\nlines 100%"),
		rule("r4", `rcpt.local == "r4"`, "defer"),
		rule("away", `rcpt.local == "away"`, "drop"),
		rule("leave", `rcpt.local == "leave"`, "defer", "reply", "421 4.7.0 go"),
		rule("grey", `mail.local == "grey" or mail.null`, "greylist"),
		rule("fine", `mail.local == "fine"`, "accept"),
		rule("hole", `mail.local == "hole"`, "discard"),
		rule("kept", `mail.local == "kept"`, "quarantine"),
		rule("d5", `mail.local == "d5"`, "reject", "at", "data", "reply", "554 5.7.1 data"),
	}})
	for _, test := range []struct{ name, client, helo, from, to, want string }{
		{"nothing against it", "", "", "a", "b", "DUNNO"},
		{"accept is not OK", "", "", "fine", "b", "DUNNO"},
		{"at connect", "192.0.2.5", "", "a", "b", "554 5.7.1 connect (id "},
		{"at helo", "", "h5.test", "a", "b", "550 5.7.1 helo (id "},
		{"at mail", "", "", "m5", "b", "550 5.7.1 mail (id "},
		{"for now", "", "", "m4", "b", "451 4.7.1 mail (id "},
		{"two lines", "", "", "a", "r5", "550 5.7.1 two lines 100% (id "},
		{"a default reply", "", "", "a", "r4", "451 4.7.1 Please try again later (id "},
		{"drop", "", "", "a", "away", "421 4.7.0 Closing the connection (id "},
		{"421", "", "", "a", "leave", "421 4.7.0 go (id "},
		{"greylist", "", "", "grey", "b", "DEFER_IF_PERMIT 4.7.1 Greylisted, please try again in 5 minutes (id "},
		{"discard", "", "", "hole", "b", "DISCARD"},
		{"quarantine", "", "", "kept", "b", "HOLD gatepost: rule kept"},
		{"a rule at DATA", "", "", "d5", "b", "DUNNO"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := h.postfix()
			p.t = t
			if test.client != "" {
				p.a["client_address"] = test.client
			}
			if test.helo != "" {
				p.a["helo_name"] = test.helo
			}
			p.mail(test.from + "@example.com")
			p.want(test.want, p.rcpt(test.to+"@example.org"))
		})
	}
	m := h.server.Metrics()
	if m.Passed.Load() != 3 || m.Refused.Load() != 4 || m.Deferred.Load() != 5 || m.Discarded.Load() != 1 || m.Held.Load() != 1 {
		t.Errorf("counted %d, %d, %d, %d", m.Passed.Load(), m.Refused.Load(), m.Deferred.Load(), m.Discarded.Load())
	}
}

// A transaction is greylisted as a whole, and the second attempt passes.
func TestGreylistingOfATransaction(t *testing.T) {
	h := start(t, &setup{rules: []rules.Definition{rule("grey", `rcpt.local == "grey" or mail.null`, "greylist")}})
	p := h.postfix()
	p.mail("a@example.com")
	p.want("DEFER_IF_PERMIT", p.rcpt("grey@example.org"))
	p.want("DEFER_IF_PERMIT", p.rcpt("other@example.org"))
	p.mail("b@example.com")
	p.want("DUNNO", p.rcpt("other@example.org"))
	p.want("452 4.5.3 ", p.rcpt("grey@example.org")) // it comes separately
	h.clock.Advance(6 * time.Minute)
	for range 2 {
		p.mail("a@example.com")
		p.want("DUNNO", p.rcpt("grey@example.org"))
		p.want("DUNNO", p.rcpt("other@example.org"))
		p.want("DUNNO", p.ask("DATA"))
	}
	// RFC 6647, 5: a callout hears the truth, a bounce waits at DATA.
	p.mail("")
	p.want("DUNNO", p.rcpt("other@example.org"))
	p.want("451 4.7.1 ", p.ask("DATA"))
}

// Postfix asks once for each list of restrictions that names us, with smtpd_delay_reject all at RCPT.
func TestAskedSeveralTimes(t *testing.T) {
	h := start(t, &setup{rules: []rules.Definition{
		rule("tag", `rcpt.local == "b"`, "tag", "header", "X-B: {rcpt.address}"),
		rule("r5", `rcpt.local == "r5"`, "reject"),
		rule("third", `rcpt.count > 2`, "reject"),
	}})
	p := h.postfix()
	p.mail("a@example.com")
	p.want("PREPEND X-B: b@example.org", p.rcpt("b@example.org"))
	p.want("DUNNO", p.rcpt("b@example.org"))
	p.want("DUNNO", p.rcpt("b@example.org"))
	p.want("550", p.rcpt("r5@example.org"))
	p.want("550", p.rcpt("r5@example.org"))
	p.want("DUNNO", p.ask("DATA"))
	p.want("DUNNO", p.ask("END-OF-MESSAGE"))
	r := h.journal.Await(t, policy.TransactionRecord, 1)[0]
	if len(r.Recipients) != 2 || r.Ending.Reply.Code != 250 || r.Ending.Note != leftToMTA || r.Ending.Ours {
		t.Errorf("%+v %+v", r.Recipients, r.Ending)
	}
}

// Every stage is asked where smtpd_delay_reject is off; `instance` names the transaction from RCPT on.
func TestAskedAtEveryStage(t *testing.T) {
	h := start(t, &setup{rules: []rules.Definition{rule("m5", `mail.local == "m5"`, "reject", "at", "mail"), rule("d4", `mail.local == "d4"`, "defer", "at", "data")}})
	p := h.postfix()
	name := p.a["helo_name"]
	p.a["helo_name"] = ""
	p.want("DUNNO", p.ask("CONNECT"))
	p.a["helo_name"] = name
	p.want("DUNNO", p.ask("EHLO"))
	for _, from := range []string{"a", "d4", "m5", "a"} {
		last := p.a["instance"]
		p.mail(from + "@example.com")
		instance := p.a["instance"]
		p.a["instance"] = last
		if from == "m5" {
			p.want("550", p.ask("MAIL"))
			p.want("550", p.ask("MAIL"))
			continue
		}
		p.want("DUNNO", p.ask("MAIL"))
		p.want("DUNNO", p.ask("MAIL"))
		p.a["instance"] = instance
		p.want("DUNNO", p.rcpt("b@example.org"))
		p.a["queue_id"] = "4ABC"
		want := "DUNNO"
		if from == "d4" {
			want = "451"
		}
		p.want(want, p.ask("DATA"))
		p.want(want, p.ask("END-OF-MESSAGE"))
		p.a["queue_id"] = ""
	}
	var got []string
	for _, r := range h.journal.Await(t, policy.TransactionRecord, 4) {
		got = append(got, r.ID[strings.IndexByte(r.ID, '.'):]+" "+r.Ending.QueueID)
	}
	if strings.Join(got, ",") != ".1 4ABC,.2 4ABC,.3 ,.4 4ABC" {
		t.Error(got)
	}
}

// Restrictions at DATA or at the end only: the gate still hears of everything that the request tells.
func TestAskedAtDataOnly(t *testing.T) {
	h := start(t, &setup{rules: []rules.Definition{rule("r5", `rcpt.local == "r5"`, "reject")}})
	p := h.postfix()
	for _, state := range []string{"DATA", "END-OF-MESSAGE"} {
		p.mail("a@example.com")
		p.a["recipient"] = "r5@example.org"
		p.want("550", p.ask(state))
		p.mail("a@example.com")
		p.a["recipient"] = "" // several
		p.want("DUNNO", p.ask(state))
	}
}

func TestWhoAsks(t *testing.T) {
	h := start(t, &setup{rules: []rules.Definition{
		rule("listed", `client.ip == "192.0.2.77"`, "tag", "header", "X-One: {client.ip} {client.name} {helo.tls_version} {helo.user} {helo.extended} {client.submission} {mail.size}"),
		rule("other", `client.ip != "192.0.2.77"`, "tag", "header", "X-Other: {client.ip} {client.submission}"),
		rule("grey", `mail.local == "grey"`, "greylist"),
	}})
	p := h.postfix()
	for _, test := range []struct{ key, value, want string }{
		{"size", "1234", "PREPEND X-One: 192.0.2.77 unknown   true false 1234"},
		{"client_name", "mail.example.com", "PREPEND X-One: 192.0.2.77 unknown "},
		{"client_port", "40001", "PREPEND X-One: 192.0.2.77 mail.example.com "},
		{"encryption_protocol", "TLSv1.3", "PREPEND X-One: 192.0.2.77 mail.example.com TLSv1.3 "},
		{"protocol_name", "SMTP", "PREPEND X-One: 192.0.2.77 mail.example.com TLSv1.3  false"},
		{"sasl_username", "alice", "PREPEND X-One: 192.0.2.77 mail.example.com TLSv1.3 alice false true"},
		{"client_address", "2001:db8::7", "PREPEND X-Other: 2001:db8::7 true"},
		{"sasl_username", "", "PREPEND X-Other: 2001:db8::7 false"},
		{"server_port", "587", "PREPEND X-Other: 2001:db8::7 true"},
		{"client_address", "127.0.0.1", "PREPEND X-Other: 127.0.0.1 true"},
	} {
		p.a[test.key] = test.value
		p.mail("a@example.com")
		p.want(test.want, p.rcpt("b@example.org"))
	}
	p.mail("grey@example.com") // users are not greylisted
	p.want("PREPEND", p.rcpt("b@example.org"))
	for _, state := range []string{"VRFY", "ETRN", "LATER"} {
		p.want("DUNNO", p.ask(state))
	}
}

// What is not the protocol ends the connection: Postfix has an answer of its own for that.
func TestMalformedRequests(t *testing.T) {
	h := start(t, &setup{dirty: true})
	for i, text := range []string{
		"no sign of equality\n\n",
		"request=junk_mail\n\n",
		"\n",
		"helo_name=" + strings.Repeat("x", maxLine) + "\n",
		strings.Repeat("a=b\n", maxAttributes+1),
		strings.Repeat("a="+strings.Repeat("x", 4000)+"\n", 20),
	} {
		p := h.postfix()
		p.conn.Write([]byte(text))
		if _, err := p.in.ReadByte(); err == nil {
			t.Errorf("%.60q is answered", text)
		}
		for limit := time.Now().Add(5 * time.Second); h.server.Metrics().Violations.Load() != int64(i+1) && time.Now().Before(limit); {
			time.Sleep(time.Millisecond)
		}
		if n := h.server.Metrics().Violations.Load(); n != int64(i+1) {
			t.Errorf("%.60q: %d violations", text, n)
		}
	}
}

// What a client says must not become an attribute, or a second answer.
func TestNothingBecomesSyntax(t *testing.T) {
	h := start(t, &setup{rules: []rules.Definition{
		rule("echo", `rcpt.local == "no"`, "reject", "reply", "550 5.7.1 {helo.name} {mail.address}"),
		rule("tag", `true`, "tag", "header", "X-Helo: {helo.name}"),
	}})
	p := h.postfix()
	p.a["helo_name"] = "a\raction=OK\x00\x1b[2J" + strings.Repeat("y", 600)
	p.mail("\xffé@example.com")
	for _, to := range []string{"no@example.org", "b@example.org"} {
		if got := p.rcpt(to); strings.ContainsAny(got, "\r\x00\x1b") || len(got) > 1100 {
			t.Errorf("%q", got)
		}
	}
}

func TestPanicIsContained(t *testing.T) {
	u := &setup{dirty: true}
	u.journal.Panics.Store(true)
	h := start(t, u)
	p, other := h.postfix(), h.postfix()
	other.mail("a@example.com")
	other.want("DUNNO", other.rcpt("b@example.org"))
	p.mail("a@example.com")
	p.want("DUNNO", p.rcpt("b@example.org"))
	p.want("DUNNO", p.ask("DATA"))
	if _, err := p.in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("it goes on: %v", err)
	}
	other.want("DUNNO", other.rcpt("c@example.org"))
	if h.server.Metrics().Panics.Load() == 0 {
		t.Error("nobody has counted it")
	}
}

func TestShutdown(t *testing.T) {
	h := start(t, &setup{})
	p := h.postfix()
	p.mail("a@example.com")
	p.want("DUNNO", p.rcpt("b@example.org"))
	if err := h.server.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if _, err := p.in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("it goes on: %v", err)
	}
	if r := h.journal.Await(t, policy.TransactionRecord, 1)[0]; r.Ending.Reply.Code != 250 || r.Ending.Note != leftToMTA {
		t.Errorf("%+v", r.Ending)
	}
}

func TestTooManyConnections(t *testing.T) {
	h := start(t, &setup{limits: func(l *proxy.Limits) { l.Connections = 1 }})
	p := h.postfix()
	p.want("DUNNO", p.ask("CONNECT"))
	if _, err := h.postfix().in.ReadByte(); err == nil {
		t.Error("a second connection is served")
	}
}

func TestReload(t *testing.T) {
	h := start(t, &setup{})
	old := h.postfix()
	old.want("DUNNO", old.ask("CONNECT"))
	next := h.service
	next.Engine, _ = compile(t, &setup{rules: []rules.Definition{rule("all", "true", "reject")}})
	if err := h.server.Reload(next, nil); err != nil {
		t.Fatal(err)
	}
	old.mail("a@example.com")
	old.want("DUNNO", old.rcpt("b@example.org")) // it stays with what it began with
	young := h.postfix()
	young.mail("a@example.com")
	young.want("550", young.rcpt("b@example.org"))
}

func TestSlowClientsWait(t *testing.T) {
	h := start(t, &setup{rules: []rules.Definition{rule("tar", `mail.local == "slow"`, "slow", "delay", "50ms")}})
	p := h.postfix()
	p.mail("slow@example.com")
	before := time.Now()
	p.want("DUNNO", p.rcpt("b@example.org"))
	if took := time.Since(before); took < 50*time.Millisecond {
		t.Errorf("answered after %s", took)
	}
}

func TestReview(t *testing.T) {
	engine, _ := compile(t, &setup{rules: []rules.Definition{
		rule("one", "true", "tag", "header", "X-1: a"), rule("two", "true", "tag", "header", "X-2: a"),
		rule("body", "message.size > 10", "reject"), rule("data", "mail.null", "reject", "at", "data"),
		rule("away", "mail.null", "drop"), rule("talks", "earlytalker.talked", "reject"), rule("fine", `rcpt.local == "x"`, "reject"),
		rule("watched", "message.size > 10", "reject", "mode", "observe"),
	}})
	var got []string
	for _, p := range Review(engine) {
		name, _, _ := strings.Cut(p.Message, " ")
		got = append(got, name)
		if !p.Warning {
			t.Errorf("%s is no warning", name)
		}
	}
	for _, name := range []string{"two", "body", "data", "away", "talks"} {
		if !strings.Contains(strings.Join(got, " "), name) {
			t.Errorf("no word about %s in %v", name, got)
		}
	}
	if len(got) != 5 {
		t.Error(got)
	}
}
