package rules

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// defaultDefinitions reads default.yaml with positions good enough for messages.
func defaultDefinitions(t testing.TB) []Definition {
	t.Helper()
	var written []struct {
		Name, When, Then, Reply, At, Mode string
		OnError                           string `yaml:"on_error"`
		Header, Points, Delay             string
	}
	if err := yaml.UnmarshalWithOptions(Default, &written, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	definitions := make([]Definition, len(written))
	for i, w := range written {
		source := func(text string) Source {
			return Source{Text: text, At: func(int) Pos { return Pos{File: "default.yaml, rule " + w.Name, Line: i + 1, Column: 1} }}
		}
		definitions[i] = Definition{
			Name: source(w.Name), When: source(w.When), Then: source(w.Then), Reply: source(w.Reply), At: source(w.At),
			Mode: source(w.Mode), OnError: source(w.OnError), Header: source(w.Header), Points: source(w.Points), Delay: source(w.Delay),
		}
	}
	return definitions
}

var emptyLists = listFiles{
	"allow-clients": "", "allow-senders": "", "allow-recipients": "",
	"block-clients": "", "block-senders": "", "block-recipients": "",
}

func TestDefaultRulesCompileWithoutWarning(t *testing.T) {
	set, problems := Compile(testSchema(t), defaultDefinitions(t), emptyLists)
	if len(problems) > 0 || set == nil {
		t.Fatal(problems)
	}
	for _, r := range set.Rules() {
		if r.Action == Discard || r.Action == Quarantine {
			t.Errorf("%s takes mail without the backend's word", r.Name)
		}
		if r.Mode == Enforce && r.Action == Reject && r.Stage < atRcpt {
			t.Errorf("%s refuses before RCPT, when nobody can be exempt", r.Name)
		}
	}
}

// Two recipients are never told apart after RCPT, whoever they are and whatever the message.
func TestDefaultRulesNeverSplitRecipients(t *testing.T) {
	set := mustCompile(t, testSchema(t), emptyLists, defaultDefinitions(t)...)
	for _, r := range set.Rules() {
		if r.Mode == Enforce && r.Stage > atRcpt {
			t.Errorf("%s acts at %s: an exempt recipient and another one would be of different classes", r.Name, testStages[r.Stage])
		}
	}
}

func TestDefaultRulesDecide(t *testing.T) {
	lists := listFiles{
		"allow-clients": "203.0.113.0/24", "allow-senders": ".example.com\n", "allow-recipients": "all@example.org",
		"block-clients": "198.51.100.7", "block-senders": "spam.test", "block-recipients": "gone@example.org",
	}
	s := testSchema(t)
	set := mustCompile(t, s, lists, defaultDefinitions(t)...)

	// good is a session without blame; each test changes one thing.
	type situation struct {
		client clientFacts
		limits limitConnect
		dnsbl  *dnsblConnect
		rdns   *rdnsFacts
		early  earlyFacts
		helo   heloFacts
		seen   heloObserved
		mail   mailFacts
		spf    *spfMail
		rcpt   rcptFacts
		dmarc  dmarcFacts

		known *knownFacts

		byClient    exceptionClient
		bySender    exceptionSender
		byRecipient exceptionRecipient

		history *reputationMail
		trap    reputationRcpt
	}
	number := func(n float64) *float64 { return &n }
	good := func() situation {
		return situation{
			client: clientFacts{IP: netip.MustParseAddr("192.0.2.1")}, dnsbl: &dnsblConnect{}, rdns: &rdnsFacts{Confirmed: true},
			seen: heloObserved{Valid: true, Matches: new(true)}, mail: mailFacts{Address: "a@example.net", Domain: "example.net"},
			spf: &spfMail{Result: "pass"}, rcpt: rcptFacts{Address: "b@example.org", Domain: "example.org", Local: "b"},
			byClient: exceptionClient{"none"}, bySender: exceptionSender{"none"}, byRecipient: exceptionRecipient{"none"},
			history: &reputationMail{NetworkScore: number(3), DomainScore: number(6)},
		}
	}
	listed := &dnsblConnect{Score: 4, Listed: []string{"zen.example"}}
	tests := []struct {
		name   string
		change func(*situation)
		want   string
	}{
		{"nothing to say", func(*situation) {}, ""},
		{"over the connection limit", func(x *situation) { x.limits.Connection = "10 a minute"; x.rcpt.Local = "postmaster" }, "too-many-connections"},
		{"listed", func(x *situation) { x.dnsbl = listed }, "listed"},
		{"listed but allowed here", func(x *situation) { x.dnsbl = listed; x.client.IP = netip.MustParseAddr("203.0.113.9") }, "allow-clients"},
		{"listed to postmaster", func(x *situation) { x.dnsbl = listed; x.rcpt.Local = "PostMaster" }, "postmaster"},
		{"listed user of ours", func(x *situation) { x.dnsbl = listed; x.helo.User = "anna" }, "signed-in"},
		{"listed, recipient wants all", func(x *situation) { x.dnsbl = listed; x.rcpt.Address = "All@example.org" }, "allow-recipients"},
		{"allowed sender", func(x *situation) { x.dnsbl = listed; x.mail.Address = "x@mail.example.com" }, "allow-senders"},
		{"allowed sender, forged", func(x *situation) {
			x.dnsbl, x.mail.Address, x.spf = listed, "x@mail.example.com", &spfMail{Result: "fail"}
		}, "listed"},
		{"allowed sender without SPF", func(x *situation) { x.dnsbl, x.mail.Address, x.spf = listed, "x@mail.example.com", nil }, "allow-senders"},
		{"blocked client", func(x *situation) { x.client.IP = netip.MustParseAddr("198.51.100.7") }, "block-clients"},
		{"blocked sender", func(x *situation) { x.mail.Address = "a@spam.test" }, "block-senders"},
		{"blocked recipient", func(x *situation) { x.rcpt.Address = "gone@example.org" }, "block-recipients"},
		{"client allowed for a time", func(x *situation) { x.dnsbl, x.byClient.Client = listed, "allowed" }, "allowed-client"},
		{"no exception lifts limits", func(x *situation) { x.limits.Connection = "10 a minute"; x.byClient.Client = "allowed" }, "too-many-connections"},
		{"sender allowed for a time", func(x *situation) { x.dnsbl, x.bySender.Sender = listed, "allowed" }, "allowed-sender"},
		{"sender allowed for a time, forged", func(x *situation) {
			x.dnsbl, x.bySender.Sender, x.spf = listed, "allowed", &spfMail{Result: "fail"}
		}, "listed"},
		{"sender allowed for a time, without SPF", func(x *situation) { x.dnsbl, x.bySender.Sender, x.spf = listed, "allowed", nil }, "allowed-sender"},
		{"recipient allowed for a time", func(x *situation) { x.dnsbl, x.byRecipient.Recipient = listed, "allowed" }, "allowed-recipient"},
		{"client blocked for a time", func(x *situation) { x.byClient.Client = "blocked" }, "blocked-client"},
		{"blocked for a time, to postmaster", func(x *situation) { x.byClient.Client = "blocked"; x.rcpt.Local = "postmaster" }, "postmaster"},
		{"blocked for a time, in the list of those allowed", func(x *situation) {
			x.byClient.Client, x.client.IP = "blocked", netip.MustParseAddr("203.0.113.9")
		}, "blocked-client"},
		{"allowed for a time, in the list of those blocked", func(x *situation) {
			x.byClient.Client, x.client.IP = "allowed", netip.MustParseAddr("198.51.100.7")
		}, "allowed-client"},
		{"sender blocked for a time", func(x *situation) { x.bySender.Sender = "blocked" }, "blocked-sender"},
		{"recipient blocked for a time", func(x *situation) { x.byRecipient.Recipient = "blocked" }, "blocked-recipient"},
		{"early talker", func(x *situation) { x.early.Talked = true }, "early-talker"},
		{"our own name", func(x *situation) { x.seen.Ours = true }, "impostor"},
		{"to a trap", func(x *situation) { x.trap.Trap = true }, "spam-trap"},
		{"to a trap, from one allowed for a time", func(x *situation) { x.trap.Trap, x.byClient.Client = true, "allowed" }, "allowed-client"},
		{"nothing but traps", func(x *situation) { x.history = &reputationMail{NetworkScore: number(-8.57), NetworkTrapped: 3} }, "trapped"},
		{"nothing but traps, to postmaster", func(x *situation) {
			x.history, x.rcpt.Local = &reputationMail{NetworkScore: number(-8.57), NetworkTrapped: 3}, "postmaster"
		}, "postmaster"},
		{"many traps, but real mail too", func(x *situation) { x.history = &reputationMail{NetworkScore: number(-7.9), NetworkTrapped: 30} }, "suspicious"},
		{"a trap or two", func(x *situation) { x.history = &reputationMail{NetworkScore: number(-8), NetworkTrapped: 2} }, "suspicious"},
		{"traps of too few messages", func(x *situation) { x.history = &reputationMail{NetworkTrapped: 3} }, ""},
		{"a bad history without traps", func(x *situation) { x.history = &reputationMail{NetworkScore: number(-9.9)} }, "suspicious"},
		{"a domain with a bad history", func(x *situation) { x.history.DomainScore = number(-9.9) }, "suspicious"},
		{"a bad history, but vouched for", func(x *situation) {
			x.history.NetworkScore, x.dnsbl = number(-9), &dnsblConnect{Allowed: []string{"dnswl"}}
		}, ""},
		{"no history", func(x *situation) { x.history = &reputationMail{} }, ""},
		{"the store is silent", func(x *situation) { x.history = nil }, ""},
		{"no reverse DNS", func(x *situation) { x.rdns = &rdnsFacts{} }, "suspicious"},
		{"SPF fail by a mail server", func(x *situation) { x.spf = &spfMail{Result: "fail"} }, ""},
		{"no SPF, by a mail server", func(x *situation) { x.spf = &spfMail{Result: "none"} }, ""},
		{"SPF fail, a customer's name", func(x *situation) { x.spf, x.rdns.Generic = &spfMail{Result: "fail"}, true }, "suspicious"},
		{"neutral, a customer's name", func(x *situation) { x.spf, x.rdns.Generic = &spfMail{Result: "neutral"}, true }, "suspicious"},
		{"a broken record, a customer's name", func(x *situation) { x.spf, x.rdns.Generic = &spfMail{Result: "permerror"}, true }, "suspicious"},
		{"SPF pass, a customer's name", func(x *situation) { x.rdns.Generic = true }, ""},
		{"no SPF, somebody else's name", func(x *situation) { x.spf, x.seen.Matches = &spfMail{Result: "none"}, new(bool) }, "suspicious"},
		{"no SPF, an address for a name", func(x *situation) { x.spf, x.seen.Literal = &spfMail{Result: "none"}, true }, "suspicious"},
		{"no SPF, the name has no answer", func(x *situation) { x.spf, x.seen.Matches = &spfMail{Result: "none"}, nil }, ""},
		{"no reverse DNS, but a good history", func(x *situation) { x.rdns, x.history.NetworkScore = &rdnsFacts{}, number(5) }, ""},
		{"no reverse DNS, a history that is not so good", func(x *situation) { x.rdns, x.history.NetworkScore = &rdnsFacts{}, number(4.9) }, "suspicious"},
		{"everybody may send, a good history", func(x *situation) { x.spf.Wide, x.history.NetworkScore = true, number(9) }, "suspicious"},
		{"no reverse DNS, the history is not known", func(x *situation) { x.rdns, x.history = &rdnsFacts{}, nil }, "suspicious"},
		{"everybody may send", func(x *situation) { x.spf.Wide = true }, "suspicious"},
		{"no reverse DNS but vouched for", func(x *situation) { x.rdns = &rdnsFacts{}; x.dnsbl = &dnsblConnect{Allowed: []string{"dnswl"}} }, ""},
		{"no reverse DNS but known here", func(x *situation) { x.rdns, x.known = &rdnsFacts{}, &knownFacts{Domain: true} }, ""},
		{"no reverse DNS but an answer", func(x *situation) { x.rdns, x.known = &rdnsFacts{}, &knownFacts{Correspondent: true} }, ""},
		{"no reverse DNS and a stranger", func(x *situation) { x.rdns, x.known = &rdnsFacts{}, &knownFacts{} }, "suspicious"},
		{"listed, known here and an answer", func(x *situation) {
			x.dnsbl, x.known = listed, &knownFacts{Domain: true, Correspondent: true}
		}, "listed"},
		{"no reverse DNS, no lists configured", func(x *situation) { x.rdns, x.dnsbl = &rdnsFacts{}, nil }, "suspicious"},
		{"dead DNS", func(x *situation) { x.rdns, x.dnsbl, x.spf = nil, nil, nil }, ""},
		{"DMARC reject", func(x *situation) { x.dmarc = dmarcFacts{Result: "fail", Policy: "reject", Override: "none"} }, "(forged)"},
		{"DMARC reject of what a list sent", func(x *situation) {
			x.dmarc = dmarcFacts{Result: "fail", Policy: "reject", Override: "mailing_list"}
		}, ""},
	}
	for _, test := range tests {
		x := good()
		test.change(&x)
		f := setFacts(t, s.NewFacts(), &x.client, &x.limits, &x.early, &x.helo, &x.seen, &x.mail, &x.rcpt, &x.dmarc, &limitMail{}, &limitRcpt{},
			&x.byClient, &x.bySender, &x.byRecipient, &x.trap)
		if x.history != nil {
			setFacts(t, f, x.history)
		}
		if x.dnsbl != nil {
			setFacts(t, f, x.dnsbl)
		}
		if x.rdns != nil {
			setFacts(t, f, x.rdns)
		}
		if x.spf != nil {
			setFacts(t, f, x.spf)
		}
		if x.known != nil {
			setFacts(t, f, x.known)
		}
		got := ""
		for _, r := range set.Rules() {
			if r.Match(f) != True {
				continue
			}
			if r.Mode == Observe {
				got = "(" + r.Name + ")"
				continue
			}
			got = r.Name
			if reply, ok := r.Reply(f); ok && strings.Contains(reply.Text, "unknown") {
				t.Errorf("%s: reply %q", test.name, reply.Text)
			}
			break
		}
		if got != test.want {
			t.Errorf("%s: %q decides, want %q", test.name, got, test.want)
		}
	}
}
