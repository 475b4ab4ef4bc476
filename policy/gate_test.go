package policy

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/filters"
	"gatepost/rules"
)

const plain = "Subject: hello\nFrom: a@example.com\n\nbody\n"

func TestRuleIsSpokenAtRcpt(t *testing.T) {
	c := (&fakes{dnsbl: answers(listFacts{Score: 5, Listed: "list.test"})}).connect(t,
		"dnsbl.score >= 4 -> reject; reply: 554 5.7.1 {client.ip} is listed by {dnsbl.listed}")
	expect(t, "hello", c.hello(), "")
	expect(t, "mail", c.mail("a@example.com"), "")
	expect(t, "rcpt", c.rcpt("b@example.org"), "554 5.7.1 192.0.2.9 is listed by list.test (id T1)")
	if c.NeedsBackend(c.ctx) {
		t.Error("every recipient is going to be refused, and the backend is still needed")
	}
}

func TestRuleActsWhereItSays(t *testing.T) {
	listed := &fakes{dnsbl: answers(listFacts{Score: 5})}
	c := listed.connect(t, "dnsbl.score >= 4 -> reject; at: connect")
	expect(t, "greeting", c.greet(), "550 5.7.1 Refused by the policy of this site (id S1)")

	c = listed.connect(t, "dnsbl.score >= 4 -> drop; at: helo")
	expect(t, "greeting", c.greet(), "")
	v := c.Helo(c.ctx, &filters.Greeting{Name: "x"})
	expect(t, "helo", v, "drop")
	if !v.Close {
		t.Error("drop does not close")
	}

	c = listed.connect(t, `mail.domain == "example.com" and dnsbl.score > 1 -> defer; at: mail; reply: 421 4.7.0 Not now`)
	c.hello()
	v = c.mail("a@EXAMPLE.com")
	expect(t, "mail", v, "421 4.7.0 Not now (id T1)")
	if !v.Close {
		t.Error("421 does not close")
	}
}

func TestContactIsNamed(t *testing.T) {
	f := &fakes{}
	config := f.config("mail.null -> reject; reply: 550 5.7.1 " + strings.Repeat("x", 400))
	config.Contact = "https://example.org/" + strings.Repeat("p", 150)
	c := session(t, compile(t, f, config), &filters.Session{}, &Runtime{})
	c.hello()
	c.mail("")
	v := c.rcpt("b@example.org")
	if !strings.HasSuffix(v.Reply.Text, " (id T1); see "+config.Contact) || len("550 5.7.1 "+v.Reply.Text+"\r\n") > 512 {
		t.Errorf("%d bytes: %q", len(v.Reply.Text), v.Reply.Text)
	}
}

func TestMessageRules(t *testing.T) {
	f := &fakes{dkim: func(ctx context.Context, v filters.View) (*dkimFacts, error) {
		h, err := v.Message.Header(ctx)
		if err != nil {
			return nil, err
		}
		if len(h.Values("DKIM-Signature")) > 0 {
			return &dkimFacts{Result: "pass"}, nil
		}
		return &dkimFacts{Result: "none"}, nil
	}}
	texts := []string{
		`message.size > 1000 -> reject; reply: 552 5.3.4 Too big`,
		`header("Subject") contains "lottery" and dkim.result == "none" -> reject`,
		`header("Subject") contains "tagged" -> tag; header: X-Note: {dkim.result}`,
		`header("Subject") contains "nowhere" -> discard`,
	}
	for _, test := range []struct{ message, want, prepend string }{
		{plain, "", ""},
		{"Subject: x\n\n" + strings.Repeat("y", 1000), "552 5.3.4 Too big", ""},
		{"Subject: the lottery\n\n", "550 5.7.1", ""},
		{"DKIM-Signature: x\nSubject: the lottery\n\n", "", ""},
		{"Subject: tagged\n\n", "", "X-Note: none\r\n"},
		{"Subject: nowhere\n\n", "250 2.0.0", ""},
	} {
		c := f.connect(t, texts...)
		c.deliver("a@example.com", "b@example.org")
		v, edits := c.message(test.message)
		expect(t, test.message, v, test.want)
		if string(edits.Prepend) != test.prepend {
			t.Errorf("%q: prepends %q, want %q", test.message, edits.Prepend, test.prepend)
		}
	}
}

