package milter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-message/textproto"
	"github.com/emersion/go-milter"

	"gatepost/filters"
	"gatepost/filters/milter/wire"
	"gatepost/policy"
	"gatepost/proxy"
	"gatepost/proxy/called"
	"gatepost/rules"
)

// talk is a caller whose every answer is looked at.
type talk struct {
	*caller
	t testing.TB
}

// stranger is the client of most tests.
var stranger = wire.Connect{Name: "unknown", Family: milter.FamilyInet, Port: 40000, Address: "192.0.2.77"}

func (h *house) call(offer wire.Negotiation) *talk {
	h.t.Helper()
	c, err := call(h.network, h.address, offer)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.conn.Close() })
	c.values["v"], c.values["{daemon_name}"] = "Postfix 3.7.11", "mx.test"
	return &talk{c, h.t}
}

// hello is a session up to HELO.
func (h *house) hello() *talk {
	h.t.Helper()
	c := h.call(fullOffer)
	c.want("c")(c.connect(stranger))
	c.want("c")(c.helo("client.test"))
	return c
}

// want checks an answer: "c", "d", "s", or the start of a reply.
func (c *talk) want(want string) func(answer, error) answer {
	c.t.Helper()
	return func(a answer, err error) answer {
		c.t.Helper()
		got := a.reply
		if got == "" && a.code != 0 {
			got = string(a.code)
		}
		if err != nil || !strings.HasPrefix(got, want) || want == "" && got != "" {
			c.t.Fatalf("got %q, %v, want %q", got, err, want)
		}
		return a
	}
}

func (c *talk) envelope(from string, to ...string) {
	c.t.Helper()
	c.want("c")(c.mail("<" + from + ">"))
	for _, r := range to {
		c.want("c")(c.rcpt("<" + r + ">"))
	}
	c.want("c")(c.data())
}

func (c *talk) send(text, want string) (a answer, skipped bool) {
	c.t.Helper()
	a, skipped, err := c.message([]byte(strings.ReplaceAll(text, "\n", "\r\n")))
	c.want(want)(a, err)
	return a, skipped
}

func (c *talk) bye() {
	c.t.Helper()
	if err := errors.Join(c.abort(), c.abort(), c.quit()); err != nil {
		c.t.Fatal(err)
	}
}

func TestOneMessage(t *testing.T) {
	h := start(t, setup{rules: []rules.Definition{rule("large", "message.size > 100000", "reject")}})
	c := h.hello()
	c.values["i"] = "4XQID"
	c.envelope("a@example.org", "b@example.com")
	c.send("Subject: x\n\nbody\n", "c")
	c.bye()
	r := h.journal.Await(t, policy.TransactionRecord, 1)[0]
	if r.Ending.QueueID != "4XQID" || r.Ending.Reply.Code != 250 || r.Ending.Ours || r.Ending.Note != leftToMTA || r.Ending.Size != int64(len("Subject: x\r\n\r\nbody\r\n")) {
		t.Errorf("%+v", r.Ending)
	}
	if r.Envelope.ReversePath != "a@example.org" || len(r.Recipients) != 1 || r.Recipients[0].Reply.Code != 250 {
		t.Errorf("%+v %+v", r.Envelope, r.Recipients)
	}
	s := h.journal.Await(t, policy.SessionRecord, 1)[0]
	if s.Session.AddrPort().String() != "192.0.2.77:40000" || s.Ending.Note != "quit" {
		t.Errorf("%+v %+v", s.Session, s.Ending)
	}
}

// TestNothingIsLost: what is known of a connection outlives a refused recipient, and every message.
func TestNothingIsLost(t *testing.T) {
	h := start(t, setup{rules: []rules.Definition{
		rule("client", `client.ip != "192.0.2.77" or helo.name != "client.test"`, "reject", "reply", "550 5.7.1 lost"),
		rule("sender", `mail.domain == "bad.test"`, "reject", "at", "mail", "reply", "550 5.7.1 sender"),
		rule("rcpt", `rcpt.local == "no"`, "reject", "reply", "550 5.7.1 100% {client.ip}\nsee {mail.address}"),
		rule("later", `rcpt.local == "later"`, "defer"),
		rule("text", `header("Subject") == "spam"`, "reject", "reply", "554 5.7.1 spam"),
		rule("void", `mail.local == "void"`, "discard"),
	}})
	c := h.hello()
	for range 2 {
		c.want("550 5.7.1 sender (id ")(c.mail("<x@bad.test>"))
		c.abort()
		c.want("c")(c.mail("<a@example.org>"))
		if a := c.want("550-5.7.1 100% 192.0.2.77\r\n550 5.7.1 see a@example.org (id ")(c.rcpt("<no@example.com>")); strings.Contains(a.reply, "%%") {
			t.Errorf("%q", a.reply)
		}
		c.want("c")(c.rcpt("<b@example.com>"))
		c.want("451 4.7.1 ")(c.rcpt("<later@example.com>"))
		c.want("c")(c.data())
		c.send("Subject: ham\n\nx\n", "c") // no ABORT behind it, as with sendmail
		c.envelope("a@example.org", "b@example.com")
		c.send("Subject: spam\n\nx\n", "554 5.7.1 spam (id ")
		c.abort() // as with Postfix
		c.envelope("void@example.org", "b@example.com")
		c.send("Subject: spam\n\nx\n", "d")
		c.want("c")(c.mail("<a@example.org>"))
		c.want("c")(c.rcpt("<b@example.com>"))
		c.abort() // RSET
	}
	c.bye()
	var codes []string
	for _, r := range h.journal.Await(t, policy.TransactionRecord, 10) {
		codes = append(codes, strings.TrimSpace(fmt.Sprintf("%d %s", r.Ending.Reply.Code, r.Ending.Note)))
	}
	once := []string{"550", "250 " + leftToMTA, "554", "250 discarded", "0 RSET"}
	if want := append(once, once...); !slices.Equal(codes, want) {
		t.Errorf("got  %q\nwant %q", codes, want)
	}
}

