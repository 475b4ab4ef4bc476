package rules

import (
	"net/netip"
	"strings"
	"testing"
)

// three are the literals that stand for the three truths: a flag that is true, one that is false, one that is absent.
var three = map[Truth]string{True: "client.trusted", False: "rdns.confirmed", Unknown: "odd.flag"}

func TestKleeneTables(t *testing.T) {
	const U, F, T = Unknown, False, True
	tests := []struct{ left, right, and, or, equal Truth }{
		{F, F, F, F, T}, {F, U, F, U, U}, {F, T, F, T, F},
		{U, F, F, U, U}, {U, U, U, U, U}, {U, T, U, T, U},
		{T, F, F, T, F}, {T, U, U, T, U}, {T, T, T, T, T},
	}
	s := testSchema(t)
	f := setFacts(t, s.NewFacts(), &clientFacts{Trusted: true}, &rdnsFacts{Confirmed: false}, &oddFacts{})
	check := func(text string, want Truth) {
		t.Helper()
		if got := mustExpr(t, s, text).Match(f); got != want {
			t.Errorf("%s (%s): %v, want %v", text, strings.NewReplacer(three[T], "T", three[F], "F", three[U], "U").Replace(text), got, want)
		}
	}
	for _, test := range tests {
		left, right := three[test.left], three[test.right]
		check(left+" and "+right, test.and)
		check(left+" && "+right, test.and)
		check(left+" or "+right, test.or)
		check(left+" || "+right, test.or)
		check(left+" == "+right, test.equal)
		check(left+" != "+right, test.equal.not())
		check("not ("+left+" and "+right+")", test.and.not())
		check("! ("+left+" or "+right+")", test.or.not())
	}
}

// The sets of outcomes must combine as their members do.
func TestOutcomesCombineLikeTruths(t *testing.T) {
	members := func(o outcomes) (truths []Truth) {
		for _, truth := range []Truth{Unknown, False, True} {
			if o.has(truth) {
				truths = append(truths, truth)
			}
		}
		return truths
	}
	and := map[[2]Truth]Truth{
		{True, True}: True, {True, Unknown}: Unknown, {Unknown, True}: Unknown, {Unknown, Unknown}: Unknown,
		{False, True}: False, {False, False}: False, {False, Unknown}: False, {True, False}: False, {Unknown, False}: False,
	}
	for a := outcomes(1); a <= anyOutcome; a++ {
		for b := outcomes(1); b <= anyOutcome; b++ {
			var wantAnd, wantOr outcomes
			for _, x := range members(a) {
				for _, y := range members(b) {
					wantAnd |= only(and[[2]Truth{x, y}])
					wantOr |= only(and[[2]Truth{x.not(), y.not()}].not())
				}
			}
			if got := a.and(b); got != wantAnd {
				t.Errorf("%03b and %03b: %03b, want %03b", a, b, got, wantAnd)
			}
			if got := a.or(b); got != wantOr {
				t.Errorf("%03b or %03b: %03b, want %03b", a, b, got, wantOr)
			}
		}
	}
}

