package rules

import (
	"fmt"
	"strings"
	"testing"
)

func TestBadExpressionsSayWhereAndWhat(t *testing.T) {
	long := strings.Repeat("a", 300)
	tests := []struct {
		text   string
		column int
		want   string
	}{
		// The text is no expression.
		{"  ", 1, "the expression is empty"},
		{"spf.result = \"pass\"", 12, `unexpected "=": compare with ==`},
		{"client.trusted and", 18, "the expression ends too early"},
		{"client.trusted client.trusted", 16, `unexpected "client"`},
		{"(client.trusted", 15, "the expression ends too early"},
		{"client.trusted @", 16, "unrecognized character: U+0040 '@'"},
		{"client.name == \"x", 18, "literal not terminated"},
		{"client.name == \"\x00\"", 17, "the character U+0000 does not belong here"},
		{"client.name == \"\xff\"", 17, "the character U+FFFD does not belong here"},
		{"mail.address == \"é\" and client.trustd", 32, "there is no fact client.trustd, did you mean client.trusted?"},

		// Names.
		{"spf.reslt == \"pass\"", 5, "there is no fact spf.reslt, did you mean spf.result?"},
		{"spff.result == \"pass\"", 1, "there is no fact spff.result, did you mean spf.result?"},
		{"quantum == 3", 1, `there is no fact "quantum"`},
		{"rdns", 1, "rdns has several facts: rdns.confirmed, rdns.name, rdns.generic"},
		{"client.ip.x == \"a\"", 11, "a fact is written group.name; there are no elements and no deeper levels"},
		{"spf[\"result\"] == \"pass\"", 4, "a fact is written group.name; there are no elements and no deeper levels"},
		{"dnsbl.listed[0] == \"x\"", 13, "a fact is written group.name; there are no elements and no deeper levels"},
		{"$env.spf", 1, "there is no fact $env.spf"},
		{"$env", 1, `there is no fact "$env"`},
		{"message.header == \"x\"", 1, `write header("Subject") to read a header field`},

		// Values.
		{`spf.result == "sofftfail"`, 15, `spf.result is never "sofftfail", did you mean softfail? (it is one of: none neutral pass fail softfail temperror permerror)`},
		{`"Pass" != spf.result`, 1, `spf.result is never "Pass", did you mean pass? (it is one of: none neutral pass fail softfail temperror permerror)`},
		{`spf.result in ["none", "sftfail"]`, 24, `spf.result is never "sftfail", did you mean softfail? (it is one of: none neutral pass fail softfail temperror permerror)`},
		{`"purple" in odd.words`, 1, `odd.words is never "purple" (it is one of: red green blue)`},
		{`spf.result in ["none", 4]`, 24, "spf.result is compared with texts; write them in quotes"},
		{`spf.result in []`, 15, "the list is empty"},
		{`spf.result in ["pass", spf.helo_result]`, 24, "spf.result is compared with texts; write them in quotes"},
		{`dnsbl.score in [1, "2"]`, 20, "dnsbl.score is a number and can only be in a list of numbers"},
		{`lower(mail.domain) == "Example.org"`, 23, `lower() has no upper-case letters, "Example.org" can never be equal`},
		{`lower(mail.domain) contains "Example"`, 29, `lower() has no upper-case letters, "Example" can never be equal`},
		{`mail.size > 99999999999999999`, 13, "the number is too large"},

		// Kinds.
		{"dnsbl.score", 1, "dnsbl.score is a number and not a condition; compare it with something"},
		{"client.trusted and spf.result", 20, "spf.result is a text and not a condition; compare it with something"},
		{"not spf.result == \"pass\"", 1, "spf.result is a text, it cannot be negated; not binds tighter than a comparison: write not (a == b)"},
		{"not dnsbl.score > 0", 1, "dnsbl.score is a number, it cannot be negated; not binds tighter than a comparison: write not (a == b)"},
		{"dnsbl.score == \"4\"", 13, "dnsbl.score is a number and cannot be compared with \"4\", a text"},
		{"client.trusted == 1", 16, "client.trusted is true or false and cannot be compared with 1, a number"},
		{"spf.result > \"a\"", 1, "spf.result is a text; > needs numbers"},
		{"-spf.result > 1", 1, "spf.result is a text; - needs a number"},
		{"mail.domain + \"x\" == \"y\"", 1, "mail.domain is a text; + needs numbers"},
		{"dnsbl.listed == dnsbl.listed", 14, `lists cannot be compared; use in: "x" in dnsbl.listed`},
		{"dnsbl.listed contains \"zen\"", 14, `contains looks into a text; for a list write: "x" in dnsbl.listed`},
		{"dnsbl.score contains \"4\"", 1, "dnsbl.score is a number; contains needs a text"},
		{"mail.domain contains 4", 22, "4 is a number; contains needs a text"},
		{"mail.domain contains \"\"", 22, "every text contains the empty text"},
		{"\"abc\" contains \"b\"", 1, "the left side of contains must be a fact"},
		{"\"zen\" in client.name", 7, "client.name is a text and not a list; for a part of it write: client.name contains …"},
		{"4 in dnsbl.listed", 1, "4 is a number; a list holds texts"},
		{"client.trusted in [true]", 1, "client.trusted is true or false; in needs a text, a number, an address or a list"},
		{"\"a\" in [\"a\"]", 1, "the left side of in must be a fact"},
		{"client.ip == \"192.0.2.256\"", 14, `"192.0.2.256" is not an IP address`},
		{"client.ip in [\"192.0.2.0/24\"]", 15, `"192.0.2.0/24" is not an IP address: for a network write in_network(address, …)`},
		{"client.ip == 4", 11, "client.ip is an address and cannot be compared with 4, a number"},

		// Functions.
		{"in_netwrk(client.ip, \"192.0.2.0/24\")", 1, `there is no function "in_netwrk", did you mean in_network?`},
		{"any(dnsbl.listed, # == \"x\")", 1, "there is no function any"},
		{"upper(mail.domain) == \"X\"", 1, `there is no function "upper"`},
		{"mail.domain.lower() == \"x\"", 13, "facts have no methods; functions are: known, in_network, in_domain, in_list, lower, len, header"},
		{"mail.domain | lower() == \"x\"", 15, "a function is called like this: lower(text)"},
		{"::len(mail.domain) == 3", 3, "a function is called like this: len(text or list)"},
		{"in_network(client.ip)", 1, `wrong number of arguments: in_network(address, "192.0.2.0/24", …)`},
		{"in_network(client.ip, \"192.0.2.0/33\")", 23, `"192.0.2.0/33" is not a network such as 192.0.2.0/24`},
		{"in_network(client.ip, \"192.0.2.0/24\", \"192.0.2.1/24\")", 39, `"192.0.2.1/24" is not the start of its network, did you mean 192.0.2.0/24?`},
		{"in_network(client.ip, \"::ffff:0.0.0.0/90\")", 23, `"::ffff:0.0.0.0/90" is half IPv4: write 0.0.0.0/0 or an IPv6 network`},
		{"in_network(client.ip, \"fe80::1%eth0\")", 23, `"fe80::1%eth0" is neither an IP address nor a network such as 192.0.2.0/24`},
		{"in_network(client.name, \"192.0.2.0/24\")", 12, "client.name is a text; in_network() needs an address"},
		{"in_network(client.ip, client.name)", 23, `a text in quotes belongs here: in_network(address, "192.0.2.0/24", …)`},
		{"in_domain(mail.domain, \"*.example.org\")", 24, `"*.example.org": write the domain alone, what is below it is meant too`},
		{"in_domain(mail.domain, \"exa mple.org\")", 24, `"exa mple.org" is not a domain`},
		{"in_domain(mail.domain, \"\")", 24, `"" is not a domain`},
		{"in_domain(mail.domain, \"bücher.example\")", 24, `"bücher.example" must be written as it is in the DNS: xn--bcher-kva.example`},
		{"in_domain(client.ip, \"example.org\")", 11, "client.ip is an address; in_domain() needs a text or a list"},
		{"in_list(client.ip, \"broken\")", 20, `the list file "broken" cannot be read: input/output error`},
		{"in_list(client.ip, \"\")", 20, "the name of a list file belongs here"},
		{"known(spf.result == \"pass\")", 7, "known() asks for a fact and not for an expression"},
		{"known(\"spf.result\")", 7, "known() asks for a fact and not for an expression"},
		{"lower(\"X\") == \"x\"", 7, "the first argument of lower() must be a fact"},
		{"len(dnsbl.score) > 1", 5, "dnsbl.score is a number; len() needs a text or a list"},
		{"header(mail.domain) == \"x\"", 8, `the name of a header field in quotes belongs here: header("Subject")`},
		{"header(\"Sub ject\") == \"x\"", 8, `"Sub ject" is not the name of a header field`},
		{"mail.domain matches \"(\"", 21, "bad regular expression: missing closing ): `(`"},
		{"mail.domain matches \"(?=x)\"", 21, "bad regular expression: invalid or unsupported Perl syntax: `(?=`"},
		{"mail.domain matches mail.address", 21, "the regular expression must be written out, in quotes"},
		{"mail.domain matches \"((a{99}){9}){99}\"", 21, "bad regular expression: invalid repeat count: `{99}`"},
		{"mail.domain matches \"((a.b.c.d.e.f.g.h.){90}){11}\"", 21, "the regular expression is too large: lower its {repetitions}"},
		{"mail.domain matches \"" + strings.Repeat("a", 1001) + "\"", 21, "the regular expression is longer than 1000 bytes"},

		// What expr has and the rule language has not.
		{"nil == spf.result", 1, "there is no nil; ask with known(fact) whether a fact is there"},
		{"client.trusted ? true : false", 1, "there is no if and no ?: here; use and, or, not, or several rules"},
		{"if client.trusted { true } else { false }", 4, "there is no if and no ?: here; use and, or, not, or several rules"},
		{"let x = 3; x > 2", 5, "there are no variables here"},
		{"true; false", 1, "there can be only one expression"},
		{"spf?.result == \"pass\"", 6, "there is no ?. here; a fact that is absent makes the comparison unknown"},
		{"spf.result ?? \"none\" == \"none\"", 22, "there is no operator ?? here"},
		{"mail.domain[1:2] == \"x\"", 12, "there are no slices here; use startsWith, endsWith, contains or matches"},
		{"dnsbl.score in 1..5", 17, "there is no operator .. here"},
		{"mail.size % 0 == 1", 11, "there is no operator % here"},
		{"mail.size / 0 == 1", 11, "there is no operator / here"},
		{"mail.size ** 2 == 1", 11, "there is no operator ** here"},
		{"[1] == [2]", 1, "a list can only be on the right side of in"},
		{"{\"a\": 1} == 1", 1, "this is not part of the rule language"},
		{"mail.domain == b\"x\"", 16, "this is not part of the rule language"},
		{"1e308 * 10 > mail.size", 7, "the result is no number"},

		// Bounds.
		{"true or " + strings.Repeat("false or ", 500) + "true", 1, "the expression is longer than 4096 bytes; use several rules, or in_list with a file"},
		{strings.Repeat("!", 200) + "true", 101, "the expression is nested deeper than 100"},
		{"1" + strings.Repeat("+1", 1200) + "==2", 2202, "the expression is nested deeper than 100"},
		{"mail.size in [" + strings.Repeat("1,", 1000) + "1]", 14, "the list has more than 1000 entries; put them into a file for in_list"},
		{"true" + strings.Repeat(" or !!!true", 370), 0, "the expression has more than 1000 parts; use several rules"},
		{"header(\"" + long + "\") == \"x\"", 8, `"` + long[:80] + `"… is not the name of a header field`},
	}
	s := testSchema(t)
	for _, test := range tests {
		_, problems := Compile(s, []Definition{{
			Name: written(1, "rule"), When: written(2, test.text), Then: written(3, "reject"),
		}}, listFiles{"broken": "unreadable"})
		if len(problems) == 0 {
			t.Errorf("%q compiles", test.text)
			continue
		}
		got := problems[0]
		if test.column != 0 && got.Pos.Column != test.column && len(test.text) < maxExpression || got.Pos.Line != 2 && len(test.text) < maxExpression || got.Message != test.want {
			t.Errorf("%q:\n got %v\nwant test.yaml:2:%d: %s", test.text, got, test.column, test.want)
		}
	}
}