func TestRecipientsOfAnotherClass(t *testing.T) {
	h := start(t, setup{rules: []rules.Definition{rule("for-c", `rcpt.local == "c" and message.size > 1000`, "reject")}})
	c := h.hello()
	c.want("c")(c.mail("<a@example.org>"))
	c.want("c")(c.rcpt("<b@example.com>"))
	c.want("452 4.5.3 ")(c.rcpt("<c@example.com>"))
	c.want("c")(c.data())
	c.send("\n"+strings.Repeat("x", 2000)+"\n", "c")
}

// TestMessageAsSent: the filters' message is what the MTA got, byte for byte, whatever was agreed.
func TestMessageAsSent(t *testing.T) {
	var seen string
	spec := filters.Define("reader", "", func() struct{} { return struct{}{} },
		func(struct{}, filters.Env) (*reader, error) { return &reader{&seen}, nil }, filters.On(filters.AtMessage, (*reader).read))
	h := start(t, setup{specs: []filters.Spec{spec}, rules: []rules.Definition{rule("read", "reader.size > 1e9", "reject")}})
	for _, test := range []struct {
		offer wire.Negotiation
		text  string
		want  string // where it is not the same
	}{
		{offer: fullOffer, text: "Subject: x\r\nX-Empty:\r\nX-Tight:a\r\nX-Fold:  two\r\n\tfolded\r\n \r\n  end\r\n\r\nbody\r\n..\r\n.\r\n"},
		{offer: fullOffer, text: "Subject: no body\r\n\r\n"},
		{offer: fullOffer, text: "\r\nno header\r\n"},
		{offer: fullOffer, text: "Subject: large\r\n\r\n" + strings.Repeat("0123456789abcde\r\n", 200_000)},
		{offer: fullOffer, text: "Subject: " + strings.Repeat("long\r\n ", 15_000) + "\r\n\r\nx\r\n"},
		{offer: wire.Negotiation{Version: 2, Actions: 0x3f, Protocol: 0x7f}, text: "Subject: x\r\nX-Tight:a\r\n\r\nbody\r\n", want: "Subject: x\r\nX-Tight: a\r\n\r\nbody\r\n"},
		{offer: wire.Negotiation{Version: 6}, text: "Subject: x\r\nX-Two:  a\r\n\r\nbody\r\n"},
	} {
		c := h.call(test.offer)
		c.want("c")(c.connect(stranger))
		c.want("c")(c.helo("client.test"))
		c.envelope("a@example.org", "b@example.com")
		a, skipped, err := c.message([]byte(test.text))
		c.want("c")(a, err)
		c.bye()
		if test.want == "" {
			test.want = test.text
		}
		if seen != test.want || skipped {
			t.Errorf("%+v: skipped %t\n got %.200q\nwant %.200q", test.offer, skipped, seen, test.want)
		}
	}
	if n := h.server.Metrics().Spilled.Load(); n != 1 {
		t.Errorf("%d messages went to files, want 1", n)
	}
}

type reader struct{ text *string }

type readerFacts struct {
	Size int `fact:"size"`
}

func (r *reader) read(ctx context.Context, v filters.View) (*readerFacts, error) {
	text, err := io.ReadAll(v.Message.Reader(ctx))
	*r.text = string(text)
	return &readerFacts{len(text)}, err
}

// TestFieldsStayFields: a value cannot become another field.
func TestFieldsStayFields(t *testing.T) {
	h := start(t, setup{rules: []rules.Definition{rule("x", `header("X-Evil") == "yes" or header("Y") == "z"`, "reject")}})
	c := h.hello()
	c.envelope("a@example.org", "b@example.com")
	c.sent = wire.AppendTexts(c.sent, 'L', "Subject", " a\nX-Evil: yes\r\nX-Evil: yes\rX-Evil: yes")
	c.sent = wire.AppendTexts(c.sent, 'L', "A\r\nX-Evil", " yes")
	c.sent = wire.AppendTexts(c.sent, 'L', "Y: z\nQ", " yes")
	c.sent = wire.Append[string](c.sent, 'E')
	c.want("c")(c.ask(0))
}

