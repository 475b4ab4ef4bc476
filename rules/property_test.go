package rules

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// drawCondition writes a condition of the language; all of them compile.
func drawCondition(t *rapid.T, depth int) string {
	if depth > 0 {
		switch rapid.IntRange(0, 6).Draw(t, "form") {
		case 0, 1:
			return "(" + drawCondition(t, depth-1) + " and " + drawCondition(t, depth-1) + ")"
		case 2, 3:
			return "(" + drawCondition(t, depth-1) + " or " + drawCondition(t, depth-1) + ")"
		case 4:
			return "not (" + drawCondition(t, depth-1) + ")"
		case 5:
			return "((" + drawCondition(t, depth-1) + ") == (" + drawCondition(t, depth-1) + "))"
		}
	}
	numbers := []string{"dnsbl.score", "message.size", "len(rcpt.local)", "len(dkim.domains)", "odd.count", "score", "(dnsbl.score + message.size)", "-odd.count", "2", "0"}
	texts := []string{"rcpt.local", "rcpt.domain", "lower(rcpt.local)", "dmarc.domain", `header("Subject")`, "odd.word"}
	number := func() string { return rapid.SampledFrom(numbers).Draw(t, "number") }
	text := func() string { return rapid.SampledFrom(texts).Draw(t, "text") }
	leaves := []func() string{
		func() string {
			return rapid.SampledFrom([]string{"client.trusted", "spf.wide", "odd.flag", "rdns.confirmed", "true", "false"}).Draw(t, "flag")
		},
		func() string {
			return number() + rapid.SampledFrom([]string{" < ", " == ", " >= ", " != "}).Draw(t, "op") + number()
		},
		func() string {
			return text() + rapid.SampledFrom([]string{" == ", " contains ", " != ", " startsWith "}).Draw(t, "op") + text()
		},
		func() string {
			return text() + rapid.SampledFrom([]string{` == "a"`, ` in ["a", "b"]`, ` matches "a|b"`}).Draw(t, "test")
		},
		func() string {
			return rapid.SampledFrom([]string{"rcpt.local", "dmarc.domain"}).Draw(t, "text") + " in " + rapid.SampledFrom([]string{"dkim.domains", "dnsbl.listed"}).Draw(t, "list")
		},
		func() string { return "dnsbl.listed in dkim.domains" },
		func() string { return `"a" in dkim.domains` },
		func() string {
			return "known(" + rapid.SampledFrom([]string{"rcpt.local", "dkim.result", "odd.flag", "dnsbl.score"}).Draw(t, "fact") + ")"
		},
		func() string { return `in_domain(` + text() + `, "a")` },
		func() string { return `in_list(` + text() + `, "names")` },
		func() string {
			return rapid.SampledFrom([]string{`in_network(client.ip, "192.0.2.0/31")`, `client.ip == odd.relay`}).Draw(t, "address")
		},
	}
	return rapid.SampledFrom(leaves).Draw(t, "leaf")()
}

func drawText(t *rapid.T) string {
	return rapid.SampledFrom([]string{"a", "b", "A", ""}).Draw(t, "value")
}

func drawNumber(t *rapid.T) int { return rapid.IntRange(0, 3).Draw(t, "value") }

func drawTexts(t *rapid.T) []string {
	return rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b"}), 0, 2).Draw(t, "values")
}

