package authres

import (
	"strings"
	"testing"

	"gatepost/filters"

	"pgregory.net/rapid"
)

const ours = "mx.example.org"

func TestFormat(t *testing.T) {
	for _, test := range []struct {
		name    string
		id      string
		results []filters.AuthResult
		want    string
	}{
		{"none", ours, nil, "Authentication-Results: mx.example.org; none\r\n"},
		{"one line a result", ours, []filters.AuthResult{
			{Method: "spf", Result: "pass", Properties: []filters.AuthProperty{{Type: "smtp", Name: "mailfrom", Value: "joe@example.com"}}},
			{Method: "dkim", Result: "fail", Reason: "body hash", Properties: []filters.AuthProperty{
				{Type: "header", Name: "d", Value: "example.com"}, {Type: "header", Name: "b", Value: "ab/c+=="}, {Type: "header", Name: "i", Value: "@example.com"}}},
		}, "Authentication-Results: mx.example.org;\r\n\tspf=pass smtp.mailfrom=joe@example.com;\r\n" +
			"\tdkim=fail reason=\"body hash\" header.d=example.com header.b=\"ab/c+==\"\r\n\theader.i=@example.com\r\n"},
		{"syntax in values", ours, []filters.AuthResult{{Method: "spf", Result: "pass", Reason: "a\r\nEvil: field\x00;\"\\",
			Properties: []filters.AuthProperty{{Type: "smtp", Name: "mailfrom", Value: "x;dkim=pass(@example.com"}}}},
			"Authentication-Results: mx.example.org;\r\n\tspf=pass reason=\"a  Evil: field?;\\\"\\\\\"\r\n\tsmtp.mailfrom=\"x;dkim=pass(@example.com\"\r\n"},
		{"U-labels", "mx.bücher.example", []filters.AuthResult{{Method: "spf", Result: "none",
			Properties: []filters.AuthProperty{{Type: "smtp", Name: "mailfrom", Value: "jörg@bücher.example"}}}},
			"Authentication-Results: mx.xn--bcher-kva.example;\r\n\tspf=none smtp.mailfrom=\"j?rg@xn--bcher-kva.example\"\r\n"},
		{"C1 control", ours, []filters.AuthResult{{Method: "spf", Result: "none", Reason: "a\u009b31m\xff\x1b"}},
			"Authentication-Results: mx.example.org;\r\n\tspf=none reason=\"a?31m??\"\r\n"},
		{"no keyword", ours, []filters.AuthResult{{Method: "sp f", Result: "pass"}, {Method: "spf", Result: ""}},
			"Authentication-Results: mx.example.org; none\r\n"},
		{"empty value", "", []filters.AuthResult{{Method: "spf", Result: "none", Properties: []filters.AuthProperty{{Type: "smtp", Name: "mailfrom"}, {Name: "x"}}}},
			"Authentication-Results: \"\";\r\n\tspf=none smtp.mailfrom=\"\"\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := string(Format(test.id, test.results)); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

func TestClaimsToBe(t *testing.T) {
	for _, test := range []struct {
		field string
		want  bool
	}{
		{"Authentication-Results: mx.example.org; spf=pass\r\n", true},
		{"authentication-RESULTS :\r\n MX.Example.ORG.; spf=pass\r\n", true},
		{`Authentication-Results: "mx.example.org"; none`, true},
		{`Authentication-Results: "mx\.exa\mple.org"; none`, true},
		{"Authentication-Results: \"mx.exa\r\n mple.org\"; none", true},
		{`Authentication-Results: "mx".example.org; none`, true},
		{`Authentication-Results: "mx.example.org 1"; none`, false}, // a name with a space in it is another name
		{"Authentication-Results: (a (nested \\) (evil.example)) c) mx.example.org (x) 1; spf=pass", true},
		{"Authentication-Results:mx.example.org(v)1;spf=pass", true},
		{"Authentication-Results: mx.exa(c)mple.org; spf=pass", true},
		{"Authentication-Results: mx . example . org 1; spf=pass", true},
		{"Authentication-Results: mx.example.org/1; spf=pass", true},
		{"Authentication-Results: <mx.example.org>; spf=pass", true},
		{"Authentication-Results: mx\\.example.org; spf=pass", true},
		{"Authentication-Results: evil.example mx.example.org; spf=pass", true},
		{"Authentication-Results: mx.example.org", true},
		{"Authentication-Results: \x00mx.example.org; spf=pass", true},
		{"Authentication-Results: mx.exam\x00ple.org; spf=pass", true},
		{"Authentication-Results: mx.exam\xffple.org; spf=pass", true},
		{"Authentication-Results: ｍｘ。example．org; spf=pass", true},
		{"Authentication-Results: mx.exam\u00adple.org; spf=pass", true},
		{"Authentication-Results: =?utf-8?q?mx.example.org?=; spf=pass", true},
		{`Authentication-Results: "=?utf-8?q?mx.example.org?="; spf=pass`, true},
		// No authserv-id, or an unreadable one.
		{"Authentication-Results:", true},
		{"Authentication-Results: ; spf=pass", true},
		{`Authentication-Results: ""; spf=pass`, true},
		{"Authentication-Results: spf=pass smtp.mailfrom=example.com", true},
		{"Authentication-Results: spf/1 = pass", true},
		{"Authentication-Results: evil.example (mx.example.org; spf=pass", true},
		{`Authentication-Results: "evil.example; spf=pass`, true},
		{"Authentication-Results: " + strings.Repeat("a ", 100) + "mx.example.org; spf=pass", true},
		{"Authentication-Results: " + strings.Repeat("ä", 1<<16) + "; spf=pass", true},
		// Others.
		{"Authentication-Results: mx.example.com; spf=pass", false},
		{"Authentication-Results: evil.example (mx.example.org); spf=pass", false},
		{"Authentication-Results: evil.example (\"mx.example.org); spf=pass", false},
		{"Authentication-Results: evil.example; spf=pass smtp.helo=mx.example.org", false},
		{"Authentication-Results: xmx.example.org; spf=pass", false},
		{"Authentication-Results: mx.example.org.evil.example; spf=pass", false},
		{"Authentication-Results-Old: mx.example.org; spf=pass", false},
		{"ARC-Authentication-Results: i=1; mx.example.org; spf=pass", false},
		{"Authentication-Results", false},
	} {
		if got := ClaimsToBe([]byte(test.field), ours); got != test.want {
			t.Errorf("%.90q: got %v", test.field, got)
		}
	}
}

func TestClaimsToBeKnowsBothFormsOfALabel(t *testing.T) {
	for _, id := range []string{"mx.bücher.example", "mx.xn--bcher-kva.example", "MX.BÜCHER.example"} {
		for _, claimed := range []string{"mx.bücher.example", "mx.xn--bcher-kva.EXAMPLE", "mx.bu\u0308cher.example", "mx.XN--BCHER-KVA.example."} {
			if !ClaimsToBe([]byte("Authentication-Results: "+claimed+"; none\r\n"), id) {
				t.Errorf("%s is not taken for %s", claimed, id)
			}
		}
	}
}

func TestWhatWeFormatClaimsToBeOurs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringMatching(`[!-~]{1,60}`).Draw(t, "id")
		if !ClaimsToBe(Format(id, nil), id) {
			t.Fatalf("%q: %q", id, Format(id, nil))
		}
	})
}
