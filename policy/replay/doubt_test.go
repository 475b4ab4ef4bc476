package replay

import (
	"slices"
	"testing"
	"time"

	"gatepost/policy"
)

// A client that was sent away at RCPT with the null reverse-path may have been asking about a recipient only (RFC 6647,
// 5: a callout), and then would have made no attempt at DATA: of its next one nothing is known.
func TestAttemptsOfCalloutsAreInDoubt(t *testing.T) {
	old := &site{delay: 5 * time.Minute, messages: 10, rules: []string{`spf.result == "fail" -> greylist`, `not (spf.result == "pass") -> defer`}}
	tried := &site{delay: 5 * time.Minute, messages: 10, rules: old.rules[:1]}
	callout := mail{to: []string{"x@example.org"}, last: policy.StepRcpt}
	message := mail{to: []string{"x@example.org"}, last: policy.StepEnd}
	visits := []visit{
		{wait: time.Minute, client: addr("192.0.2.1"), mails: []mail{callout}},
		{wait: 6 * time.Minute, client: addr("192.0.2.1"), mails: []mail{message}},
		{wait: time.Minute, client: addr("198.51.100.1"), mails: []mail{message}}, // of this one all is known
	}
	m := NewMemory()
	b := New(tried.compile(t, m, m.Clock()), m)
	var missing []string
	for _, r := range history(t, old, visits) {
		if b.Add(r); r.Envelope != nil {
			missing = append(missing, b.Last().Missing)
		}
	}
	if want := []string{"", "greylist.state", ""}; !slices.Equal(missing, want) {
		t.Errorf("missing %q, want %q", missing, want)
	}
}

// Where it cannot be told whether an attempt was made, the sender's next one cannot be told either; one that has passed
// before goes on passing.
func TestAttemptsBehindTheUntoldAreInDoubt(t *testing.T) {
	old := &site{delay: 5 * time.Minute, messages: 10, rules: []string{`rcpt.local == "x" -> reject`, `spf.result == "fail" -> greylist`}}
	tried := &site{delay: 5 * time.Minute, messages: 10, rules: []string{`mail.address == "c@fail.example" and not (message.size > 0) -> reject`, `message.size > 0 -> greylist`}}
	one := func(to string) []mail {
		return []mail{{from: "c@fail.example", to: []string{to}, last: policy.StepEnd}}
	}
	refused, let := one("x@example.org"), one("y@example.org")
	for name, test := range map[string]struct {
		visits []visit
		begins int // the journal, with this transaction
		told   []bool
	}{
		"a new sender": {visits: []visit{
			{wait: time.Minute, client: addr("192.0.2.1"), mails: refused},
			{wait: 6 * time.Minute, client: addr("192.0.2.1"), mails: refused},
		}, told: []bool{false, false}},
		"a known sender": {visits: []visit{
			{wait: time.Minute, client: addr("192.0.2.1"), mails: let},
			{wait: 6 * time.Minute, client: addr("192.0.2.1"), mails: let},
			{wait: time.Minute, client: addr("192.0.2.1"), mails: refused},
			{wait: time.Minute, client: addr("192.0.2.1"), mails: let},
		}, begins: 1, told: []bool{true, false, true}},
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMemory()
			b := New(tried.compile(t, m, m.Clock()), m)
			list := slices.DeleteFunc(history(t, old, test.visits), func(r *policy.Recording) bool { return r.Envelope == nil })
			for i, r := range list[test.begins:] {
				b.Add(r)
				if told := b.Last().Missing == ""; told != test.told[i] {
					t.Errorf("transaction %d: missing %q", i, b.Last().Missing)
				}
			}
		})
	}
}

// Where SPF was not looked up for an attempt that nobody knows of, the attempt may have been one of the sender's whole
// domain: another network's attempts, recorded though they are, cannot be told either.
func TestTheUntoldPutADomainInDoubt(t *testing.T) {
	grey := `spf.result == "fail" or not mail.null -> greylist`
	old := &site{delay: 5 * time.Minute, messages: 10, rules: []string{`in_network(client.ip, "192.0.2.0/24") -> reject`, grey}}
	tried := &site{delay: 5 * time.Minute, messages: 10, rules: []string{grey}}
	message := []mail{{from: "a@pass.example", to: []string{"x@example.org"}, last: policy.StepEnd}}
	list := history(t, old, []visit{
		{wait: time.Minute, client: addr("192.0.2.1"), mails: message},
		{wait: 6 * time.Minute, client: addr("198.51.100.1"), mails: message},
	})
	m := NewMemory()
	b := New(tried.compile(t, m, m.Clock()), m)
	for _, r := range list {
		r.Looks = slices.DeleteFunc(r.Looks, func(l policy.Look) bool { return l.Filter == "spf" && r.Attempt == nil })
		if b.Add(r); r.Envelope != nil && b.Last().Missing == "" {
			t.Errorf("%s: %+v", r.ID, b.Last())
		}
	}
}

