package rules

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// define makes a Definition of lines "key: value"; the line number is where the rule stands.
func define(line int, keys string) Definition {
	var d Definition
	fields := map[string]*Source{
		"name": &d.Name, "when": &d.When, "then": &d.Then, "reply": &d.Reply, "at": &d.At, "mode": &d.Mode,
		"on_error": &d.OnError, "header": &d.Header, "points": &d.Points, "delay": &d.Delay, "keep": &d.Keep,
	}
	for _, key := range strings.Split(keys, "; ") {
		name, value, _ := strings.Cut(key, ": ")
		*fields[name] = written(line, value)
	}
	return d
}

func defineAll(rules ...string) []Definition {
	var definitions []Definition
	for i, keys := range rules {
		definitions = append(definitions, define(i+1, keys))
	}
	return definitions
}

func TestBadRulesSayWhereAndWhat(t *testing.T) {
	tests := []struct {
		rule   string
		column int
		want   string
	}{
		{"when: true; then: accept", 1, "the rule has no name"},
		{"name: Big Name; when: true; then: accept", 1, `"Big Name": a rule's name is made of a-z, 0-9, _ and -, at most 64`},
		{"name: r; then: accept", 1, "the rule has no condition (when:)"},
		{"name: r; when: true", 1, "the rule has no action (then:)"},
		{"name: r; when: true; then: rejct", 1, `then cannot be "rejct", did you mean reject? (it is one of: accept reject defer greylist discard quarantine score tag slow drop)`},
		{"name: r; when: true; then: reject; mode: obseve", 1, `mode cannot be "obseve", did you mean observe? (it is one of: enforce observe)`},
		{"name: r; when: true; then: reject; on_error: tempfail", 1, `on_error cannot be "tempfail" (it is one of: pass defer)`},
		{"name: r; when: true; then: reject; at: rctp", 1, `at cannot be "rctp", did you mean rcpt? (it is one of: connect helo mail rcpt data message)`},
		{`name: r; when: spf.result == "fail"; then: reject; at: helo`, 1, "spf.result is not known before mail, so the rule cannot act at helo"},
		{"name: r; when: true; then: accept; reply: 550 5.7.1 no", 1, "reply does not belong to a rule that says then: accept"},
		{"name: r; when: true; then: drop; reply: 550 5.7.1 no", 1, "reply does not belong to a rule that says then: drop"},
		{"name: r; when: true; then: reject; header: X-A: b", 1, "header does not belong to a rule that says then: reject"},
		{"name: r; when: true; then: reject; points: 1", 1, "points does not belong to a rule that says then: reject"},
		{"name: r; when: true; then: score; delay: 1s; points: 1", 1, "delay does not belong to a rule that says then: score"},
		{"name: r; when: true; then: score", 1, "a rule that says then: score needs points:"},
		{"name: r; when: true; then: tag", 1, "a rule that says then: tag needs header:"},
		{"name: r; when: true; then: slow", 1, "a rule that says then: slow needs delay:"},
		{"name: r; when: true; then: score; points: many", 1, `points: "many" is not a number between -1e+06 and 1e+06`},
		{"name: r; when: true; then: score; points: NaN", 1, `points: "NaN" is not a number between -1e+06 and 1e+06`},
		{"name: r; when: true; then: slow; delay: 2m", 1, `delay: "2m" is not a duration such as 10s, of at most 1m0s`},
		{"name: r; when: true; then: slow; delay: -1s", 1, `delay: "-1s" is not a duration such as 10s, of at most 1m0s`},
		{"name: r; when: true; then: reject; reply: No!", 1, "a reply looks like this: 550 5.7.1 Text for the sender"},
		{"name: r; when: true; then: reject; reply: 550 No!", 1, "a reply looks like this: 550 5.7.1 Text for the sender"},
		{"name: r; when: true; then: reject; reply: 550 5.7.1", 1, "a reply looks like this: 550 5.7.1 Text for the sender"},
		{"name: r; when: true; then: defer; reply: 354 4.7.1 go on", 1, "a reply looks like this: 450 4.7.1 Text for the sender"},
		{"name: r; when: true; then: reject; reply: 450 4.7.1 no", 1, "the code of reject is 5xx, not 450"},
		{"name: r; when: true; then: defer; reply: 550 5.7.1 no", 1, "the code of defer is 4xx, not 550"},
		{"name: r; when: true; then: greylist; reply: 550 5.7.1 no", 1, "the code of greylist is 4xx, not 550"},
		{"name: r; when: true; then: quarantine; reply: 451 4.7.1 no", 1, "the code of quarantine is 2xx, not 451"},
		{"name: r; when: true; then: quarantine; keep: copy", 1, "keep does not belong to a rule that says then: quarantine"},
		{"name: r; when: true; then: defer; at: message; keep: copy", 1, "keep does not belong to a rule that says then: defer"},
		{"name: r; when: true; then: reject; at: message; keep: all", 1, `keep cannot be "all" (it is one of: copy)`},
		{"name: r; when: true; then: reject; keep: copy", 1, "keep: copy needs the message, and the rule acts at rcpt, before there is one: add at: message"},
		{"name: r; when: true; then: reject; at: data; keep: copy", 1, "keep: copy needs the message, and the rule acts at data, before there is one: add at: message"},
		{"name: r; when: true; then: discard; reply: 550 5.7.1 no", 1, "the code of discard is 2xx, not 550"},
		{"name: r; when: true; then: greylist; reply: 421 4.7.1 no", 1, "421 closes the connection; greylist with 451"},
		{"name: r; when: true; then: reject; reply: 550 4.7.1 no", 5, "the enhanced code must be of the class of 550: 5.7.1"},
		{"name: r; when: true; then: reject; reply: 550 5.7.1 by {dnsbl.listd}", 15, `there is no fact "dnsbl.listd", did you mean dnsbl.listed?`},
		{"name: r; when: true; then: reject; reply: 550 5.7.1 {dkim.result}", 12, "dkim.result is not known before message, and the rule acts at rcpt"},
		{"name: r; when: true; then: reject; at: connect; reply: 550 5.7.1 {helo.name}", 12, "helo.name is not known before helo, and the rule acts at connect"},
		{"name: r; when: true; then: reject; reply: 550 5.7.1 {client.ip", 11, "the { is never closed; write {{ for the character itself"},
		{"name: r; when: true; then: reject; reply: 550 5.7.1 a}", 12, "a } without {; write }} for the character itself"},
		{"name: r; when: true; then: reject; reply: 550 5.7.1 schön", 14, "the character U+00F6 cannot be sent here: printable ASCII only"},
		{"name: r; when: true; then: reject; reply: 550 5.7.1 a\r\nb", 12, "the character U+000D cannot be sent here: printable ASCII only"},
		{"name: r; when: true; then: reject; reply: 550 5.7.1 " + strings.Repeat("x", 401), 411, "a line of a reply has at most 400 bytes"},
		{"name: r; when: true; then: reject; reply: 550 5.7.1 " + strings.Repeat("x\n", 11) + "x", 1, "a reply has at most 10 lines"},
		{"name: r; when: true; then: tag; header: X-Spam", 1, "a header field looks like this: X-Spam-Reason: listed by {…}"},
		{"name: r; when: true; then: tag; header: X Spam: yes", 1, `"X Spam" is not the name of a header field`},
		{"name: r; when: true; then: tag; header: from: me", 1, "a rule cannot add a from field, it would break the message; take a name of your own"},
		{"name: r; when: true; then: tag; header: X-A: b\nX-C: d", 7, "a header field must be one line"},
		{"name: r; when: true; then: tag; header: X-A: {spf.rsult}", 7, `there is no fact "spf.rsult", did you mean spf.result?`},
	}
	for _, test := range tests {
		set, problems := Compile(testSchema(t), []Definition{define(1, test.rule)}, nil)
		if set != nil || len(problems) == 0 {
			t.Errorf("%s: compiles", test.rule)
			continue
		}
		if got := problems[0]; got.Pos.Column != test.column || got.Message != test.want {
			t.Errorf("%s:\n got %v\nwant column %d: %s", test.rule, got, test.column, test.want)
		}
	}
}

