package policy

import (
	"testing"
	"time"

	"gatepost/filters"
)

func TestClasses(t *testing.T) {
	for _, test := range []struct {
		name  string
		rules []string
		to    []string
		want  []string
	}{
		{
			name:  "nobody is told apart",
			rules: []string{"message.size > 10 -> reject", "not mail.null -> score; points: 1"},
			to:    []string{"a", "b"}, want: []string{"", ""},
		}, {
			name:  "a message rule that reads the recipient",
			rules: []string{`rcpt.local == "a" and message.size > 10 -> reject`},
			to:    []string{"a", "a", "b", "a", "b"}, want: []string{"", "", "452", "452", "452"},
		}, {
			name:  "the answer is the same for both",
			rules: []string{`rcpt.local == "x" and message.size > 10 -> reject`},
			to:    []string{"a", "b", "x"}, want: []string{"", "", "452"},
		}, {
			name:  "an exempt recipient",
			rules: []string{`rcpt.local == "postmaster" -> accept`, "message.size > 10 -> reject"},
			to:    []string{"a", "postmaster"}, want: []string{"", "452"},
		}, {
			name:  "an exempt recipient, exempt from nothing",
			rules: []string{`rcpt.local == "postmaster" -> accept`, "mail.null and message.size > 10 -> reject"},
			to:    []string{"a", "postmaster"}, want: []string{"", ""},
		}, {
			name:  "an exempt recipient, exempt from what is only observed",
			rules: []string{`rcpt.local == "postmaster" -> accept`, "message.size > 10 -> reject; mode: observe"},
			to:    []string{"a", "postmaster"}, want: []string{"", ""},
		}, {
			name:  "a score that differs",
			rules: []string{`rcpt.local == "a" -> score; points: 2`, "message.size > 10 -> score; points: 2", "score > 3 -> reject"},
			to:    []string{"a", "a", "b"}, want: []string{"", "", "452"},
		}, {
			name:  "a tag that differs",
			rules: []string{`rcpt.local == "a" -> tag; header: X-A: b`},
			to:    []string{"b", "b", "a"}, want: []string{"", "", "452"},
		}, {
			name:  "look-ups on their way",
			rules: []string{`rcpt.local == "a" and dnsbl.score > 1 and message.size > 10 -> reject`},
			to:    []string{"b", "a"}, want: []string{"", "452"},
		}, {
			name:  "an observation of the recipient",
			rules: []string{`mailbox.over and message.size > 10 -> reject`},
			to:    []string{"a", "b", "over"}, want: []string{"", "", "452"},
		}, {
			name:  "an observation of the first recipient",
			rules: []string{`mailbox.over and message.size > 10 -> reject`},
			to:    []string{"over", "over", "a"}, want: []string{"", "", "452"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			open := make(chan struct{})
			time.AfterFunc(10*time.Millisecond, func() { close(open) })
			f := &fakes{dnsbl: after(open, listFacts{Score: 5}), mailbox: overAfter(5 * time.Millisecond)}
			c := f.connect(t, test.rules...)
			c.hello()
			c.mail("s@example.com")
			for i, to := range test.to {
				expect(t, to, c.rcpt(to+"@example.org"), test.want[i])
			}
		})
	}
}

// The first accepted recipient's facts stand for all behind RCPT; those of refused ones do not get in.
func TestMessageIsJudgedByTheAccepted(t *testing.T) {
	c := (&fakes{}).connect(t, `rcpt.local == "no" -> reject`, `rcpt.local != "a" and message.size > 1 -> reject`)
	c.hello()
	c.mail("s@example.com")
	expect(t, "no", c.rcpt("no@example.org"), "550")
	expect(t, "a", c.rcpt("a@example.org"), "")
	expect(t, "no", c.rcpt("no@example.org"), "550")
	v, _ := c.message(plain)
	expect(t, "message", v, "")
}

// A look-up that is still under way is neither known nor known to be absent: the rule that ends all is not believed to
// match, and the recipients are told apart by the rule behind it.
func TestClassesDoNotDependOnSpeed(t *testing.T) {
	open := make(chan struct{})
	f := &fakes{dnsbl: after(open, listFacts{})}
	c := f.connect(t, "not known(dnsbl.score) -> reject; at: data", `rcpt.local == "a" and header("Subject") == "x" -> reject`)
	c.hello()
	c.mail("s@example.com")
	expect(t, "the first", c.rcpt("a@example.org"), "")
	time.AfterFunc(time.Millisecond, func() { close(open) })
	expect(t, "the second", c.rcpt("b@example.org"), "452 4.5.3")
}

// The backend may be asked ahead about a recipient only where no rule can refuse it any more.
func TestForeknown(t *testing.T) {
	for _, test := range []struct {
		name    string
		rules   []string
		session filters.Session
		to      string
		want    bool
	}{
		{"no rules", nil, filters.Session{}, "b@example.org", true},
		{"another's domain", nil, filters.Session{}, "b@example.com", false},
		{"another's domain, from a trusted client", nil, filters.Session{Client: filters.Client{Trusted: true}}, "b@example.com", true},
		{"a rule about the recipient", []string{`rcpt.local == "x" -> reject`}, filters.Session{}, "b@example.org", false},
		{"a rule about the sender", []string{"mail.null -> reject; at: mail"}, filters.Session{}, "b@example.org", false},
		{"a rule about the client", []string{"dnsbl.score > 3 -> defer"}, filters.Session{}, "b@example.org", false},
		{"that slows down only", []string{"mail.null -> slow; delay: 1s"}, filters.Session{}, "b@example.org", false},
		{"for a trusted client", []string{"dnsbl.score > 3 -> reject"}, filters.Session{Client: filters.Client{Trusted: true}}, "b@example.org", true},
		{"that is watched", []string{"dnsbl.score > 3 -> reject; mode: observe"}, filters.Session{}, "b@example.org", true},
		{"behind one that closes all", []string{`in_network(client.ip, "192.0.2.0/24") -> accept; at: connect`, "mail.null -> reject"}, filters.Session{}, "b@example.org", true},
		{"about the message", []string{"message.size > 5 -> reject"}, filters.Session{}, "b@example.org", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := &fakes{}
			c := session(t, compile(t, f, f.config(test.rules...)), &test.session, &Runtime{})
			c.hello()
			if got := c.Foreknown(test.to); got != test.want {
				t.Errorf("before a transaction: %v", got)
			}
			c.mail("a@example.com")
			if got := c.Foreknown(test.to); got != test.want {
				t.Errorf("in one: %v", got)
			}
		})
	}
}
