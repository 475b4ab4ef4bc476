package replay

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"gatepost/policy"
)

var days = []visit{
	{wait: time.Minute, client: addr("192.0.2.1"), mails: []mail{{from: "a@pass.example", to: []string{"x@example.org"}, last: policy.StepEnd}}},
	{wait: time.Minute, client: addr("192.0.2.2"), mails: []mail{{from: "c@fail.example", to: []string{"x@example.org"}, last: policy.StepEnd}}},
	{wait: time.Minute, client: addr("198.51.100.1"), mails: []mail{{from: "c@fail.example", to: []string{"y@example.org", "x@example.org"}, last: policy.StepEnd}}},
	{wait: time.Minute, client: addr("198.51.100.1"), mails: []mail{{from: "", to: []string{"unknown@example.org"}, last: policy.StepEnd}}},
	{wait: time.Minute, client: addr("198.51.100.1")},
}

func TestReportIsWorstFirst(t *testing.T) {
	old := &site{delay: 5 * time.Minute, messages: 10, rules: []string{`rcpt.local == "y" -> reject`, `spf.result == "none" -> reject`}}
	list := history(t, old, days)
	for name, test := range map[string]struct {
		rules   []string
		groups  []Group // Was, Is, the rules and Count
		missing map[string]int
		harmful bool
	}{
		"the same": {rules: old.rules},
		"renamed":  {rules: append([]string{"mail.null and client.port == 0 -> defer"}, old.rules...)},
		"delivered mail": {rules: []string{`rcpt.local == "y" -> reject`, `spf.result == "fail" -> reject`}, harmful: true, groups: []Group{
			{Was: Delivered, Is: Refused, IsBy: "rule1", Count: 2}, {Was: ServerRefused, Is: Refused, IsBy: "rule1", Count: 1}}},
		"unknown users": {rules: append([]string{"mail.null -> reject"}, old.rules...), groups: []Group{{Was: ServerRefused, Is: Refused, IsBy: "rule0", Count: 1}}},
		"held and lost": {
			rules:   []string{`rcpt.local == "y" -> reject`, `spf.result == "fail" -> greylist`, `spf.result == "pass" -> reject`},
			groups:  []Group{{Was: Delivered, Is: Refused, IsBy: "rule2", Count: 1}, {Was: Delivered, Is: Greylisted, IsBy: "rule1", Count: 2}},
			harmful: true,
		},
		"let in": {rules: []string{`spf.result == "none" -> reject`}, missing: map[string]int{"the mail server's answer to RCPT": 1}},
		"before mail": {
			rules:  append([]string{"ratelimit.connection != \"\" -> reject"}, old.rules...),
			groups: nil, missing: map[string]int{"ratelimit.connection": 4},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := backtestOf(t, &site{delay: old.delay, messages: old.messages, rules: test.rules}, list)
			if r.Transactions != 4 || r.Sessions != 5 || r.Harmful() != test.harmful {
				t.Errorf("%+v", r)
			}
			if len(r.Changes) != len(test.groups) {
				t.Fatalf("changes: %+v", r.Changes)
			}
			for i, want := range test.groups {
				got := r.Changes[i]
				if got.Was != want.Was || got.Is != want.Is || got.IsBy != want.IsBy || got.Count != want.Count || len(got.Transactions) != want.Count {
					t.Errorf("group %d: %+v", i, got)
				}
			}
			missing := map[string]int{}
			for _, u := range r.Unknown {
				missing[u.Missing] += u.Count
			}
			if !maps.Equal(missing, test.missing) {
				t.Errorf("unknown: %+v", r.Unknown)
			}
		})
	}
}

// The effect of one rule stands apart from what else has changed since.
func TestAgainstAnother(t *testing.T) {
	list := history(t, &site{delay: time.Minute, messages: 10, rules: []string{`spf.result == "none" -> reject`, `rcpt.local == "y" -> reject`}}, days)
	base := &site{delay: time.Minute, messages: 10, rules: []string{`spf.result == "fail" -> reject; mode: observe`, `mail.null -> reject`, `rcpt.local == "y" -> reject`}}
	tried := &site{delay: time.Minute, messages: 10, rules: []string{`spf.result == "fail" -> reject`, `mail.null -> reject`, `rcpt.local == "y" -> reject`}}
	m, n := NewMemory(), NewMemory()
	b := New(base.compile(t, m, m.Clock()), m)
	a := New(tried.compile(t, n, n.Clock()), n).Against(b)
	for _, r := range list {
		b.Add(r)
		a.Add(r)
	}
	if r := a.Report(); len(r.Changes) != 1 || r.Changes[0].IsBy != "rule0" || r.Changes[0].Count != 2 {
		t.Errorf("%+v", r.Changes)
	}
	if r := b.Report(); len(r.Changes) != 1 || r.Changes[0].IsBy != "rule1" {
		t.Errorf("%+v", r.Changes)
	}
}

// Who reads the report as JSON finds lists, also empty ones.
func TestReportHasNoNulls(t *testing.T) {
	text, err := json.Marshal(backtestOf(t, &site{delay: time.Minute, messages: 1, rules: []string{"mail.null -> reject"}}, nil))
	if err != nil || strings.Contains(string(text), "null") {
		t.Errorf("%s, %v", text, err)
	}
}

func BenchmarkBacktest(b *testing.B) {
	s := &site{delay: 5 * time.Minute, messages: 1000, rules: []string{`ratelimit.message != "" -> defer`, `spf.result == "fail" -> greylist`, `rcpt.local == "y" -> reject`, `header("Subject") contains "lottery" -> reject`}}
	var list []*policy.Recording
	for _, r := range history(b, s, days) {
		if r.Envelope != nil {
			list = append(list, r)
		}
	}
	m := NewMemory()
	t := New(s.compile(b, m, m.Clock()), m)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		t.Add(list[i%len(list)])
		i++
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "transactions/s")
}