func TestEveryProblemIsReported(t *testing.T) {
	_, problems := Compile(testSchema(t), defineAll(
		"name: a; when: spf.reslt == 1; then: rejct; reply: x",
		"name: b; when: 1 + ; then: tag",
		"name: a; when: true; then: accept",
	), nil)
	var got []string
	for _, p := range problems {
		got = append(got, p.String())
	}
	want := []string{
		"test.yaml:1:5: there is no fact spf.reslt, did you mean spf.result?",
		`test.yaml:1:1: then cannot be "rejct", did you mean reject? (it is one of: accept reject defer greylist discard quarantine score tag slow drop)`,
		"test.yaml:2:4: the expression ends too early",
		"test.yaml:2:1: a rule that says then: tag needs header:",
		"test.yaml:3:1: there is another rule a, at line 1",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestOrderIsStageThenFile(t *testing.T) {
	set, problems := Compile(testSchema(t), defineAll(
		`name: m; when: dkim.result == "fail"; then: reject; mode: observe`,
		`name: r1; when: client.trusted; then: accept`,
		`name: c; when: client.ip == "192.0.2.1"; then: defer; at: connect`,
		`name: r2; when: spf.result == "fail"; then: score; points: -2.5`,
		`name: d; when: true; then: slow; delay: 10s; at: data`,
		`name: r3; when: score > 2 and rcpt.local == "a"; then: greylist; on_error: defer`,
		`name: h; when: header("x-spam") == "yes" and header("List-Id") != ""; then: tag; header: X-Why: {dkim.result}, {client.ip}`,
	), nil)
	if set == nil {
		t.Fatal(problems)
	}
	var got []string
	for _, r := range set.Rules() {
		got = append(got, fmt.Sprintf("%s %s ready %d groups %v reply %v fields %v", r.Name, testStages[r.Stage], r.Ready, r.Groups, r.ReplyGroups, r.Fields))
	}
	want := []string{
		`c connect ready 0 groups [0] reply [] fields [client.ip]`,
		`r1 rcpt ready 0 groups [0] reply [] fields [client.trusted]`,
		`r2 rcpt ready 2 groups [12] reply [] fields [spf.result]`,
		`r3 rcpt ready 3 groups [12 13] reply [] fields [rcpt.local]`,
		`d data ready 0 groups [] reply [] fields []`,
		`m message ready 5 groups [17] reply [] fields [dkim.result]`,
		`h message ready 5 groups [16] reply [17 0] fields [header("X-Spam") header("List-Id")]`,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !reflect.DeepEqual(set.Headers(), []string{"List-Id", "X-Spam"}) {
		t.Errorf("headers %v", set.Headers())
	}
	rules := set.Rules()
	if rules[2].Points != -2.5 || rules[4].Delay != 10*time.Second || !rules[3].DeferOnError || rules[5].Mode != Observe || rules[1].Index != 1 {
		t.Error("values are not taken over")
	}
	if len(problems) != 1 || !strings.Contains(problems[0].Message, "c acts at connect, before r1 at line 2") {
		t.Error(problems)
	}
}

func TestScoreMakesARuleWait(t *testing.T) {
	set := mustCompile(t, testSchema(t), nil, defineAll(
		`name: a; when: dkim.result == "fail"; then: score; points: 3`,
		`name: b; when: score > 2; then: reject`,
	)...)
	if b := set.Rules()[1]; b.Ready != atMessage || b.Stage != atMessage {
		t.Errorf("b is ready at %d", b.Ready)
	}
	_, problems := Compile(testSchema(t), defineAll(
		`name: a; when: client.trusted; then: score; points: 3`,
		`name: b; when: score > 2; then: reject; at: connect`,
	), nil)
	if len(problems) != 1 || problems[0].Message != "score, which rule a adds to, is not known before rcpt, so the rule cannot act at connect" {
		t.Error(problems)
	}
}

func TestWarnings(t *testing.T) {
	tests := []struct {
		rules []string
		want  string // of the only warning, "" for none
	}{
		{[]string{`name: a; when: dkim.result == "pass"; then: accept`, `name: b; when: dnsbl.score > 4; then: reject`},
			"b acts at rcpt, before a at line 1 above it, which acts at message: a later line acts earlier"},
		{[]string{`name: a; when: dkim.result == "fail"; then: reject; mode: observe`, `name: b; when: dnsbl.score > 4; then: reject`}, ""},
		{[]string{`name: a; when: dkim.result == "fail"; then: score; points: 1`, `name: b; when: dnsbl.score > 4; then: reject`}, ""},
		{[]string{`name: a; when: true; then: reject`, `name: b; when: dnsbl.score > 4; then: accept`}, "a always matches: no rule that is evaluated after it can act"},
		{[]string{`name: b; when: dnsbl.score > 4; then: accept`, `name: a; when: true; then: reject`}, ""},
		{[]string{`name: a; when: 1 > 2 and client.trusted; then: reject`}, "a can never match: its condition is always false"},
		{[]string{`name: a; when: score > 2; then: reject`}, "the rule reads score, and no rule above it adds to it"},
		{[]string{`name: a; when: client.trusted; then: score; points: 1; mode: observe`, `name: b; when: score > 2; then: reject`}, "the rule reads score, and no rule above it adds to it"},
		{[]string{`name: a; when: client.trusted   and dnsbl.score > 4; then: defer`, `name: b; when: client.trusted and dnsbl.score > 4; then: reject`}, "b has the same condition as a at line 1, and can never act"},
		{[]string{`name: a; when: client.trusted; then: slow; delay: 1s`, `name: b; when: client.trusted; then: reject`}, ""},
		{[]string{`name: a; when: rcpt.local == "a" and dkim.result == "fail"; then: reject`}, "a can split recipients: it acts at message, when one answer is for all, and depends on the recipient"},
		{[]string{`name: a; when: rcpt.local == "a" and dkim.result == "fail"; then: reject; mode: observe`}, ""},
		{[]string{`name: a; when: rcpt.local == "a"; then: score; points: 3`, `name: b; when: score > 1 and dkim.result == "fail"; then: reject`},
			"b can split recipients: it acts at message, when one answer is for all, and depends on the recipient"},
		{[]string{`name: a; when: rcpt.local == "a"; then: accept`, `name: b; when: dkim.result == "fail"; then: reject`},
			"a can split recipients: it exempts some from b at line 2, which acts at message, when one answer is for all"},
		{[]string{`name: a; when: rcpt.local == "a"; then: accept`, `name: b; when: dkim.result == "fail"; then: tag; header: X-A: b`},
			"a can split recipients: it exempts some from b at line 2, which acts at message, when one answer is for all"},
		{[]string{`name: a; when: rcpt.local == "a"; then: accept`, `name: b; when: dkim.result == "fail"; then: tag; header: X-A: b; mode: observe`}, ""},
		{[]string{`name: a; when: rcpt.local == "a"; then: reject`, `name: b; when: dkim.result == "fail"; then: reject`}, ""},
		{[]string{`name: a; when: client.trusted; then: accept`, `name: b; when: dkim.result == "fail"; then: reject`}, ""},
		{[]string{`name: a; when: dnsbl.score > 4; then: quarantine`},
			"a answers 250 and keeps the message: sender and recipient are not told, and nobody gets it before `gatepost quarantine release`; with then: reject and keep: copy the sender knows"},
		{[]string{`name: a; when: dnsbl.score > 4; then: quarantine; mode: observe`}, ""},
		{[]string{`name: a; when: dkim.result == "fail"; then: reject; keep: copy`}, ""},
		{[]string{`name: a; when: in_list(client.ip, "missing"); then: accept`}, `the list file "missing" does not exist; it counts as empty`},
	}
	for _, test := range tests {
		set, problems := Compile(testSchema(t), defineAll(test.rules...), listFiles{})
		got := ""
		for _, p := range problems {
			got += p.Message
			if !p.Warning {
				t.Errorf("%v: %v is no warning", test.rules, p)
			}
		}
		if set == nil || got != test.want {
			t.Errorf("%v:\n got %s\nwant %s", test.rules, got, test.want)
		}
	}
}

func TestProblemsOfUnknownPlaceNameTheRule(t *testing.T) {
	_, problems := Compile(testSchema(t), []Definition{{Name: Source{Text: "a"}, When: Source{Text: "spf.reslt"}, Then: Source{Text: "accept"}}}, nil)
	if len(problems) != 1 || problems[0].String() != `-: rule "a": there is no fact spf.reslt, did you mean spf.result?` {
		t.Error(problems)
	}
}

func TestActions(t *testing.T) {
	terminal := map[Action]bool{Accept: true, Reject: true, Defer: true, Greylist: true, Discard: true, Quarantine: true, Drop: true}
	for a := Action(0); a <= Drop; a++ {
		if a.Terminal() != terminal[a] {
			t.Errorf("%v: terminal %v", a, a.Terminal())
		}
	}
	if Accept.String() != "accept" || Drop.String() != "drop" || Observe.String() != "observe" || True.String() != "true" || List.String() != "list" {
		t.Error("names")
	}
}

func TestRepliesAndHeadersAreSafe(t *testing.T) {
	s := testSchema(t)
	evil := "a\r\nRCPT TO:<x>\x00\x1b[31m é" + strings.Repeat("x", 500)
	f := setFacts(t, s.NewFacts(), &clientFacts{Name: evil}, &mailFacts{Size: 12345678901, Null: true},
		&dnsblConnect{Score: 4.5, Listed: []string{"zen", evil, evil}}, &dkimFacts{Result: "pass"})
	f.SetScore(1.5)
	reply := func(template string) (Reply, bool) {
		set := mustCompile(t, s, nil, Definition{Name: written(1, "r"), When: written(1, "true"), Then: written(1, "reject"), Reply: written(1, template)})
		return set.Rules()[0].Reply(f)
	}
	tests := []struct{ template, want string }{
		{"550 5.7.1 No {{thanks}}", "No {thanks}"},
		{"550 5.7.1 {mail.size} {mail.null} {dnsbl.score} {score} {spf.result} {client.ip} {client.trusted}", "12345678901 true 4.5 1.5 unknown unknown false"},
		{"550 5.7.1 {client.name}", "a??RCPT TO:<x>??[31m ?" + strings.Repeat("x", 178)},
		{"550 5.7.1 {dnsbl.listed}!", "zen, a??RCPT TO:<x>??[31m ?" + strings.Repeat("x", 173) + "!"},
		{"550 5.7.1 first\nsecond {mail.null}\n", "first\nsecond true"},
		{"550 5.7.1 {client.name}{client.name}{client.name}\nsecond", ("a??RCPT TO:<x>??[31m ?" + strings.Repeat("x", 178) + "a??RCPT TO:<x>??[31m ?" + strings.Repeat("x", 178))[:400] + "\nsecond"},
	}
	for _, test := range tests {
		got, ok := reply(test.template)
		if !ok || got.Code != 550 || got.Enhanced != "5.7.1" || got.Text != test.want {
			t.Errorf("%s:\n got %+v\nwant %s", test.template, got, test.want)
		}
	}
	set := mustCompile(t, s, nil, defineAll("name: a; when: true; then: reject; mode: observe", "name: b; when: true; then: tag; at: message; header: X-Why:  {client.name} {dkim.result}")...)
	if _, ok := set.Rules()[0].Reply(f); ok {
		t.Error("a rule without reply has one")
	}
	if got, want := set.Rules()[1].Header(f), "X-Why: a??RCPT TO:<x>??[31m ?"+strings.Repeat("x", 178)+" pass"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// poolsForget is set where the allocations of package regexp cannot be held.
var poolsForget bool

func TestMatchDoesNotAllocate(t *testing.T) {
	s := testSchema(t)
	f := sampleFacts(t, s)
	for _, text := range []string{
		fiveClauses, `"zen" in dnsbl.listed and client.ip != "192.0.2.3"`, `lower(mail.address) == "a@example.org" or lower(mail.domain) contains "xyz"`,
		`lower(mail.address) in ["1","2","3","4","5","6","7","8","9"]`, `in_network(client.ip, "10.0.0.0/8", "2001:db8::/32")`, `in_domain(mail.address, "example.com")`,
		`in_list(mail.address, "names") or in_list(client.ip, "networks")`, `mail.domain matches "^x.*y$"`, `header("Subject") contains "Viagra"`, `len(dkim.domains) + message.size * 2 > 1e9`,
		`dkim.domains in dnsbl.listed`, `score > 3`, `known(odd.word)`, `lower(rdns.name) == lower(helo.name)`,
	} {
		r := mustExpr(t, s, text)
		if poolsForget && strings.Contains(text, "matches") {
			continue
		}
		if allocations := testing.AllocsPerRun(100, func() { r.Match(f) }); allocations != 0 {
			t.Errorf("%s: %v allocations", text, allocations)
		}
	}
	copied := s.NewFacts()
	spf, group := &spfMail{}, groupOf(t, &spfMail{})
	if allocations := testing.AllocsPerRun(100, func() { copied.CopyFrom(f); copied.Set(group, spf); copied.Clear(group) }); allocations != 0 {
		t.Errorf("handling facts: %v allocations", allocations)
	}
	dst := make([]byte, 0, 1000)
	r := mustExpr(t, s, `dkim.result == "fail" and (rcpt.local == dmarc.domain or message.size > dnsbl.score)`)
	if allocations := testing.AllocsPerRun(100, func() { r.Open(f, atRcpt); dst = r.Residual(dst[:0], f, atRcpt) }); allocations != 0 {
		t.Errorf("residual: %v allocations", allocations)
	}
}