// TestEdits: our fields on top in their order, forged ones away, all else as it was.
func TestEdits(t *testing.T) {
	h := start(t, setup{specs: []filters.Spec{reporterSpec()}, rules: []rules.Definition{
		rule("one", "true", "tag", "header", "X-One: 1"), rule("two", "true", "tag", "header", "X-Two: 2"),
	}})
	text := "Received: by other\r\nAuthentication-Results: mx.test; spf=pass\r\nauthentication-results: other.test; spf=pass\r\n" +
		"Authentication-Results: MX.test;\r\n\tdkim=pass\r\nSubject: x\r\nAuthentication-results: mx.test; arc=pass\r\n\r\nbody\r\n"
	want := "Authentication-Results: mx.test; x-reporter=pass\r\nX-One: 1\r\nX-Two: 2\r\n" +
		"Received: by other\r\nauthentication-results: other.test; spf=pass\r\nSubject: x\r\n\r\nbody\r\n"
	for _, offer := range []wire.Negotiation{fullOffer, {Version: 2, Actions: 0x3f, Protocol: 0x7f}} {
		c := h.call(offer)
		c.want("c")(c.connect(stranger))
		c.want("c")(c.helo("client.test"))
		for range 2 {
			c.envelope("a@example.org", "b@example.com")
			a, _, err := c.message([]byte(text))
			c.want("c")(a, err)
			got, err := c.apply([]byte(text), a.edits)
			if strings.ReplaceAll(string(got), ";\r\n\t", "; ") != want || err != nil {
				t.Errorf("%v\n got %q\nwant %q", err, got, want)
			}
		}
		c.bye()
	}
	c := h.call(wire.Negotiation{Version: 6, Protocol: 0x1fffff}) // it lets nobody change anything
	c.want("c")(c.connect(stranger))
	c.want("c")(c.helo("client.test"))
	c.envelope("a@example.org", "b@example.com")
	if a, _, err := c.message([]byte(text)); len(a.edits) > 0 || err != nil {
		t.Errorf("%+v, %v", a, err)
	}
}

type editor struct{ fields []filters.FieldEdit }

func (*editor) MayEdit() bool { return true }

type editorFacts struct {
	Fine    bool `fact:"fine"`
	changes filters.Changes
}

func (f *editorFacts) Changes() *filters.Changes { return &f.changes }

func editorSpec(fields ...filters.FieldEdit) filters.Spec {
	return filters.Define("editor", "", func() struct{} { return struct{}{} },
		func(struct{}, filters.Env) (*editor, error) { return &editor{fields}, nil },
		filters.On(filters.AtMessage, func(e *editor, _ context.Context, _ filters.View) (*editorFacts, error) {
			return &editorFacts{changes: filters.Changes{Fields: e.fields}}, nil
		}))
}

// TestEditsOfFilters: what a filter wants changed, no rule asking, is put where it belongs. The MTA counts its own Received,
// which nobody else has seen.
func TestEditsOfFilters(t *testing.T) {
	field := func(kind filters.EditKind, index int, name, value string) filters.FieldEdit {
		return filters.FieldEdit{Kind: kind, Index: index, Name: name, Raw: []byte(name + ": " + value + "\r\n")}
	}
	h := start(t, setup{specs: []filters.Spec{editorSpec(field(filters.InsertField, 1, "X-Top", "1"), field(filters.InsertField, 3, "X-Mid", "2"),
		field(filters.ChangeField, 1, "Subject", "new\r\n\tlines"), filters.FieldEdit{Kind: filters.DeleteField, Index: 2, Name: "X"})},
		rules: []rules.Definition{rule("one", "true", "tag", "header", "X-One: 1")}})
	text := "Received: by other\r\nX: 1\r\nSubject: x\r\nX: 2\r\nLast: y\r\n\r\nbody\r\n"
	want := "X-One: 1\r\nX-Top: 1\r\nReceived: by the MTA\r\nReceived: by other\r\nX-Mid: 2\r\nX: 1\r\nSubject: new\r\n\tlines\r\nLast: y\r\n\r\nbody\r\n"
	c := h.call(fullOffer)
	c.want("c")(c.connect(stranger))
	c.want("c")(c.helo("client.test"))
	c.envelope("a@example.org", "b@example.com")
	a, _, err := c.message([]byte(text))
	c.want("c")(a, err)
	if got, err := c.apply([]byte("Received: by the MTA\r\n"+text), a.edits); string(got) != want || err != nil {
		t.Errorf("%v\n got %q\nwant %q", err, got, want)
	}
	c.bye()
}

type reporter struct{}

type reporterFacts struct {
	Fine bool `fact:"fine"`
}

var _ filters.AuthReporter = (*reporterFacts)(nil)

func (*reporterFacts) AuthResults(*filters.Session) []filters.AuthResult {
	return []filters.AuthResult{{Method: "x-reporter", Result: "pass"}}
}