func TestAuthenticationResults(t *testing.T) {
	f := &fakes{spf: answers(spfFacts{Result: "pass"})}
	c := f.connect(t)
	c.deliver("a@example.com", "b@example.org")
	text := "Authentication-Results: mx.example.org; spf=pass\nSubject: x\nAuthentication-Results: other.example; spf=pass\nauthentication-results : MX.example.ORG 1;\n dkim=pass\n\nbody\n"
	v, edits := c.message(text)
	expect(t, "message", v, "")
	if !bytes.HasPrefix(edits.Prepend, []byte("Authentication-Results: mx.example.org")) || !bytes.Contains(edits.Prepend, []byte("spf=pass")) {
		t.Errorf("prepends %q", edits.Prepend)
	}
	sent := strings.ReplaceAll(text, "\n", "\r\n")
	var left strings.Builder
	from := int64(0)
	for _, span := range edits.Cut {
		left.WriteString(sent[from:span.Start])
		from = span.End
	}
	left.WriteString(sent[from:])
	if want := "Subject: x\r\nAuthentication-Results: other.example; spf=pass\r\n\r\nbody\r\n"; left.String() != want {
		t.Errorf("left of the message: %q", left.String())
	}
}

func TestAllAuthenticationResultsGo(t *testing.T) {
	f := &fakes{spf: answers(spfFacts{Result: "pass"})}
	config := f.config()
	config.AuthenticationResults.Remove = RemoveAll
	c := session(t, compile(t, f, config), &filters.Session{}, &Runtime{})
	c.greet()
	c.deliver("a@example.com", "b@example.org")
	_, edits := c.message("Authentication-Results: other.example; spf=pass\nSubject: x\nARC-Authentication-Results: i=1; other.example; none\n\n")
	if len(edits.Cut) != 1 || edits.Cut[0] != (Span{0, 49}) {
		t.Errorf("cuts %v", edits.Cut)
	}
}

func TestLaterResultsSupersede(t *testing.T) {
	result := func(method, result string, properties ...string) filters.AuthResult {
		r := filters.AuthResult{Method: method, Result: result}
		for _, p := range properties {
			r.Properties = append(r.Properties, filters.AuthProperty{Type: "smtp", Name: p, Value: "example.org"})
		}
		return r
	}
	for _, test := range []struct {
		name                 string
		earlier, later, want []filters.AuthResult
	}{
		{"the HELO name of a bounce", []filters.AuthResult{result("spf", "temperror", "helo")}, []filters.AuthResult{result("spf", "pass", "helo")},
			[]filters.AuthResult{result("spf", "pass", "helo")}},
		{"two identities", []filters.AuthResult{result("spf", "pass", "helo")}, []filters.AuthResult{result("spf", "pass", "mailfrom")},
			[]filters.AuthResult{result("spf", "pass", "helo"), result("spf", "pass", "mailfrom")}},
		{"two methods", []filters.AuthResult{result("iprev", "pass", "helo")}, []filters.AuthResult{result("spf", "pass", "helo")},
			[]filters.AuthResult{result("iprev", "pass", "helo"), result("spf", "pass", "helo")}},
		{"nothing to check, twice", []filters.AuthResult{result("spf", "none")}, []filters.AuthResult{result("spf", "none")}, []filters.AuthResult{result("spf", "none")}},
		{"something to check the second time", []filters.AuthResult{result("spf", "none")}, []filters.AuthResult{result("spf", "fail")},
			[]filters.AuthResult{result("spf", "none"), result("spf", "fail")}},
		{"two signatures at once", nil, []filters.AuthResult{result("dkim", "pass", "d"), result("dkim", "pass", "d")},
			[]filters.AuthResult{result("dkim", "pass", "d"), result("dkim", "pass", "d")}},
	} {
		if got := supersede(test.earlier, test.later); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v", test.name, got)
		}
	}
}

func TestNoAuthenticationResultsWithoutAReporter(t *testing.T) {
	c := (&fakes{dnsbl: answers(listFacts{})}).connect(t)
	c.deliver("a@example.com", "b@example.org")
	if _, edits := c.message(plain); edits.Prepend != nil {
		t.Errorf("prepends %q", edits.Prepend)
	}
}

