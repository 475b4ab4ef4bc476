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