func reporterSpec() filters.Spec {
	return filters.Define("reporter", "", func() struct{} { return struct{}{} },
		func(struct{}, filters.Env) (*reporter, error) { return &reporter{}, nil },
		filters.On(filters.AtMail, func(*reporter, context.Context, filters.View) (*reporterFacts, error) {
			return &reporterFacts{true}, nil
		}))
}

func TestBodiesThatNobodyReads(t *testing.T) {
	h := start(t, setup{trusted: []string{"198.51.100.0/24"}, rules: []rules.Definition{rule("large", "message.size > 100000", "reject")}})
	c := h.call(fullOffer)
	friend := stranger
	friend.Address = "198.51.100.1"
	c.want("c")(c.connect(friend))
	c.want("c")(c.helo("client.test"))
	c.envelope("a@example.org", "b@example.com")
	if _, skipped := c.send("Subject: x\n\n"+strings.Repeat("x\n", 100_000), "c"); !skipped {
		t.Error("nobody reads the body, and all of it was sent")
	}
	c.bye()
	if size, known := h.journal.Await(t, policy.TransactionRecord, 1)[0].Facts.Lookup("message.size"); known {
		t.Errorf("message.size is %v", size)
	}
	old := h.call(wire.Negotiation{Version: 2, Actions: 0x3f, Protocol: 0x7f}) // knows no SKIP
	old.want("c")(old.connect(friend))
	old.want("c")(old.helo("client.test"))
	old.envelope("a@example.org", "b@example.com")
	old.send("Subject: x\n\n"+strings.Repeat("x\n", 100_000), "c")

	never := start(t, setup{})
	n := never.hello()
	if !n.has(milter.OptNoBody) {
		t.Error("nobody ever reads a body, and they were not declined")
	}
	n.envelope("a@example.org", "b@example.com")
	n.send("Subject: x\n\nbody\n", "c")
}

func TestClient(t *testing.T) {
	h := start(t, setup{rules: []rules.Definition{
		rule("tell", "true", "reject", "at", "connect", "reply", "550 5.7.1 {client.ip} {client.port} name={client.name} submission={client.submission}"),
	}})
	for _, test := range []struct {
		client wire.Connect
		macros []string
		want   string
	}{
		{client: stranger, want: "192.0.2.77 40000 name=unknown submission=false"},
		{client: wire.Connect{Name: "mail.example.net", Family: '4', Port: 1, Address: "192.0.2.1"}, want: "192.0.2.1 1 name=mail.example.net submission=false"},
		{client: wire.Connect{Name: "mail.example.net", Family: '6', Port: 1, Address: "IPv6:2001:db8::1"}, want: "2001:db8::1 1 name=mail.example.net submission=false"},
		{client: wire.Connect{Name: "[2001:db8::1]", Family: '6', Port: 1, Address: "2001:db8::1"}, want: "2001:db8::1 1 name=unknown submission=false"},
		{client: wire.Connect{Name: "mail.example.net", Family: '6', Port: 1, Address: "::ffff:192.0.2.1"}, want: "192.0.2.1 1 name=mail.example.net submission=false"},
		{client: wire.Connect{Name: "x", Family: 'U'}, macros: []string{"{client_addr}", "192.0.2.5", "{client_port}", "77"}, want: "192.0.2.5 77 name=x submission=false"},
		{client: wire.Connect{Name: "mail.example.net", Family: '4', Port: 1, Address: "192.0.2.1"}, macros: []string{"v", "8.17.1", "{client_resolve}", "FORGED"}, want: "192.0.2.1 1 name=unknown submission=false"},
		{client: wire.Connect{Name: "mail.example.net", Family: '4', Port: 1, Address: "192.0.2.1"}, macros: []string{"v", "8.17.1", "{client_resolve}", "OK"}, want: "192.0.2.1 1 name=mail.example.net submission=false"},
		{client: wire.Connect{Name: "mail.example.net", Family: '4', Port: 1, Address: "192.0.2.1"}, macros: []string{"v", "8.17.1"}, want: "192.0.2.1 1 name=unknown submission=false"},
		{client: wire.Connect{Name: "localhost", Family: '4', Port: 0, Address: "127.0.0.1"}, want: "127.0.0.1 0 name=localhost submission=true"},
		{client: wire.Connect{Name: "localhost", Family: 'L', Address: "/x"}, want: "127.0.0.1 0 name=localhost submission=true"},
		{client: wire.Connect{Name: "home.example.net", Family: '4', Port: 1, Address: "192.0.2.1"}, macros: []string{"{daemon_name}", "ORIGINATING"}, want: "192.0.2.1 1 name=home.example.net submission=true"},
	} {
		c := h.call(fullOffer)
		for i := 0; i+1 < len(test.macros); i += 2 {
			c.values[test.macros[i]] = test.macros[i+1]
		}
		a, err := c.connect(test.client)
		if want := "550 5.7.1 " + test.want + " (id "; err != nil || !strings.HasPrefix(a.reply, want) {
			t.Errorf("%+v %q:\n got %q, %v\nwant %q", test.client, test.macros, a.reply, err, want)
		}
		c.want(a.reply)(c.helo("client.test")) // refused once, it stays refused
		c.want(a.reply)(c.mail("<a@example.org>"))
	}
}