func TestConditions(t *testing.T) {
	s := testSchema(t)
	word, relay := "Red", netip.MustParseAddr("2001:db8::1")
	f := setFacts(t, s.NewFacts(),
		&clientFacts{IP: netip.MustParseAddr("::ffff:192.0.2.7"), Name: "MX.Example.org.", Trusted: true},
		&dnsblConnect{Score: 4, Listed: []string{"zen", "bl"}},
		&rdnsFacts{Name: "mail.example.org"},
		&mailFacts{Address: "Anna@Sub.Example.ORG", Domain: "sub.example.org", Size: 1000},
		&spfMail{Result: "softfail"},
		&oddFacts{Word: &word, Relay: &relay, Ratio: 0.5},
		&messageFacts{Size: 5000, Header: headers{"Subject": "Hello World", "X-Spam": "yes"}},
		&dkimFacts{Result: "pass", Domains: []string{"example.net", "mail.example.com"}})
	f.SetScore(2.5)
	lists := listFiles{
		"networks": "192.0.2.0/29 # office\n2001:db8::/32\n",
		"names":    "zen\n.example.org\nbob@example.com\n@example.net\nexact.example.com\nΔ@example.test\n",
	}
	tests := []struct {
		text string
		want Truth
	}{
		{"true", True}, {"false", False}, {"1 < 2", True}, {"2 < 1 or 1 != 1", False}, {`"a" == "a"`, True}, {"true == false", False},
		{"client.trusted", True}, {"client.trusted == true", True}, {"false == client.trusted", False}, {"not client.trusted", False},
		{"dnsbl.score >= 4", True}, {"4 <= dnsbl.score", True}, {"dnsbl.score > 4", False}, {"3.5 < dnsbl.score < 4.5", True},
		{"dnsbl.score == 4.0", True}, {"dnsbl.score != 4", False}, {"dnsbl.score in [1, 4]", True}, {"dnsbl.score not in [1, -4]", True},
		{"dnsbl.score + mail.size * 2 - 4 == 2000", True}, {"-dnsbl.score == -4", True}, {"dnsbl.helo_score > 0", Unknown},
		{"dnsbl.helo_score + 1 > 0", Unknown}, {"dnsbl.helo_score > dnsbl.score", Unknown}, {"odd.ratio == 0.5", True},
		{"score == 2.5", True}, {"score > 3", False}, {"mail.size > message.size", False},
		{`spf.result == "softfail"`, True}, {`"softfail" == spf.result`, True}, {`spf.result != "pass"`, True},
		{`spf.result in ["none", "softfail"]`, True}, {`spf.result not in ["none", "softfail"]`, False}, {`not (spf.result in ["none"])`, True},
		{`spf.helo_result == "pass"`, Unknown}, {`not (spf.helo_result == "pass")`, Unknown}, {`spf.helo_result in ["none"]`, Unknown},
		{"spf.result == spf.helo_result", Unknown}, {"client.name == rdns.name", False},
		{`client.name in ["a","b","c","d","e","f","g","h","i","MX.Example.org."]`, True},
		{`lower(client.name) in ["a","b","c","d","e","f","g","h","i","mx.example.org."]`, True},
		{`lower(client.name) in ["a","b","c","d","e","f","g","h","i"]`, False},
		{`lower(client.name) in ["x", "mx.example.org."]`, True},
		{`client.name == "mx.example.org."`, False}, {`lower(client.name) == "mx.example.org."`, True}, {`lower(client.name) != "mx.example.org."`, False},
		{`lower(client.name) contains "example"`, True}, {`lower(client.name) startsWith "mx."`, True}, {`lower(client.name) endsWith "org"`, False},
		{`lower(client.name) == lower(rdns.name)`, False}, {`lower(client.name) contains rdns.name`, False},
		{`lower(client.name) matches "^mx"`, True}, {`client.name matches "(?i)^mx"`, True}, {`client.name matches "^mx"`, False},
		{`client.name contains "Example"`, True}, {`client.name startsWith "MX"`, True}, {`client.name endsWith "org."`, True}, {`client.name not contains "x.y"`, True},
		{`len(client.name) == 15`, True}, {`len(dnsbl.listed) == 2`, True}, {`len(dnsbl.allowed) == 0`, True}, {`len(odd.words) == 0`, Unknown},
		{`"zen" in dnsbl.listed`, True}, {`"xbl" in dnsbl.listed`, False}, {`"red" in odd.words`, Unknown}, {`"zen" not in dnsbl.listed`, False},
		{`dnsbl.listed in ["bl", "other"]`, True}, {`dnsbl.listed in ["other"]`, False}, {`mail.domain in dkim.domains`, False},
		{`dnsbl.listed in dkim.domains`, False}, {`dkim.domains in dkim.domains`, True},
		{`client.ip == "192.0.2.7"`, True}, {`"::ffff:192.0.2.7" == client.ip`, True}, {`client.ip != "192.0.2.8"`, True},
		{`client.ip in ["192.0.2.6", "192.0.2.7"]`, True}, {`client.ip == odd.relay`, False},
		{`in_network(client.ip, "198.51.100.0/24", "192.0.2.0/28")`, True}, {`in_network(client.ip, "192.0.2.8/29")`, False},
		{`in_network(client.ip, "192.0.2.7")`, True}, {`in_network(client.ip, "::ffff:192.0.2.0/120")`, True}, {`in_network(odd.relay, "2001:db8::/32")`, True},
		{`in_network(client.ip, "::/0")`, False}, {`in_network(client.ip, "0.0.0.0/0")`, True},
		{`in_domain(mail.domain, "Example.org")`, True}, {`in_domain(mail.domain, "b.example.org", "sub.example.org")`, True}, {`in_domain(mail.domain, "ample.org")`, False},
		{`in_domain(client.name, "example.org")`, True}, {`in_domain(mail.address, "example.org")`, True}, {`in_domain(lower(mail.address), "sub.example.org.")`, True},
		{`in_domain(dkim.domains, "example.com")`, True}, {`in_domain(dkim.domains, "example.org")`, False}, {`in_domain(helo.name, "example.org")`, Unknown},
		{`in_list(client.ip, "networks")`, True}, {`in_list(odd.relay, "networks")`, True}, {`in_list(mail.address, "names")`, True}, {`in_list(mail.domain, "names")`, True},
		{`in_list(dkim.domains, "names")`, False}, {`in_list(dnsbl.listed, "names")`, True}, {`in_list(helo.name, "names")`, Unknown},
		{`known(spf.result)`, True}, {`known(spf.helo_result)`, False}, {`known(odd.word)`, True}, {`known(odd.flag)`, False}, {`not known(odd.relay)`, False}, {`known(client.ip)`, True},
		{`known(odd.flag) and odd.flag`, False}, {`known(client.trusted) and client.trusted`, True},
		{`header("subject") == "Hello World"`, True}, {`header("X-None") == ""`, True}, {`lower(header("Subject")) contains "world"`, True}, {`len(header("x-spam")) > 0`, True},
		{"/* a comment */ client.trusted // another", True}, {"client.trusted and\n\tdnsbl.score > 3", True},
	}
	for _, test := range tests {
		set := mustCompile(t, s, lists, Definition{Name: written(1, "r"), When: written(1, test.text), Then: written(1, "reject")})
		if got := set.Rules()[0].Match(f); got != test.want {
			t.Errorf("%s: %v, want %v", test.text, got, test.want)
		}
		readsFacts := len(set.Rules()[0].Fields) > 0 && !strings.Contains(test.text, "known(")
		if nothing := set.Rules()[0].Match(s.NewFacts()); readsFacts && nothing != Unknown {
			t.Errorf("%s: %v although nothing is known", test.text, nothing)
		}
	}
}

func TestAbsentAddressesAndNumbers(t *testing.T) {
	s := testSchema(t)
	nan := 0.0
	nan /= nan
	f := setFacts(t, s.NewFacts(), &clientFacts{}, &dnsblConnect{Score: nan}, &messageFacts{})
	for _, text := range []string{`client.ip == "192.0.2.1"`, "dnsbl.score > 0", "not (dnsbl.score <= 0)", `header("Subject") == ""`} {
		if got := mustExpr(t, s, text).Match(f); got != Unknown {
			t.Errorf("%s: %v, want unknown", text, got)
		}
	}
	for _, text := range []string{"known(client.ip)", "known(dnsbl.score)"} {
		if got := mustExpr(t, s, text).Match(f); got != False {
			t.Errorf("%s: %v, want false", text, got)
		}
	}
}
