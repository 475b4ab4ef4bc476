package dmarc

import (
	"net/mail"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gatepost/filters"
)

// header is the parsed header of a message that consists of these fields.
func header(t testing.TB, fields string) *filters.Header {
	t.Helper()
	m := filters.NewMessage(1<<20, nil)
	m.Write([]byte(fields + "\r\n"))
	m.Complete()
	defer m.Release()
	h, err := m.Header(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestAuthorDomain(t *testing.T) {
	for _, test := range []struct {
		value, want string
		err         error
	}{
		{"joe@example.org", "example.org", nil},
		{"Joe@EXAMPLE.Org", "example.org", nil},
		{"<joe@example.org>", "example.org", nil},
		{"Joe <joe@example.org>", "example.org", nil},
		{"Joe Q. Public <joe@example.org>", "example.org", nil},
		{`"Joe, the @ <eve@example.net>" <joe@example.org>`, "example.org", nil},
		{`"a\"b" <joe@example.org> (comment)`, "example.org", nil},
		{"=?utf-8?Q?J=C3=B6?= <joe@example.org>", "example.org", nil},
		{"Jörg <joe@example.org>", "example.org", nil},
		{"J\xf6rg <joe@example.org>", "example.org", nil},
		{`"joe@home"@example.org`, "example.org", nil},
		{`<"joe@example.net"@example.org>`, "example.org", nil},
		{"joe (a (nested) \\) @ comment) @ (c) example.org (d)", "example.org", nil},
		{"joe@(eve@example.net)example.org", "example.org", nil},
		{"(eve@example.net) joe@example.org", "example.org", nil},
		{"a@example.org, b@Example.ORG", "example.org", nil},
		{",a@example.org,,", "example.org", nil},
		{"Team: a@example.org, Bob <b@example.org>;", "example.org", nil},
		{"None:;, a@example.org", "example.org", nil},
		{"<@example.net,@relay.example.net:joe@example.org>", "example.org", nil},
		{"joe@bücher.example", "xn--bcher-kva.example", nil},
		{"joe@BÜCHER。example", "xn--bcher-kva.example", nil},
		{"jörg@xn--bcher-kva.example", "xn--bcher-kva.example", nil},
		{"joe@_x.example.org", "_x.example.org", nil},
		{"joe@localhost", "localhost", nil},
		{"joe@example.net <joe@example.org>", "example.org", nil}, // common, and all programs take the angle brackets
		{"..joe..@example.org", "example.org", nil},

		{"", "", errNoAddress},
		{"  (only a comment)", "", errNoAddress},
		{"undisclosed:;", "", errNoAddress},
		{"joe@[192.0.2.1]", "", errLiteral},
		{"a@example.org, b@example.net", "", errDomains},
		{"a@example.org, b@sub.example.org", "", errDomains},
		{"g: a@example.org; , b@example.net", "", errDomains},
		{"joe", "", errSyntax},
		{"Joe Public", "", errSyntax},
		{"joe@", "", errSyntax},
		{"@example.org", "", errSyntax},
		{"<>", "", errSyntax},
		{"joe@example.org.", "", errSyntax},
		{"joe@.example.org", "", errSyntax},
		{"joe@example..org", "", errSyntax},
		{"joe@exam!ple.org", "", errSyntax},
		{"joe@example.org .evil.test", "", errSyntax},
		{"joe@example.org (c).evil.test", "", errSyntax},
		{"joe@example.org evil.test", "", errSyntax},
		{"joe@example.org@evil.test", "", errSyntax},
		{"joe q@example.org", "", errSyntax},
		{`joe@"example.org"`, "", errSyntax},
		{"joe@example.org <joe@example.org", "", errSyntax},
		{"<joe@example.org> eve", "", errSyntax},
		{"<joe@example.org> <eve@example.org>", "", errSyntax},
		{"<joe@example.org", "", errSyntax},
		{"joe@example.org>", "", errSyntax},
		{"<<joe@example.org>>", "", errSyntax},
		{"Joe, Inc. <joe@example.org>", "", errSyntax},
		{"Joe: <joe@example.org>", "", errSyntax},
		{"a: b: c@example.org;", "", errSyntax},
		{"a: b@example.org; c@example.org", "", errSyntax},
		{"a: b@example.org; <c@example.org>", "", errSyntax},
		{": a@example.org;", "", errSyntax},
		{"a@example.org;", "", errSyntax},
		{"<@example.net:>", "", errSyntax},
		{"<@example.net>", "", errSyntax},
		{"<@:joe@example.org", "", errSyntax},
		{`"joe@example.org`, "", errSyntax},
		{"(joe@example.org", "", errSyntax},
		{"joe@[192.0.2.1", "", errSyntax},
		{"joe)@example.org", "", errSyntax},
		{`jo\e@example.org`, "", errSyntax},
		{"jo\x00e@example.org", "", errSyntax},
		{"joe@exa\x7fmple.org", "", errSyntax},
		{"joe@exam\xffple.org", "", errSyntax},
		{"joe@" + strings.Repeat("a.", 127) + "org", "", errSyntax},
		{"joe@" + strings.Repeat("ü", 2000) + ".org", "", errSyntax},
		{strings.Repeat("(", 20<<10), "", errSyntax},
	} {
		got, err := authorDomain(header(t, "From: "+test.value+"\r\n"))
		if got != test.want || err != test.err {
			t.Errorf("%.80q: %q, %v; want %q, %v", test.value, got, err, test.want, test.err)
		}
	}
}

func TestOneFromField(t *testing.T) {
	const from = "From: joe@example.org\r\n"
	for name, test := range map[string]struct {
		fields string
		err    error
	}{
		"one":              {"X: 1\r\n" + from, nil},
		"folded":           {"From:\r\n joe\r\n\t@example.org\r\n", nil},
		"none":             {"X: 1\r\n", errNoFrom},
		"no field at all":  {"From joe@example.org Mon Jan  5\r\n", errNoFrom},
		"two":              {from + from, errManyFroms},
		"two spellings":    {from + "fROM : eve@example.net\r\n", errManyFroms},
		"an empty one":     {"From:\r\n" + from, errManyFroms},
		"behind an LF":     {from + "X: 1\nFrom: eve@example.net\r\n", errLineEnds},
		"behind a CR":      {from + "X: 1\rFrom: eve@example.net\r\n", errLineEnds},
		"behind a CR CRLF": {from + "X: 1\r\r\n", errLineEnds},
		"out of sight":     {from + strings.Repeat("X:\r\n", 5000), errCut},
	} {
		if _, err := authorDomain(header(t, test.fields)); err != test.err {
			t.Errorf("%s: %v, want %v", name, err, test.err)
		}
	}
}

// Whatever is read as the author's domain is what the standard library reads, if it reads anything.
func TestAgreesWithNetMail(t *testing.T) {
	parts := []string{"joe@example.org", "<joe@example.org>", "Joe ", `"x, <y@example.net>" `, "(z@example.net)", ",", "@", "a", ".", "g: ", ";", "\\", "eve@example.net"}
	agreed := 0
	rapid.Check(t, func(t *rapid.T) {
		value := strings.Join(rapid.SliceOfN(rapid.SampledFrom(parts), 1, 5).Draw(t, "parts"), "")
		domain, err := addressDomain(value)
		addresses, errStd := mail.ParseAddressList(value)
		if err != nil || errStd != nil {
			return
		}
		agreed++
		for _, a := range addresses {
			if _, theirs := filters.SplitAddress(a.Address); theirs != domain {
				t.Fatalf("%q: %q, net/mail says %q", value, domain, a.Address)
			}
		}
	})
	if agreed == 0 {
		t.Error("nothing to compare")
	}
}

func FuzzAuthorDomain(f *testing.F) {
	for _, seed := range []string{
		"Joe <joe@example.org>", `"a\"b" <@a,@b:"x y"@example.org> (c (d))`, "g: a@b.example, <c@b.example>;,", "joe@bücher.example", "a@[1]",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		domain, err := addressDomain(value)
		if (domain == "") != (err != nil) || domain != "" && !filters.IsName(domain) {
			t.Errorf("%q: %q, %v", value, domain, err)
		}
		addresses, errStd := mail.ParseAddressList(value)
		if err != nil || errStd != nil || len(addresses) == 0 {
			return
		}
		for _, a := range addresses {
			_, theirs := filters.SplitAddress(a.Address)
			if ascii, ok := filters.ASCIIName(theirs); ok && ascii != domain {
				t.Errorf("%q: %q, net/mail says %q", value, domain, a.Address)
			}
		}
	})
}