// TestOneConnectionForSeveralClients: behind QUIT_NC, and where an MTA says CONNECT again.
func TestOneConnectionForSeveralClients(t *testing.T) {
	h := start(t, setup{rules: []rules.Definition{rule("tell", "true", "reject", "reply", "550 5.7.1 {client.ip} {helo.name} {helo.user}")}})
	c := h.hello()
	c.values["{auth_authen}"] = "joe"
	c.want("c")(c.mail("<a@example.org>"))
	c.want("550 5.7.1 192.0.2.77 client.test joe ")(c.rcpt("<b@example.com>"))
	delete(c.values, "{auth_authen}")
	c.sent = wire.Append[string](c.sent, 'K')
	other := stranger
	other.Address = "192.0.2.78"
	for _, name := range []string{"second.test", "third.test"} {
		c.want("c")(c.connect(other))
		c.want("c")(c.helo(name))
		c.want("c")(c.mail("<a@example.org>"))
		c.want("550 5.7.1 " + other.Address + " " + name + "  (id")(c.rcpt("<b@example.com>"))
		other.Address = "2001:db8::9"
		other.Family = '6'
	}
	c.bye()
	h.journal.Await(t, policy.SessionRecord, 4) // and one of who signed in
}

func TestTLSAndUsers(t *testing.T) {
	h := start(t, setup{domains: []string{"example.com"}, rules: []rules.Definition{
		rule("tell", `rcpt.local == "tell"`, "reject", "reply", "550 5.7.1 {helo.tls} {helo.tls_version} {helo.client_cert} {helo.user} {client.authenticated} {client.submission}"),
	}})
	c := h.call(fullOffer)
	c.want("c")(c.connect(stranger))
	c.want("c")(c.helo("client.test"))
	c.values["{tls_version}"], c.values["{cipher}"], c.values["{cert_subject}"] = "TLSv1.3", "TLS_AES_128_GCM_SHA256", "client"
	c.want("c")(c.helo("client.test"))
	c.want("c")(c.mail("<a@example.org>"))
	c.want("550 5.7.1 true TLSv1.3 client  false false ")(c.rcpt("<tell@example.com>"))
	c.abort()
	c.values["{auth_authen}"] = "joe"
	c.want("c")(c.mail("<a@example.org>"))
	c.want("550 5.7.1 true TLSv1.3 client joe true true ")(c.rcpt("<tell@example.com>"))
	c.want("c")(c.rcpt("<who@elsewhere.test>")) // the MTA has said that it relays
	c.bye()

	s := h.call(fullOffer)
	s.values["v"] = "8.17.1"
	s.values["{tls_version}"], s.values["{cert_subject}"], s.values["{verify}"] = "TLSv1.2", "/CN=forged", "FAIL"
	s.want("c")(s.connect(stranger))
	s.want("c")(s.helo("client.test"))
	s.want("c")(s.mail("<a@example.org>"))
	s.want("550 5.7.1 true TLSv1.2   false false ")(s.rcpt("<tell@example.com>"))
}

// TestWithoutSMTP: what comes by the command sendmail has no HELO, and nobody to tell at RCPT.
func TestWithoutSMTP(t *testing.T) {
	h := start(t, setup{rules: []rules.Definition{
		rule("no", `rcpt.local == "no"`, "reject", "reply", "550 5.7.1 not to him"),
		rule("size", "message.size > 100000", "reject"),
	}})
	c := h.call(fullOffer)
	c.want("c")(c.connect(wire.Connect{Name: "localhost", Family: '4', Port: 0, Address: "127.0.0.1"}))
	c.envelope("root@example.org", "b@example.com")
	c.send("Subject: cron\n\nx\n", "c")
	c.envelope("root@example.org", "no@example.com", "b@example.com")
	c.send("Subject: cron\n\nx\n", "550 5.7.1 not to him")
	c.bye()
	records := h.journal.Await(t, policy.TransactionRecord, 2)
	if records[1].Ending.Reply.Code != 550 || len(records[1].Recipients) != 2 {
		t.Errorf("%+v", records[1].Ending)
	}
}

// TestParameters: what ESMTP says of the mail is there.
func TestParameters(t *testing.T) {
	h := start(t, setup{rules: []rules.Definition{rule("tell", "mail.size > 0", "reject", "reply", "550 5.7.1 {mail.size} {mail.address} {rcpt.address}")}})
	c := h.hello()
	c.want("c")(c.mail("<@relay.test:ä@example.org>", "SIZE=1234", "BODY=8BITMIME", "SMTPUTF8"))
	c.want("550 5.7.1 1234 ?@example.org b@example.com ")(c.rcpt("<b@example.com>", "NOTIFY=NEVER"))
	c.abort()
	c.want("c")(c.mail("odd address", "SIZE=77", "=", "NOT\nOK=\x01"))
	c.want("550 5.7.1 77 odd address post?master ")(c.rcpt("<post\nmaster>"))
	c.bye()
	r := h.journal.Await(t, policy.TransactionRecord, 2)
	if e := r[0].Envelope; !e.UTF8 || len(e.Params) != 3 || e.Params[1] != (filters.Param{Key: "BODY", Value: "8BITMIME", HasValue: true}) {
		t.Errorf("%+v", e)
	}
	if p := r[1].Envelope.Params; len(p) != 3 || p[2].Key != "NOT?OK" || p[2].Value != "?" {
		t.Errorf("%+v", p)
	}
}