func TestWeDoNotRelay(t *testing.T) {
	f := &fakes{}
	for _, test := range []struct {
		to    string
		trust bool
		user  string
		want  string
	}{
		{to: "b@example.org"},
		{to: "b@EXAMPLE.org."},
		{to: "postmaster"},
		{to: "b@sub.example.net"},
		{to: "b@example.net", want: "550 5.7.1 we do not relay for example.net"},
		{to: "b@sub.example.org", want: "550 5.7.1 we do not relay for sub.example.org"},
		{to: "b@notexample.org", want: "550 5.7.1"},
		{to: "b@bücher.test", want: "550 5.7.1 we do not relay for b?cher.test"},
		{to: "b@a\r\n.test", want: "550 5.7.1 we do not relay for a??.test"},
		{to: "b@example.com", trust: true},
		{to: "b@example.com", user: "b"},
	} {
		var bypass Bypass
		bypass.Set(time.Now().Add(time.Hour)) // it does not lift this
		c := session(t, compile(t, f, f.config()), &filters.Session{Client: filters.Client{Trusted: test.trust}}, &Runtime{Bypass: &bypass})
		c.greet()
		c.Helo(c.ctx, &filters.Greeting{Name: "x", AuthUser: test.user})
		c.mail("a@example.com")
		expect(t, test.to, c.rcpt(test.to), test.want)
	}
}

// A backend that takes every client for ours would follow the route that is written before the @.
func TestWeDoNotRelayByRoute(t *testing.T) {
	f := &fakes{}
	for _, test := range []struct {
		to    string
		known bool // the backend tells strangers from its own
		trust bool
		want  string
	}{
		{to: "b@example.org"},
		{to: "postmaster"},
		{to: "b%example.com@example.org", want: "550 5.7.1 we do not relay"},
		{to: "example.com!b@example.org", want: "550 5.7.1 we do not relay"},
		{to: `"b@example.com"@example.org`, want: "550 5.7.1 we do not relay"},
		{to: "b%example.com@example.org", known: true},
		{to: "b%example.com@example.org", trust: true},
	} {
		config := f.config()
		config.RefuseRoutes = !test.known
		c := session(t, compile(t, f, config), &filters.Session{Client: filters.Client{Trusted: test.trust}}, &Runtime{})
		c.greet()
		c.Helo(c.ctx, &filters.Greeting{Name: "x"})
		c.mail("a@example.com")
		expect(t, test.to, c.rcpt(test.to), test.want)
	}
}

func TestTrustedClientsPass(t *testing.T) {
	asked := func(context.Context, filters.View) (*listFacts, error) { t.Error("no rule is asked"); return nil, nil }
	f := &fakes{dnsbl: asked, spf: answers(spfFacts{Result: "pass"}), early: pauser{on: true, pause: time.Second}}
	config := f.config("client.port > 0 -> reject; at: connect", "dnsbl.score > 1 -> reject", "message.size > 0 -> reject", "earlytalker.talked -> reject")
	config.Trusted = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	e := compile(t, f, config)
	if !e.Trusts(netip.MustParseAddr("::ffff:192.0.2.9")) || e.Trusts(netip.MustParseAddr("192.0.3.9")) {
		t.Error("Trusts")
	}
	c := session(t, e, &filters.Session{Client: filters.Client{Trusted: true}}, &Runtime{})
	if pause := c.Connect(c.ctx); pause != 0 {
		t.Errorf("pause of %v", pause)
	}
	for _, v := range c.deliver("a@example.com", "b@example.org") {
		expect(t, "verdict", v, "")
	}
	v, edits := c.message(plain)
	expect(t, "message", v, "")
	if !bytes.Contains(edits.Prepend, []byte("spf=pass")) {
		t.Errorf("who reads Authentication-Results behind us gets %q", edits.Prepend)
	}
}

func TestGreetingPause(t *testing.T) {
	f := &fakes{early: pauser{on: true, pause: 3 * time.Second}}
	c := f.connect(t, "earlytalker.talked and earlytalker.waited > 1 -> reject; at: connect")
	if pause := c.Connect(c.ctx); pause != 3*time.Second {
		t.Errorf("pause of %v", pause)
	}
	expect(t, "greeting", c.Greet(c.ctx, true, 2*time.Second), "550")

	c = f.connect(t, "earlytalker.talked -> reject; mode: observe")
	if pause := c.Connect(c.ctx); pause != 0 {
		t.Errorf("a rule that only observes makes the client wait %v", pause)
	}
	c = f.connect(t)
	if pause := c.Connect(c.ctx); pause != 0 {
		t.Errorf("no rule reads it, and the client waits %v", pause)
	}
}