// drawEarly sets, fails or leaves out each group up to RCPT.
func drawEarly(t *rapid.T, f *Facts) {
	flag, count, word := rapid.Bool().Draw(t, "flag"), drawNumber(t), drawText(t)
	relay := netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", drawNumber(t)))
	odd := &oddFacts{}
	if rapid.Bool().Draw(t, "present") {
		odd = &oddFacts{Flag: &flag, Count: &count, Word: &word, Relay: &relay}
	}
	drawGroups(t, f,
		&clientFacts{IP: netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", drawNumber(t))), Trusted: rapid.Bool().Draw(t, "trusted")},
		&dnsblConnect{Score: float64(drawNumber(t)), Listed: drawTexts(t)}, &rdnsFacts{Confirmed: rapid.Bool().Draw(t, "confirmed")},
		&spfMail{Wide: rapid.Bool().Draw(t, "wide")}, &rcptFacts{Local: drawText(t), Domain: drawText(t)}, odd)
}

// drawLate does so for the message's groups.
func drawLate(t *rapid.T, f *Facts) {
	drawGroups(t, f, &messageFacts{Size: drawNumber(t), Header: headers{"Subject": drawText(t)}}, &dkimFacts{Domains: drawTexts(t)}, &dmarcFacts{Domain: drawText(t)})
}

func drawGroups(t *rapid.T, f *Facts, groups ...any) {
	for _, facts := range groups {
		for i, g := range testGroups {
			if fmt.Sprint(g.Type) != strings.TrimPrefix(fmt.Sprintf("%T", facts), "*") {
				continue
			}
			switch rapid.IntRange(0, 4).Draw(t, "fate") {
			case 0:
				f.Fail(i)
			case 1:
			default:
				f.Set(i, facts)
			}
		}
	}
}

// Whatever of the message comes later: recipients with equal residuals get equal answers, and a rule that is not open is
// decided.
func TestResidualsTellRecipientsApart(t *testing.T) {
	s := testSchema(t)
	lists := listFiles{"names": "a\n.b\n"}
	equal, open, decided := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		text := drawCondition(t, 3)
		set, problems := Compile(s, []Definition{{Name: Source{Text: "r"}, When: Source{Text: text}, Then: Source{Text: "tag"}, Header: Source{Text: "X-A: b"}}}, lists)
		if set == nil {
			t.Fatalf("%s: %v", text, problems)
		}
		r := set.Rules()[0]
		one, two := s.NewFacts(), s.NewFacts()
		drawEarly(t, one)
		drawEarly(t, two)
		score := float64(drawNumber(t))
		one.SetScore(score)
		two.SetScore(float64(drawNumber(t)))
		same := bytes.Equal(r.Residual(nil, one, atRcpt), r.Residual(nil, two, atRcpt))
		wasOpen := r.Open(one, atRcpt)
		residual := string(r.Residual(nil, one, atRcpt))

		answers := map[Truth]bool{}
		for range 4 {
			late := s.NewFacts()
			drawLate(t, late)
			first, second := withLate(s, one, late), withLate(s, two, late)
			answer := r.Match(first)
			answers[answer] = true
			if same && answer != r.Match(second) {
				t.Fatalf("%s: residual %q for both, but %v and %v", text, residual, answer, r.Match(second))
			}
			if want := map[string]Truth{"T": True, "F": False, "U": Unknown}[residual]; len(residual) == 1 && residual != "P" && answer != want {
				t.Fatalf("%s: residual %s, but %v", text, residual, answer)
			}
		}
		if !wasOpen && answers[True] && len(answers) > 1 {
			t.Fatalf("%s is not open, but its answer depends on the message", text)
		}
		if same {
			equal++
		}
		if wasOpen {
			open++
		} else {
			decided++
		}
	})
	if equal == 0 || open == 0 || decided == 0 {
		t.Errorf("nothing was tested: %d equal residuals, %d open, %d decided", equal, open, decided)
	}
}

func withLate(s *Schema, early, late *Facts) *Facts {
	f := s.NewFacts()
	f.CopyFrom(early)
	for i := range s.groups {
		if facts := late.Group(i); facts != nil {
			f.Set(i, facts)
		} else if late.Failed(i) && !f.Settled(i) {
			f.Fail(i)
		}
	}
	return f
}

// What is not there although its stage is over never comes; what failed neither, whatever its stage.
func TestOnlyLaterStagesAreOpen(t *testing.T) {
	s := testSchema(t)
	r := mustExpr(t, s, `spf.result == "fail" and dkim.result == "fail"`)
	f := s.NewFacts()
	if !r.Open(f, atHelo) || r.Open(f, atMail) || r.Open(f, atRcpt) {
		t.Error("SPF is known at MAIL or never")
	}
	setFacts(t, f, &spfMail{Result: "fail"})
	if !r.Open(f, atMail) || r.Open(f, atMessage) {
		t.Error("DKIM is to come until the message is over")
	}
	f.Fail(groupOf(t, &dkimFacts{}))
	if r.Open(f, atMail) || string(r.Residual(nil, f, atMail)) != "U" {
		t.Error("DKIM has failed")
	}
	setFacts(t, f, &spfMail{Result: "pass"})
	if string(r.Residual(nil, f, atMail)) != "F" {
		t.Error("SPF has decided")
	}
	setFacts(t, f, &spfMail{Result: "fail"}, &dkimFacts{Result: "fail"})
	if r.Open(f, atMail) || string(r.Residual(nil, f, atMail)) != "T" {
		t.Error("all is known")
	}
}