func TestRejectedByTheMTA(t *testing.T) {
	h := start(t, setup{})
	c := h.hello()
	c.want("c")(c.mail("<a@example.org>"))
	for _, status := range []string{"5.1.1", "4.1.1", "nonsense"} {
		if err := c.rejected(status, "User unknown", "<nobody@example.com>"); err != nil {
			t.Fatal(err)
		}
	}
	c.want("c")(c.rcpt("<b@example.com>"))
	c.bye()
	var codes []int
	for _, r := range h.journal.Await(t, policy.TransactionRecord, 1)[0].Recipients {
		codes = append(codes, r.Reply.Code)
	}
	if !slices.Equal(codes, []int{550, 450, 550, 250}) {
		t.Errorf("%v", codes)
	}
}

func TestFaultsOfMessages(t *testing.T) {
	h := start(t, setup{spill: 100_000, rules: []rules.Definition{rule("large", "message.size > 10000000", "reject")}, limits: func(l *proxy.Limits) {
		l.MessageSize, l.MessageMemory, l.Memory, l.HeaderSize, l.Hops = 500_000, 64<<10, 64<<10, 8<<10, 10
	}})
	c := h.hello()
	for _, test := range []struct{ text, want string }{
		{"Subject: x\n\n" + strings.Repeat("x\n", 10_000), "c"},
		{"Subject: x\n\n" + strings.Repeat("x\n", 120_000), "452 4.3.1 "},
		{"Subject: " + strings.Repeat("x", 9_000) + "\n\nx\n", "552 5.3.4 "},
		{strings.Repeat("Received: x\n", 11) + "\nx\n", "554 5.4.6 "},
		{strings.Repeat("Subject: "+strings.Repeat("x", 9_000)+"\n", 100) + "\nx\n", "4"},
	} {
		c.envelope("a@example.org", "b@example.com")
		c.send(test.text, test.want)
	}
	c.bye()
}

func TestTarpit(t *testing.T) {
	h := start(t, setup{rules: []rules.Definition{
		rule("slow", `mail.local == "slow"`, "slow", "delay", "100ms"), rule("end", "message.size >= 0", "slow", "delay", "100ms")}})
	c := h.hello()
	begun := time.Now()
	c.want("c")(c.mail("<slow@example.org>"))
	c.want("c")(c.rcpt("<b@example.com>"))
	if took := time.Since(begun); took < 100*time.Millisecond {
		t.Errorf("the answer came after %s", took)
	}
	c.want("c")(c.data())
	begun = time.Now()
	c.send("\nx\n", "c")
	if took := time.Since(begun); took < 100*time.Millisecond {
		t.Errorf("the answer came after %s", took)
	}
}

func TestUnknownCommandsPass(t *testing.T) {
	h := start(t, setup{})
	c := h.hello()
	c.agreed.Protocol = 0 // it tells of them though we have declined, and wants an answer
	c.sent = wire.AppendTexts(c.sent, 'U', "XFOO")
	c.want("c")(c.ask(0))
	c.envelope("a@example.org", "b@example.com")
}

func TestOutOfSequence(t *testing.T) {
	h := start(t, setup{})
	c := h.call(fullOffer)
	c.want("451")(c.mail("<a@example.org>")) // before CONNECT
	c.want("c")(c.connect(stranger))
	c.want("451")(c.rcpt("<b@example.com>"))
	c.want("451")(c.data())
	c.sent = wire.Append[string](c.sent, 'E')
	c.want("451")(c.ask(0))
	c.envelope("a@example.org", "b@example.com")
	c.want("451")(c.rcpt("<b@example.com>"))
	c.want("451")(c.data())
	c.send("\nx\n", "c")
	c.bye()
}

func TestViolations(t *testing.T) {
	h := start(t, setup{})
	for name, stream := range map[string][]byte{
		"no negotiation":  wire.AppendTexts(nil, 'H', "x"),
		"old":             (&wire.Negotiation{Version: 1}).AppendTo(nil),
		"torn offer":      wire.Append(nil, 'O', "\x00\x00"),
		"SMTP":            []byte("EHLO x\r\n"),
		"huge":            {0x7f, 0, 0, 0, 'L'},
		"unknown":         wire.Append(fullOffer.AppendTo(nil), '!', ""),
		"malformed":       wire.Append(fullOffer.AppendTo(nil), 'C', "x"),
		"header no name":  wire.Append(fullOffer.AppendTo(nil), 'L', "\x00"),
		"ends in a frame": fullOffer.AppendTo(nil)[:9],
	} {
		conn, err := net.Dial(h.network, h.address)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		conn.Write(stream)
		if name == "ends in a frame" {
			conn.(*net.UnixConn).CloseWrite()
		}
		if _, err := io.ReadAll(conn); err != nil {
			t.Errorf("%s: the connection stays: %v", name, err)
		}
		conn.Close()
	}
	if n := h.server.Metrics().Violations.Load(); n != 9 {
		t.Errorf("%d violations, want 9", n)
	}
}