// What may or may not have been counted towards a limit puts a client's next messages in doubt, until it does not matter any
// more. What surely was counted otherwise than then is counted anew, also with the limits of then.
func TestCountsInDoubt(t *testing.T) {
	mailTo := func(wait time.Duration, ip, to string, last policy.Step) visit {
		return visit{wait: wait, client: addr(ip), mails: []mail{{from: "a@pass.example", to: []string{to}, last: last}}}
	}
	const sure = "" // nothing is missing
	for name, test := range map[string]struct {
		old, tried          []string
		messages, messages2 int64
		many                bool
		visits              []visit
		missing             []string
		refused             []bool // now
	}{
		"a recipient who was refused": {
			old:      []string{`rcpt.local == "x" -> reject`, `ratelimit.message != "" -> defer`},
			tried:    []string{`ratelimit.message != "" -> defer`},
			messages: 1, messages2: 1,
			visits: []visit{
				mailTo(time.Minute, "192.0.2.1", "x@example.org", policy.StepEnd),
				mailTo(time.Minute, "192.0.2.1", "y@example.org", policy.StepEnd),
				mailTo(time.Minute, "198.51.100.1", "y@example.org", policy.StepEnd),
				mailTo(time.Hour, "192.0.2.1", "y@example.org", policy.StepEnd),
			},
			missing: []string{"the mail server's answer to RCPT", "ratelimit.message", sure, sure},
			refused: []bool{false, false, false, false},
		},
		"a client that perhaps only asked about a recipient": {
			old:      []string{`ratelimit.message != "" -> greylist`},
			tried:    []string{`ratelimit.message != "" -> greylist`},
			messages: 1, messages2: 3,
			visits: []visit{
				mailTo(time.Minute, "192.0.2.1", "y@example.org", policy.StepEnd),
				mailTo(time.Second, "192.0.2.1", "y@example.org", policy.StepRcpt), // greylisted then
				mailTo(time.Second, "192.0.2.1", "y@example.org", policy.StepRcpt),
				mailTo(time.Second, "192.0.2.1", "y@example.org", policy.StepRcpt),
				mailTo(time.Hour, "192.0.2.1", "y@example.org", policy.StepEnd),
			},
			missing: []string{sure, sure, sure, "ratelimit.message", sure},
			refused: []bool{false, false, false, false, false},
		},
		"a message that is refused now": {
			old:      []string{`ratelimit.message != "" -> defer`},
			tried:    []string{`rcpt.local == "x" -> reject`, `ratelimit.message != "" -> defer`},
			messages: 1, messages2: 1,
			visits: []visit{
				mailTo(time.Minute, "192.0.2.1", "x@example.org", policy.StepEnd),
				mailTo(time.Minute, "192.0.2.1", "y@example.org", policy.StepEnd), // deferred then
				mailTo(time.Hour, "192.0.2.1", "y@example.org", policy.StepEnd),
				mailTo(time.Minute, "192.0.2.1", "y@example.org", policy.StepEnd), // deferred then as now
			},
			missing: []string{sure, "the mail server's answer to RCPT", sure, sure},
			refused: []bool{true, false, false, true},
		},
		"a client that was sent away before MAIL, and might have been of any domain": {
			old:      []string{`in_network(client.ip, "192.0.2.0/24") -> defer; at: helo`},
			tried:    []string{`ratelimit.message != "" -> defer`},
			messages: 1, messages2: 2, many: true,
			visits: []visit{
				mailTo(time.Minute, "192.0.2.1", "x@example.org", policy.StepEnd), // only its session is recorded
				mailTo(time.Minute, "198.51.100.1", "y@example.org", policy.StepEnd),
				mailTo(time.Hour, "198.51.100.1", "y@example.org", policy.StepEnd),
			},
			missing: []string{"ratelimit.message", sure},
			refused: []bool{false, false},
		},
	} {
		t.Run(name, func(t *testing.T) {
			old := &site{delay: 5 * time.Minute, messages: test.messages, rules: test.old, manyLimits: test.many}
			tried := &site{delay: 5 * time.Minute, messages: test.messages2, rules: test.tried, manyLimits: test.many}
			m := NewMemory()
			b := New(tried.compile(t, m, m.Clock()), m)
			var missing []string
			var refused []bool
			for _, r := range history(t, old, test.visits) {
				if b.Add(r); r.Envelope != nil {
					missing = append(missing, b.Last().Missing)
					refused = append(refused, len(b.Last().Recipients) > 0 && b.Last().Recipients[0].Action != 0)
				}
			}
			if !slices.Equal(missing, test.missing) || !slices.Equal(refused, test.refused) {
				t.Errorf("missing %q, want %q\nrefused %v, want %v", missing, test.missing, refused, test.refused)
			}
		})
	}
}