// A sum that is not complete yet tells recipients apart by what is left of the rules that add to it.
func TestResidualOfScore(t *testing.T) {
	s := testSchema(t)
	score := func(name, when, points string) Definition {
		return Definition{Name: written(1, name), When: written(1, when), Then: written(1, "score"), Points: written(1, points)}
	}
	definitions := []Definition{
		score("local", `rcpt.local == "a"`, "2"),
		score("late", `rcpt.domain == "a" and dkim.result == "fail"`, "3"),
		score("later", `score >= 3 and message.size > 2`, "4"),
		{Name: written(1, "refuse"), When: written(1, "score >= 5"), Then: written(1, "reject")},
	}
	set := mustCompile(t, s, nil, definitions...)
	refuse := set.Rules()[3]
	answer := func(f *Facts) Truth {
		sum := 0.0
		for _, r := range set.Rules() {
			f.SetScore(sum)
			if r.Action != Score {
				return r.Match(f)
			}
			if r.Match(f) == True {
				sum += r.Points
			}
		}
		return Unknown
	}
	var at []*Facts
	for _, local := range []string{"a", "b", "c"} {
		for _, domain := range []string{"a", "b"} {
			f := setFacts(t, s.NewFacts(), &rcptFacts{Local: local, Domain: domain})
			if set.Rules()[0].Match(f) == True {
				f.SetScore(2)
			}
			if !refuse.Open(f, atRcpt) {
				t.Error("the sum is not complete, but the rule is decided")
			}
			at = append(at, f)
		}
	}
	equal := 0
	for i, one := range at {
		for _, two := range at[i+1:] {
			if !bytes.Equal(refuse.Residual(nil, one, atRcpt), refuse.Residual(nil, two, atRcpt)) {
				continue
			}
			equal++
			for _, result := range []string{"fail", "pass"} {
				for size := range 4 {
					late := setFacts(t, s.NewFacts(), &dkimFacts{Result: result}, &messageFacts{Size: size})
					if answer(withLate(s, one, late)) != answer(withLate(s, two, late)) {
						t.Errorf("equal residuals, different answers")
					}
				}
			}
		}
	}
	if equal != 2 { // b@a and c@a, b@b and c@b
		t.Errorf("%d pairs have equal residuals, want 2", equal)
	}
}

// FuzzCompile: whatever the text, compiling does not panic; whatever compiled, evaluating does not fail.
func FuzzCompile(f *testing.F) {
	for _, seed := range []string{
		`dnsbl.score > 0 or not rdns.confirmed or spf.result in ["none", "softfail"]`,
		`in_network(client.ip, "192.0.2.0/24", "2001:db8::/32") and not in_domain(mail.domain, "example.org")`,
		`lower(header("Subject")) matches "(?i)viagra" or len(dnsbl.listed) >= 2`,
		`known(spf.result) and score + 1 * 2 - -3 > 4`, `client.ip in ["192.0.2.1"]`, `in_list(mail.address, "names")`,
		`let x = 1; x`, `a?.b ?? c`, `{a: 1}[0:1]`, `#.x`, `1..5`, `if true { 1 } else { 2 }`, `all(x, {# > 1})`, `x | f()`, "\xff", `"\u{110000}"`, `b"x"`, `1 < dnsbl.score < 3`,
		`not not not true`, `((((((`, `spf . result`, `0x1p4 1e999`, "`raw`", `::len(x)`,
	} {
		f.Add(seed, uint8(3))
	}
	s := testSchema(f)
	lists := listFiles{"names": "a\n", "networks": "192.0.2.1\n"}
	f.Fuzz(func(t *testing.T, text string, known uint8) {
		set, problems := Compile(s, []Definition{{Name: written(1, "r"), When: written(1, text), Then: written(1, "reject")}}, lists)
		if set == nil {
			for _, p := range problems {
				if !p.Warning && p.Message != "" {
					return
				}
			}
			t.Fatal("refused without a reason")
		}
		facts := s.NewFacts()
		word, count := "é\r\n", -1
		groups := []any{
			&clientFacts{}, &dnsblConnect{Score: 1e308, Listed: []string{text}}, &mailFacts{Address: text + "@" + text, Domain: text, Size: -1},
			&rcptFacts{Local: "@", Address: "@"}, &spfMail{Result: text}, &oddFacts{Word: &word, Count: &count}, &messageFacts{Header: headers{"Subject": text}}, &dkimFacts{},
		}
		for i, g := range groups {
			if known&(1<<i) != 0 {
				setFacts(t, facts, g)
			}
		}
		r := set.Rules()[0]
		r.Match(facts)
		r.Open(facts, atRcpt)
		r.Residual(nil, facts, atRcpt)
		if before, after := r.Match(facts), r.Match(facts); before != after {
			t.Fatal("two answers to one question")
		}
	})
}
