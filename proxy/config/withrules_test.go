package config

import (
	"strings"
	"testing"

	"gatepost/filters/all"
	"gatepost/filters/filtertest"
)

const tried = "domains: [example.org]\nbackend: 127.0.0.1:25\nlists: /etc/lists\nrules:\n  - {name: old, when: mail.null, then: accept}\n"

func TestTryingRulesAlone(t *testing.T) {
	c, problems := Parse("/etc/gatepost/gatepost.yaml", []byte(tried), all.Specs())
	if c == nil {
		t.Fatal(problems)
	}
	for text, want := range map[string]string{
		"rules:\n  - {name: new, when: mail.null, then: accept}\n": "new",
		"rules: []\n": "",
		"rules:\n  - {name: first, when: mail.null, then: accept}\n  - include: default\n":                       "first",
		"domains: [example.net]\nbackend: 127.0.0.1:26\nrules: [{name: whole, when: mail.null, then: accept}]\n": "whole",
	} {
		next, problems := c.Try("/etc/gatepost/pasted.yaml", []byte(text), all.Specs())
		if next == nil {
			t.Errorf("%q: %v", text, problems)
			continue
		}
		got := ""
		if len(next.Rules) > 0 {
			got = next.Rules[0].Name.Text
		}
		if alone := strings.HasPrefix(text, "rules"); got != want || alone != (next.Domains[0] == "example.org") || alone != (next.Lists == "/etc/lists") {
			t.Errorf("%q: rule %q, %v, %s", text, got, next.Domains, next.Lists)
		}
	}
	if c.Rules[0].Name.Text != "old" {
		t.Error("what is in force has changed")
	}
}

func TestMistakesInRulesThatAreTried(t *testing.T) {
	c, _ := Parse("gatepost.yaml", []byte(tried), all.Specs())
	for text, want := range map[string]string{
		"rules:\n  - {nmae: new}\n": "pasted.yaml:2:6: ", "rules: x\n": "a list of rules", "rules: [\n": "pasted.yaml:",
		"nonsense: 1\n": `unknown key "nonsense"`, "": "backend",
	} {
		if next, problems := c.Try("pasted.yaml", []byte(text), all.Specs()); next != nil || !strings.Contains(problems.Error(), want) {
			t.Errorf("%q: %v", text, problems)
		}
	}
	next, problems := c.Try("pasted.yaml", []byte("rules:\n  - {name: new, when: mail.nul, then: accept}\n"), all.Specs())
	if next == nil {
		t.Fatal(problems)
	}
	if _, problems := next.Compile(all.Specs(), filtertest.NewEnv(filtertest.NewZone())); !strings.Contains(problems.Error(), "pasted.yaml:2:") || !strings.Contains(problems.Error(), "^") {
		t.Errorf("%v", problems)
	}
}

func TestRulesAreWrittenAsTheyCanBeRead(t *testing.T) {
	text := "domains: [example.org]\nbackend: 127.0.0.1:25\nrules:\n" +
		`  - {name: a, when: 'mail.address == "it''s@example.org"', then: reject, reply: "550 5.7.1 \"no\": # {mail.address}"}` + "\n"
	c, problems := Parse("gatepost.yaml", []byte(text), all.Specs())
	if c == nil {
		t.Fatal(problems)
	}
	var b strings.Builder
	if err := c.WriteRules(&b); err != nil {
		t.Fatal(err)
	}
	again, problems := c.Try("again.yaml", []byte(b.String()), all.Specs())
	if again == nil || again.Rules[0].When.Text != c.Rules[0].When.Text || again.Rules[0].Reply.Text != c.Rules[0].Reply.Text {
		t.Errorf("%v: %s", problems, b.String())
	}
	if !strings.Contains(b.String(), `when: 'mail.address == "it''s@example.org"'`) {
		t.Error(b.String())
	}
}