func TestSecondGreetingForgetsTheFirst(t *testing.T) {
	f := &fakes{helo: func(_ context.Context, v filters.View) (*heloCheckFacts, error) {
		return &heloCheckFacts{Valid: v.Greeting.Name != "bad"}, nil
	}}
	c := f.connect(t,
		"not helo.valid -> score; points: 3; at: helo",
		"not helo.tls -> score; points: 2; at: helo",
		"client.port > 0 -> score; points: 1; at: connect",
		"score > 1 -> reject; at: mail")
	c.greet()
	expect(t, "first", c.Helo(c.ctx, &filters.Greeting{Name: "bad"}), "")
	if got := c.facts.Score(); got != 6 {
		t.Errorf("score %v", got)
	}
	expect(t, "second", c.Helo(c.ctx, &filters.Greeting{Name: "good", TLS: &filters.TLS{Version: "TLSv1.3"}}), "")
	expect(t, "mail", c.mail("a@example.com"), "")
}

func TestSecondGreetingIsLookedAtAnew(t *testing.T) {
	open := make(chan struct{})
	f := &fakes{resolve: func(_ context.Context, v filters.View) (*heloCheckFacts, error) {
		if v.Greeting.Name == "good" {
			<-open
		}
		return &heloCheckFacts{Valid: v.Greeting.Name == "good"}, nil
	}}
	c := f.connect(t, "not resolve.valid -> reject; at: mail")
	c.greet()
	c.Helo(c.ctx, &filters.Greeting{Name: "bad"})
	expect(t, "mail", c.mail("a@example.com"), "550")
	c.Conclude(Ending{})
	c.Helo(c.ctx, &filters.Greeting{Name: "good"})
	time.AfterFunc(10*time.Millisecond, func() { close(open) })
	expect(t, "mail", c.mail("a@example.com"), "")
}

func TestAcceptEndsWhatItReads(t *testing.T) {
	last := "mail.size > 0 -> score; points: 1" // never: only to have something behind
	for _, test := range []struct {
		name, rule string
		recipients []string // "" in, else refused
		second     string   // the same in the next transaction, from another sender
	}{
		{"recipient", `rcpt.local == "a" -> accept`, []string{"", "550", ""}, "550"},
		{"transaction", `mail.local == "a" -> accept`, []string{"", "", ""}, "550"},
		{"session", `client.port == 4000 -> accept`, []string{"", "", ""}, ""},
	} {
		c := (&fakes{}).connect(t, test.rule, "not mail.null -> reject", last)
		c.hello()
		c.mail("a@example.com")
		for i, to := range []string{"a@example.org", "b@example.org", "a@example.org"} {
			expect(t, test.name, c.rcpt(to), test.recipients[i])
		}
		c.Conclude(Ending{})
		c.mail("other@example.com")
		expect(t, test.name+", next transaction", c.rcpt("b@example.org"), test.second)
	}
}

func TestAcceptDoesNotReachBackToRulesBeforeIt(t *testing.T) {
	c := (&fakes{}).connect(t, `rcpt.local == "trap" -> reject`, `mail.local == "a" -> accept`, "mail.null == false -> defer")
	c.hello()
	c.mail("a@example.com")
	expect(t, "first", c.rcpt("b@example.org"), "")
	expect(t, "trap behind it", c.rcpt("trap@example.org"), "550")
}

