package wire

import (
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/filters/filtertest/suites"
)

func TestParsePaths(t *testing.T) {
	label := strings.Repeat("a", 63)
	for _, c := range []struct {
		in, address string // address "-" where the path must be refused
		utf8        bool
	}{
		{"<>", "", false},
		{"<user@example.org>", "user@example.org", false},
		{" <user@example.org>", "user@example.org", false},
		{"<User.Name+tag@Example.ORG>", "User.Name+tag@Example.ORG", false},
		{`<"a b"@example.org>`, `"a b"@example.org`, false},
		{`<"a\"b>\\"@example.org>`, `"a\"b>\\"@example.org`, false},
		{`<"@"@example.org>`, `"@"@example.org`, false},
		{"<@a.example,@b.example:user@example.org>", "user@example.org", false},
		{"<@[192.0.2.1]:user@example.org>", "-", false},
		{"<user@[192.0.2.1]>", "user@[192.0.2.1]", false},
		{"<user@[IPv6:2001:db8::1]>", "user@[IPv6:2001:db8::1]", false},
		{"<user@[ipv6:::ffff:192.0.2.010]>", "user@[ipv6:::ffff:192.0.2.010]", false},
		{"<user@[2001:db8::1]>", "-", false},
		{"<user@[IPv6:fe80::1%eth0]>", "-", false},
		{"<user@[192.0.2.256]>", "-", false},
		{"<user@[192.0.2]>", "-", false},
		{"<user@[]>", "-", false},
		{"<user@[IPv6:]>", "-", false},
		{"<user@[192.0.2.1>", "-", false},
		{"<jörg@example.org>", "jörg@example.org", true},
		{"<user@bücher.example>", "user@bücher.example", true},
		{`<"jörg x"@example.org>`, `"jörg x"@example.org`, true},
		{"<j\xf6rg@example.org>", "-", false},
		{"<a..b.@example.org>", "a..b.@example.org", false},
		{"<user@my_host.example.org>", "user@my_host.example.org", false},
		{"<user@xn--bcher-kva.example>", "user@xn--bcher-kva.example", false},
		{"<user@localhost>", "user@localhost", false},
		{"<user@" + label + ".example>", "user@" + label + ".example", false},
		{"<user@" + label + "a.example>", "-", false},
		{"<user@" + strings.Repeat("a.", 127) + "b>", "user@" + strings.Repeat("a.", 127) + "b", false},
		{"<user@" + strings.Repeat("a.", 128) + "b>", "-", false},
		{"<" + strings.Repeat("a", 255) + "@example.org>", strings.Repeat("a", 255) + "@example.org", false},
		{"<" + strings.Repeat("a", 256) + "@example.org>", "-", false},
		{"<" + strings.Repeat("@a.example,", 100) + "@b.example:user@example.org>", "-", false},
		{"", "-", false},
		{"<", "-", false},
		{">", "-", false},
		{"user@example.org", "-", false},
		{"<user@example.org", "-", false},
		{"<user>", "-", false},
		{"<user@>", "-", false},
		{"<@example.org>", "-", false},
		{"<user@@example.org>", "-", false},
		{"<user@example.org.>", "-", false},
		{"<user@-example.org>", "-", false},
		{"<user@example-.org>", "-", false},
		{"<us er@example.org>", "-", false},
		{"< user@example.org >", "-", false},
		{"<<user@example.org>>", "-", false},
		{"<user@example.org>>", "-", false},
		{"<user@example.org>SIZE=1", "-", false},
		{`<"user@example.org>`, "-", false},
		{`<"user\`, "-", false},
		{"<\"us\ter\"@example.org>", "-", false},
		{`<"a"b@example.org>`, "-", false},
		{"<us\x00er@example.org>", "-", false},
		{"<@a.example>", "-", false},
		{"<@a.example,b.example:user@example.org>", "-", false},
		{"<a@b:c@d>", "-", false},
	} {
		path, params, err := ParseMail("FROM:" + c.in)
		var syntax *SyntaxError
		switch {
		case c.address == "-":
			if !errors.As(err, &syntax) || syntax.Code != 501 || syntax.Text == "" {
				t.Errorf("MAIL FROM:%q: %+v, %v", c.in, path, err)
			}
		case err != nil || params != nil:
			t.Errorf("MAIL FROM:%q: %v, %v", c.in, params, err)
		case path != Path{Raw: strings.TrimSpace(c.in), Address: c.address, UTF8: c.utf8}:
			t.Errorf("MAIL FROM:%q: %+v", c.in, path)
		}
	}
}

func TestParseRcpt(t *testing.T) {
	for _, c := range []struct{ in, address, code string }{
		{"TO:<user@example.org>", "user@example.org", ""},
		{"to: <user@example.org> NOTIFY=NEVER", "user@example.org", ""},
		{"TO:<postmaster>", "postmaster", ""},
		{"TO:<PostMaster> NOTIFY=NEVER", "PostMaster", ""},
		{"TO:<>", "", "5.1.3"},
		{"TO:<user>", "", "5.1.3"},
		{"TO:user@example.org", "", "5.1.3"},
		{"FROM:<user@example.org>", "", "5.5.4"},
		{"<user@example.org>", "", "5.5.4"},
		{"TO:<user@example.org> =", "", "5.5.4"},
		{"", "", "5.5.4"},
	} {
		path, _, err := ParseRcpt(c.in)
		code := ""
		var syntax *SyntaxError
		if errors.As(err, &syntax) {
			code = syntax.Enhanced
		}
		if path.Address != c.address || code != c.code {
			t.Errorf("RCPT %q: %+v, %v", c.in, path, err)
		}
	}
	var syntax *SyntaxError
	if _, _, err := ParseMail("FROM:<postmaster>"); !errors.As(err, &syntax) || syntax.Enhanced != "5.1.7" {
		t.Errorf("MAIL FROM:<postmaster>: %v", err)
	}
}

func TestParams(t *testing.T) {
	_, params, err := ParseMail("FROM:<a@example.org>  SIZE=1000   body=8BITMIME SMTPUTF8 ENVID= AUTH=<> X=a=b ")
	want := []filters.Param{
		{Key: "SIZE", Value: "1000", HasValue: true}, {Key: "body", Value: "8BITMIME", HasValue: true}, {Key: "SMTPUTF8"},
		{Key: "ENVID", HasValue: true}, {Key: "AUTH", Value: "<>", HasValue: true}, {Key: "X", Value: "a=b", HasValue: true},
	}
	if err != nil || !slices.Equal(params, want) {
		t.Fatalf("%+v, %v", params, err)
	}
	if got, want := string(AppendParams([]byte("x"), params)), "x SIZE=1000 body=8BITMIME SMTPUTF8 ENVID= AUTH=<> X=a=b"; got != want {
		t.Errorf("AppendParams: %q, want %q", got, want)
	}
	for _, bad := range []string{
		" =", " =x", " -A", " A_B", " A:B", " SIZE=\x01", " A=\x7f", " A=\t", "\tA", " A=\xff", " jö=1",
		" " + strings.Repeat("a", 65), " A=" + strings.Repeat("a", 1025), strings.Repeat(" A", 25),
	} {
		if _, _, err := ParseMail("FROM:<a@example.org>" + bad); err == nil {
			t.Errorf("parameters %q are let through", bad)
		}
	}
}

// What passes is what the client sent: nothing that could be read as another command or path comes out.
func FuzzParsePath(f *testing.F) {
	for _, seed := range []string{
		"FROM:<>", "TO:<postmaster>", `FROM:<@a.example:"x\"y"@[IPv6:::1]> SIZE=1 A=`, "TO: <jörg@example.org> NOTIFY=NEVER", "FROM:<a@[1.2.3.4",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, arg string) {
		for _, parse := range []func(string) (Path, []filters.Param, error){ParseMail, ParseRcpt} {
			path, params, err := parse(arg)
			if err != nil {
				if path != (Path{}) || params != nil {
					t.Fatalf("%q: a result with an error", arg)
				}
				continue
			}
			if !strings.Contains(arg, path.Raw) || !strings.Contains(path.Raw, path.Address) || !utf8.ValidString(path.Raw) {
				t.Fatalf("%q: path %+v", arg, path)
			}
			line := path.Raw + string(AppendParams(nil, params))
			if strings.ContainsAny(line, "\r\n\x00\t") {
				t.Fatalf("%q: %q has control characters", arg, line)
			}
			again, params2, err := parse(arg[:strings.IndexByte(arg, ':')+1] + line)
			if err != nil || again != path || !slices.Equal(params, params2) {
				t.Fatalf("%q: %+v comes back as %+v, %v", arg, path, again, err)
			}
		}
	})
}

func TestXtextRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
		encoded := string(AppendXtext(nil, s))
		for _, b := range []byte(encoded) {
			if b <= ' ' || b > '~' || b == '=' {
				t.Fatalf("%q is not xtext", encoded)
			}
		}
		if got, err := ParseXtext(encoded); err != nil || got != s {
			t.Fatalf("%q comes back as %q, %v", s, got, err)
		}
	})
	if got := string(AppendXtext(nil, "a+b=c d")); got != "a+2Bb+3Dc+20d" {
		t.Errorf("AppendXtext: %q", got)
	}
	if got, err := ParseXtext("+e9+E9"); err != nil || got != "\xe9\xe9" {
		t.Errorf("lower case: %q, %v", got, err)
	}
	for _, bad := range []string{"+", "+4", "+4g", "a=b", "a b", "a\n", "\xe9", "+\x00\x00"} {
		if got, err := ParseXtext(bad); err == nil {
			t.Errorf("ParseXtext(%q) = %q", bad, got)
		}
	}
}

func FuzzXtext(f *testing.F) {
	f.Add("a+2Bb")
	f.Fuzz(func(t *testing.T, s string) {
		if decoded, err := ParseXtext(s); err == nil {
			if again, err := ParseXtext(string(AppendXtext(nil, decoded))); err != nil || again != decoded {
				t.Fatalf("%q: %q, %v", s, again, err)
			}
		}
	})
}

// The isemail suite: 279 addresses. What RFC 5321 allows passes untouched; anything else is refused or, where we are
// more liberal by intention, passes untouched too.
func TestIsemailSuite(t *testing.T) {
	data := suites.Read(t, "smtp/isemail/tests-original.xml")
	var tests struct {
		Test []struct {
			ID        int    `xml:"id,attr"`
			Address   string `xml:"address"`
			Category  string `xml:"category"`
			Diagnosis string `xml:"diagnosis"`
		} `xml:"test"`
	}
	if err := xml.Unmarshal(data, &tests); err != nil {
		t.Fatal(err)
	}
	valid := map[string]bool{"ISEMAIL_VALID_CATEGORY": true, "ISEMAIL_RFC5321": true, "ISEMAIL_DNSWARN": true}
	// Where we are liberal (address.go): dots anywhere, and local parts beyond 64 bytes.
	liberal := map[string]bool{
		"ISEMAIL_ERR_DOT_START": true, "ISEMAIL_ERR_DOT_END": true, "ISEMAIL_ERR_CONSECUTIVEDOTS": true,
		"ISEMAIL_RFC5322_LOCAL_TOOLONG": true, "ISEMAIL_RFC5322_TOOLONG": true,
	}
	passed := 0
	for _, c := range tests.Test {
		address := strings.Map(func(r rune) rune {
			if 0x2400 <= r && r < 0x2420 { // the suite's notation for control characters
				return r - 0x2400
			}
			return r
		}, c.Address)
		path, _, err := ParseRcpt("TO:<" + address + ">")
		ok := false
		switch {
		case valid[c.Category]:
			ok = err == nil && path.Address == address
		case liberal[c.Diagnosis]:
			ok = err != nil || path.Address == address
		default:
			ok = err != nil
		}
		if ok {
			passed++
		} else {
			t.Errorf("%d %q (%s): %+v, %v", c.ID, address, c.Diagnosis, path, err)
		}
	}
	fmt.Printf("suite isemail: %d/%d\n", passed, len(tests.Test))
}