func TestPanicEndsOneSession(t *testing.T) {
	h := start(t, setup{dirty: true})
	other := h.hello()
	c := h.hello()
	c.want("c")(c.mail("<a@example.org>"))
	h.journal.Panics.Store(true)
	c.sent = wire.Append[string](c.sent, 'A')
	if _, err := c.ask(0); !errors.Is(err, errTorn) {
		t.Errorf("%v", err)
	}
	h.journal.Panics.Store(false)
	other.envelope("a@example.org", "b@example.com")
	if n := h.server.Metrics().Panics.Load(); n == 0 || !strings.Contains(h.log.String(), "please report it") {
		t.Errorf("%d panics\n%s", n, h.log)
	}
}

func TestTooManyConnections(t *testing.T) {
	h := start(t, setup{limits: func(l *proxy.Limits) { l.Connections = 2 }})
	one := h.hello()
	h.hello()
	if _, err := call(h.network, h.address, fullOffer); err == nil {
		t.Error("a third connection is served")
	}
	one.bye()
	for limit := time.Now().Add(5 * time.Second); h.server.Metrics().Open.Load() > 1 && time.Now().Before(limit); {
		time.Sleep(time.Millisecond)
	}
	h.hello()
}

// TestSilentMTA: a frame that has begun has limits.data_timeout to go on. The transaction comes to nothing, and is recorded.
func TestSilentMTA(t *testing.T) {
	h := start(t, setup{limits: func(l *proxy.Limits) { l.DataTimeout = filters.Duration(50 * time.Millisecond) },
		rules: []rules.Definition{rule("large", "message.size > 100000", "reject")}})
	c := h.hello()
	c.envelope("a@example.org", "b@example.com")
	c.sent = wire.Append(c.sent, 'B', "half of what was announced")
	c.sent = c.sent[:len(c.sent)-10]
	if err := c.caller.send(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.frame(); !errors.Is(err, io.EOF) {
		t.Errorf("the connection stays: %v", err)
	}
	r := h.journal.Await(t, policy.TransactionRecord, 1)[0]
	if r.Ending.Reply.Code != 0 || r.Ending.Note != "timeout" || h.server.Metrics().Timeouts.Load() != 1 {
		t.Errorf("%+v, %d timeouts", r.Ending, h.server.Metrics().Timeouts.Load())
	}
}

func TestTCP(t *testing.T) {
	h := start(t, setup{listen: Listen{Listen: called.Listen{Address: "inet:127.0.0.1:0"}}})
	h.hello().bye()
}

func TestShutdown(t *testing.T) {
	h := start(t, setup{rules: []rules.Definition{rule("large", "message.size > 100000", "reject")}})
	idle, busy := h.hello(), h.hello()
	busy.envelope("a@example.org", "b@example.com")
	done := make(chan error, 1)
	go func() { done <- h.server.Shutdown(context.Background()) }()
	if _, _, err := idle.frame(); !errors.Is(err, io.EOF) {
		t.Errorf("an idle session goes on: %v", err)
	}
	busy.send("Subject: x\n\nx\n", "c")
	if _, _, err := busy.frame(); !errors.Is(err, io.EOF) {
		t.Errorf("a session goes on behind its transaction: %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestShutdownLosesPatience(t *testing.T) {
	h := start(t, setup{dirty: true})
	c := h.hello()
	c.envelope("a@example.org", "b@example.com")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := h.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	r := h.journal.Await(t, policy.TransactionRecord, 1)[0]
	if r.Ending.Note != "shutdown" {
		t.Errorf("%+v", r.Ending)
	}
}

func TestReload(t *testing.T) {
	h := start(t, setup{})
	old := h.hello()
	retired := make(chan struct{})
	next := h.service
	next.Engine = compile(t, setup{rules: []rules.Definition{rule("all", "true", "reject")}})
	if err := h.server.Reload(next, nil); err != nil {
		t.Fatal(err)
	}
	old.envelope("a@example.org", "b@example.com") // it stays with what it began with
	young := h.hello()
	young.want("c")(young.mail("<a@example.org>"))
	young.want("550")(young.rcpt("<b@example.com>"))
	last := next
	last.Retired = func() { close(retired) }
	h.server.Reload(last, nil)
	c := h.hello()
	h.server.Reload(next, nil)
	select {
	case <-retired:
		t.Error("a service was retired while it is in use")
	default:
	}
	c.bye()
	<-retired
	bad := next
	bad.Limits.Connections = 0
	if err := h.server.Reload(bad, nil); err == nil {
		t.Error("bad limits are taken")
	}
}

// TestLibraryCalls has another implementation of the MTA's side call.
func TestLibraryCalls(t *testing.T) {
	h := start(t, setup{specs: []filters.Spec{reporterSpec()}, rules: []rules.Definition{
		rule("no", `rcpt.local == "no"`, "reject", "reply", "550 5.7.1 no"), rule("size", "message.size > 100000", "reject")}})
	client := milter.NewClientWithOptions(h.network, h.address, milter.ClientOptions{ActionMask: 0x1ff, ProtocolMask: 0x1ffbff,
		ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second})
	s, err := client.Session()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	proceeds := func(a *milter.Action, err error) {
		t.Helper()
		if err != nil || a.Code != milter.ActContinue {
			t.Fatalf("%+v, %v", a, err)
		}
	}
	proceeds(s.Conn("unknown", milter.FamilyInet, 25, "192.0.2.77"))
	proceeds(s.Helo("client.test"))
	for range 2 {
		proceeds(s.Mail("a@example.org", []string{"SIZE=100"}))
		if a, err := s.Rcpt("no@example.com", nil); err != nil || a.SMTPCode != 550 {
			t.Fatalf("%+v, %v", a, err)
		}
		proceeds(s.Rcpt("b@example.com", nil))
		var head textproto.Header
		head.Add("Subject", "x")
		if a, err := s.Header(head); err != nil || a.Code != milter.ActContinue {
			t.Fatalf("%+v, %v", a, err)
		}
		edits, a, err := s.BodyReadFrom(strings.NewReader("body\r\n"))
		if err != nil || a.Code != milter.ActContinue || len(edits) != 1 || edits[0].HeaderName != "Authentication-Results" {
			t.Fatalf("%+v, %+v, %v", edits, a, err)
		}
	}
}

func TestReview(t *testing.T) {
	early := filters.Define("early", "", func() struct{} { return struct{}{} },
		func(struct{}, filters.Env) (*pauser, error) { return &pauser{}, nil }, filters.On(filters.AtConnect, (*pauser).never))
	engine := compile(t, setup{specs: []filters.Spec{early}, rules: []rules.Definition{
		rule("pause", "early.talked", "score", "points", "1"),
		rule("ehlo", "not helo.extended", "score", "points", "1"),
		rule("tarpit", "true", "slow", "delay", "30s", "at", "connect"),
		rule("short", "true", "slow", "delay", "5s"),
		rule("late", "message.size > 1", "slow", "delay", "60s"),
		rule("gone", `mail.local == "x"`, "drop"),
		rule("door", `client.port == 1`, "reject", "at", "connect"),
		rule("him", `rcpt.local == "him"`, "reject"),
		rule("seen", `rcpt.local == "him"`, "drop", "mode", "observe"),
	}})
	var names []string
	for _, p := range Review(engine) {
		name, _, _ := strings.Cut(p.Message, " ")
		names = append(names, name)
		if !p.Warning || p.Pos.Line != 1 {
			t.Errorf("%+v", p)
		}
	}
	slices.Sort(names)
	if want := []string{"door", "ehlo", "gone", "him", "pause", "tarpit"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
}

type pauser struct{}

type pauserFacts struct {
	Talked bool `fact:"talked"`
}

func (*pauser) GreetPause(context.Context, *filters.Session) time.Duration { return time.Second }
func (*pauser) Greeted(bool, time.Duration) any                            { return &pauserFacts{} }
func (*pauser) never(context.Context, filters.View) (*pauserFacts, error) {
	return nil, errors.New("never")
}

// A message for quarantine is the MTA's to hold, with our fields on it. One that cannot hold it must not deliver it.
func TestQuarantine(t *testing.T) {
	h := start(t, setup{rules: []rules.Definition{
		rule("tag", `mail.local == "a"`, "tag", "header", "X-A: b"), rule("kept", `mail.local == "a"`, "quarantine"),
	}})
	for _, test := range []struct {
		actions milter.OptAction
		held    string
		edits   int
	}{{0x1ff, "gatepost: rule kept", 1}, {0x1ff &^ milter.OptQuarantine, "", 0}} {
		offer := fullOffer
		offer.Actions = test.actions
		c := h.call(offer)
		c.want("c")(c.connect(stranger))
		c.want("c")(c.helo("client.test"))
		c.envelope("a@example.org", "b@example.com")
		a, _, err := c.message([]byte("Subject: x\r\n\r\nx\r\n"))
		if err != nil || a.held != test.held || len(a.edits) != test.edits || (a.reply == "") != (test.held != "") || a.reply != "" && !strings.HasPrefix(a.reply, "451") {
			t.Errorf("%+v, %v", a, err)
		}
	}
	if m := h.server.Metrics(); m.Held.Load() != 1 || m.Deferred.Load() != 1 {
		t.Errorf("%d held, %d deferred", m.Held.Load(), m.Deferred.Load())
	}
}