func TestSlowTagAndDiscard(t *testing.T) {
	c := (&fakes{}).connect(t,
		"client.port > 0 -> slow; delay: 50s",
		"client.port > 1 -> slow; delay: 50s",
		"client.port > 0 -> tag; header: X-Port: {client.port}; at: connect",
		`rcpt.local == "hole" -> discard`,
		"message.size > 0 -> reject")
	c.hello()
	c.mail("a@example.com")
	v := c.rcpt("hole@example.org")
	expect(t, "rcpt", v, "")
	expect(t, "another", c.rcpt("b@example.org"), "452 4.5.3")
	got, edits := c.message(plain)
	if got.Action != rules.Discard || got.Reply.Code != 250 || edits.Prepend != nil {
		t.Errorf("%+v %q", got, edits.Prepend)
	}

	c = (&fakes{}).connect(t, "client.port > 0 -> slow; delay: 50s", "client.port > 1 -> slow; delay: 50s")
	c.hello()
	c.mail("a@example.com")
	if v := c.Rcpt(c.ctx, &filters.Recipient{ForwardPath: "b@example.org"}); v.Delay != time.Minute || v.Action != 0 {
		t.Errorf("%+v", v)
	}
}

func TestQuarantine(t *testing.T) {
	for _, test := range []struct {
		name   string
		rules  []string
		action rules.Action
		by     string // the rule
		reply  string
		keeps  bool
	}{
		{"at the end of data", []string{"message.size > 0 -> quarantine"}, rules.Quarantine, "rule0", "250 2.0.0 Message received", true},
		{"carried from the connection", []string{"client.port > 0 -> quarantine; at: connect", "message.size > 0 -> reject"}, rules.Quarantine, "rule0", "250 2.0.0", true},
		{"carried from RCPT", []string{`rcpt.local == "b" -> quarantine; reply: 250 2.0.0 Thank you`}, rules.Quarantine, "rule0", "250 2.0.0 Thank you", true},
		{"the first of two", []string{"client.port > 0 -> quarantine", "mail.null == false -> discard; at: data"}, rules.Quarantine, "rule0", "250", true},
		{"the first of two, thrown away", []string{"client.port > 0 -> discard", "mail.null == false -> quarantine; at: data"}, rules.Discard, "rule0", "250", false},
		{"the first by stage", []string{"client.port > 0 -> quarantine", "mail.null == false -> discard; at: mail"}, rules.Discard, "rule1", "250", false},
		{"a refusal with a copy", []string{"message.size > 0 -> reject; keep: copy"}, rules.Reject, "rule0", "550 5.7.1", true},
		{"a refusal", []string{"message.size > 0 -> reject"}, rules.Reject, "rule0", "550 5.7.1", false},
		{"watched", []string{"client.port > 0 -> quarantine; mode: observe"}, 0, "", "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := (&fakes{}).connect(t, append([]string{"client.port > 0 -> tag; header: X-Port: {client.port}; at: connect"}, test.rules...)...)
			c.hello()
			c.mail("a@example.com")
			expect(t, "rcpt", c.rcpt("b@example.org"), "")
			if !c.NeedsBackend(c.ctx) {
				t.Error("the backend is to be asked about the recipients")
			}
			v, edits := c.message(plain)
			by := ""
			if v.Rule != nil {
				by = fmt.Sprint("rule", v.Rule.Index-1)
			}
			got := strings.TrimSpace(fmt.Sprint(v.Reply.Code, " ", v.Reply.Enhanced, " ", v.Reply.Text))
			if v.Action != test.action || by != test.by || v.Keeps() != test.keeps || test.reply != "" && !strings.HasPrefix(got, test.reply) {
				t.Errorf("%v by %s: %s, keeps %t", v.Action, by, got, v.Keeps())
			}
			// What is kept may be delivered later, with the fields that it would have had.
			if tagged := bytes.Contains(edits.Prepend, []byte("X-Port:")); tagged != (test.keeps || test.action == 0) {
				t.Errorf("edits: %q", edits.Prepend)
			}
		})
	}
}

func TestBypassRecordsAndDoesNotAct(t *testing.T) {
	var bypass Bypass
	f := &fakes{grey: &greylist{state: filters.GreylistNew}}
	config := f.config("client.port > 0 -> reject; at: connect", "mail.null == false -> greylist", "rcpt.count > 0 -> reject", "message.size > 0 -> drop")
	until := time.Now().Add(time.Hour)
	bypass.Set(until)
	c := session(t, compile(t, f, config), &filters.Session{}, &Runtime{Bypass: &bypass})
	for _, v := range c.deliver("a@example.com", "b@example.org", "c@example.org") {
		expect(t, "verdict", v, "")
	}
	if !c.NeedsBackend(c.ctx) {
		t.Error("the backend is not needed")
	}
	bypass.Set(time.Time{}) // the transaction keeps what was in force at MAIL
	v, _ := c.message(plain)
	expect(t, "message", v, "")
	c.Conclude(Ending{})
	var matched []string
	for _, m := range c.records[0].Matched {
		if !m.Observed {
			t.Errorf("%s acted", m.Rule.Name)
		}
		matched = append(matched, m.Rule.Name)
	}
	if got := strings.Join(matched, " "); got != "rule0 rule1 rule1 rule3" {
		t.Errorf("matched %s", got)
	}
	if f.grey.attempts != 0 {
		t.Error("wrote state")
	}
	c.mail("a@example.com")
	expect(t, "behind the bypass", c.rcpt("b@example.org"), "451")
}