func TestAllMistakesOfAnExpressionAreReported(t *testing.T) {
	_, problems := CompileExpr(testSchema(t), written(1, "spf.reslt == \"pass\" or\n  dnsbl.score > \"4\" or spf.result == \"passs\""), nil)
	var got []string
	for _, p := range problems {
		got = append(got, fmt.Sprintf("%d:%d", p.Pos.Line, p.Pos.Column))
	}
	if strings.Join(got, " ") != "1:5 2:17 2:38" {
		t.Errorf("got %v", problems)
	}
}

func TestExpressionWithoutLists(t *testing.T) {
	if _, problems := CompileExpr(testSchema(t), written(1, `in_list(client.ip, "x")`), nil); len(problems) != 1 || problems[0].Message != "there are no list files here" {
		t.Error(problems)
	}
	e, problems := CompileExpr(testSchema(t), Source{Text: `spf.result == "pass"`}, nil)
	if len(problems) > 0 || e.Match(setFacts(t, testSchema(t).NewFacts(), &spfMail{Result: "pass"})) != True {
		t.Error(problems)
	}
}

func TestSuggestions(t *testing.T) {
	tests := []struct{ name, want string }{
		{"spf.resutl", ", did you mean spf.result?"},
		{"SPF.result", ", did you mean spf.result?"},
		{"dkim.something", ""},
	}
	for _, test := range tests {
		if got := suggest(test.name, []string{"spf.result", "dkim.result"}); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