func TestRecords(t *testing.T) {
	f := &fakes{dnsbl: answers(listFacts{Score: 2}), spf: fails[spfFacts](), told: &witness{}}
	c := f.connect(t, "dnsbl.score > 1 -> score; points: 2", `spf.result == "fail" -> reject`, `rcpt.local == "no" -> reject`)
	c.hello()
	c.mail("a@example.com")
	expect(t, "rcpt", c.rcpt("no@example.org"), "550")
	c.Rcpt(c.ctx, &filters.Recipient{ForwardPath: "gone@example.org"})
	c.Refused(rules.Reply{Code: 554})
	expect(t, "rcpt", c.rcpt("b@example.org"), "")
	c.message(plain)
	c.Conclude(Ending{Reply: rules.Reply{Code: 250}, Size: 7})
	c.Gate.Close("")
	t.Cleanup(func() { c.Gate = c.engine.NewGate(c.session, nil) })
	if len(c.records) != 2 {
		t.Fatalf("%d records", len(c.records))
	}
	r := c.records[0]
	if r.Kind != "transaction" || r.ID != "T1" || r.Facts.Score() != 2 || len(r.Matched) != 4 || r.Matched[1].Recipient != "no@example.org" {
		t.Errorf("%+v", r)
	}
	codes := ""
	for _, rcpt := range r.Recipients {
		codes += rcpt.Address + " "
		if rcpt.Ours != (rcpt.Rule != nil) {
			t.Errorf("%+v", rcpt)
		}
	}
	if codes != "no@example.org gone@example.org b@example.org " {
		t.Error(codes)
	}
	statuses := ""
	for _, f := range r.Filters {
		statuses += f.Name + "=" + f.Status + " " + f.Error + ";"
	}
	if statuses != "dnsbl=ok ;spf=error server failure;" {
		t.Error(statuses)
	}
	if s := c.records[1]; s.Kind != "session" || s.ID != "S1" {
		t.Errorf("%+v", s)
	}
	var outcomes []int
	for _, o := range f.told.outcomes {
		outcomes = append(outcomes, int(o.Kind)*1000+o.Code)
	}
	if len(outcomes) != 5 || outcomes[0] != 550 || outcomes[1] != 554 || outcomes[2] != 250 || outcomes[3] != 1250 || outcomes[4] != 2000 {
		t.Error(outcomes)
	}
	if !f.told.outcomes[0].Ours || f.told.outcomes[1].Ours || f.told.outcomes[0].View.Recipient.ForwardPath != "no@example.org" {
		t.Error("what a witness is told")
	}
}

func TestRecordsAreNotChangedAnyMore(t *testing.T) {
	c := (&fakes{}).connect(t, `helo.name == "one" -> score; points: 1; at: helo`, `helo.name == "two" -> score; points: 1; at: helo`)
	c.greet()
	c.Helo(c.ctx, &filters.Greeting{Name: "one"})
	c.mail("a@example.com")
	c.Conclude(Ending{})
	c.Helo(c.ctx, &filters.Greeting{Name: "two"})
	if got := c.records[0].Matched; len(got) != 1 || got[0].Rule.Name != "rule0" {
		t.Errorf("%+v", got)
	}
}

// TestGivenUp: the client's own end of a transaction is told from one for which it had a reason.
func TestGivenUp(t *testing.T) {
	f := &fakes{told: &witness{}}
	c := f.connect(t, `rcpt.local == "no" -> reject`)
	c.hello()
	for _, step := range []struct {
		rcpts  []string
		ending Ending
		want   bool
	}{
		{nil, Ending{}, true},
		{[]string{"b@example.org"}, Ending{Note: "RSET"}, true},
		{[]string{"b@example.org", "no@example.org"}, Ending{}, false},
		{[]string{"b@example.org"}, Ending{Reply: rules.Reply{Code: 250}}, false},
		{[]string{"b@example.org"}, Ending{Reply: rules.Reply{Code: 451}, Ours: true}, false},
		{[]string{"b@example.org"}, Ending{Ours: true}, false}, // dropped by a rule
	} {
		c.mail("a@example.com")
		for _, to := range step.rcpts {
			c.rcpt(to)
		}
		c.Conclude(step.ending)
		if o := f.told.outcomes[len(f.told.outcomes)-1]; o.Kind != filters.MessageOutcome || o.GivenUp != step.want {
			t.Errorf("%+v: %+v", step, o)
		}
	}
}

// A witness hears by which facts a rule has refused, what the backend's enhanced code was, and whether something that is
// only looked at would have refused.
func TestAWitnessHearsWhy(t *testing.T) {
	f := &fakes{told: &witness{}, dnsbl: answers(listFacts{Score: 2})}
	c := f.connect(t, `dnsbl.score >= 2 and mail.local == "evil" -> reject`, `mail.local == "odd" -> reject; mode: observe`,
		`mail.local == "dull" -> greylist; mode: observe`)
	c.hello()
	for _, test := range []struct {
		sender  string
		excused bool
		reasons string
	}{{"evil", false, "[dnsbl.score mail.local]"}, {"odd", true, "[]"}, {"dull", false, "[]"}, {"good", false, "[]"}} {
		f.told.outcomes = nil
		c.mail(test.sender + "@example.net")
		v := c.Rcpt(c.ctx, &filters.Recipient{ForwardPath: "alice@example.org"})
		if v.Action == 0 {
			c.Refused(rules.Reply{Code: 550, Enhanced: "5.1.1"})
		}
		c.Conclude(Ending{})
		rcpt, message := f.told.outcomes[0], f.told.outcomes[1]
		if fmt.Sprint(rcpt.Reasons) != test.reasons || message.Excused != test.excused || rcpt.Ours != (test.sender == "evil") || !rcpt.Ours && rcpt.Enhanced != "5.1.1" {
			t.Errorf("%s: %+v, %+v", test.sender, rcpt, message)
		}
	}
}

// A look-up that is nearly there may spare the backend a connection, and one that is not does not hold up the mail.
func TestAMomentForWhatIsOnItsWay(t *testing.T) {
	for name, test := range map[string]struct {
		takes  time.Duration
		score  float64
		rule   string
		needed bool
		waited time.Duration
	}{
		"listed":                 {moment / 2, 5, "dnsbl.score >= 4 -> reject", false, moment / 2},
		"not listed":             {moment / 2, 0, "dnsbl.score >= 4 -> reject", true, moment / 2},
		"late":                   {time.Minute, 5, "dnsbl.score >= 4 -> reject", true, moment},
		"at hand":                {0, 5, "dnsbl.score >= 4 -> reject", false, 0},
		"of some recipients":     {moment / 2, 5, `dnsbl.score >= 4 and rcpt.local == "b" -> reject`, true, 0},
		"only watched":           {moment / 2, 5, "dnsbl.score >= 4 -> reject; mode: observe", true, 0},
		"for those let through":  {moment / 2, 5, "dnsbl.score >= 4 -> accept", true, 0},
		"to end in the greylist": {moment / 2, 5, "dnsbl.score >= 4 -> greylist", true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakes{dnsbl: func(ctx context.Context, _ filters.View) (*listFacts, error) {
					select {
					case <-time.After(test.takes):
						return &listFacts{Score: test.score}, nil
					case <-ctx.Done():
						return nil, ctx.Err()
					}
				}}
				c := f.connect(t, test.rule)
				c.hello()
				c.mail("a@example.com")
				synctest.Wait()
				begun := time.Now()
				if needed := c.NeedsBackend(c.ctx); needed != test.needed {
					t.Errorf("the backend is needed: %t", needed)
				}
				if waited := time.Since(begun); waited != test.waited {
					t.Errorf("it took %s", waited)
				}
			})
		})
	}
}
