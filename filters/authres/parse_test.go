package authres

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"gatepost/filters"
)

// short writes results as "method=result[reason]{type.name:value,...}".
func short(results []filters.AuthResult) string {
	var b strings.Builder
	for i, r := range results {
		if i > 0 {
			b.WriteString(" ")
		}
		b.WriteString(r.Method + "=" + r.Result)
		if r.Reason != "" {
			b.WriteString("[" + r.Reason + "]")
		}
		for _, p := range r.Properties {
			b.WriteString("{" + p.Type + "." + p.Name + ":" + p.Value + "}")
		}
	}
	return b.String()
}

func TestParse(t *testing.T) {
	for _, test := range []struct{ body, id, results string }{
		{" example.org 1; none\r\n", "example.org", ""},
		{"example.com; spf=pass smtp.mailfrom=example.net", "example.com", "spf=pass{smtp.mailfrom:example.net}"},
		// RFC 8601, B.6 and B.7.
		{" example.com;\r\n\tdkim=pass reason=\"good signature\"\r\n\t header.i=@mail-router.example.net;\r\n\tdkim=fail reason=\"bad signature\"\r\n\t header.i=@newyork.example.com",
			"example.com", "dkim=pass[good signature]{header.i:@mail-router.example.net} dkim=fail[bad signature]{header.i:@newyork.example.com}"},
		{" foo.example.net (foobar) 1 (baz);\r\n dkim (Because I like it) / 1 (One yay) = (wait for it) fail\r\n policy (A dot can go here) . (like that) expired\r\n (this surprised me) = (as I wasn't expecting it) 1362471462",
			"foo.example.net", "dkim=fail{policy.expired:1362471462}"},
		// What is in a comment or a quoted string is no result.
		{"mx.example; dkim=pass (good; spf=fail) header.d=a.example", "mx.example", "dkim=pass{header.d:a.example}"},
		{`mx.example; dkim=fail reason="x; spf=pass" header.d="a;dmarc=pass"`, "mx.example", "dkim=fail[x; spf=pass]{header.d:a;dmarc=pass}"},
		{`mx.example; dkim=fail reason="a\"; spf=pass"`, "mx.example", `dkim=fail[a"; spf=pass]`},
		{`mx.example (c); none`, "mx.example", ""},
		{`mx.example; "spf=pass"; spf="pass"; "spf"=pass; (spf=pass); x=y`, "mx.example", "x=y"},
		{`mx.example; iprev=fail; spf=pass (no end; dkim=pass`, "mx.example", "iprev=fail"},
		{`mx.example; iprev=fail; spf=pass reason="no end; dkim=pass`, "mx.example", "iprev=fail"},
		{`mx.example; spf=pass smtp.mailfrom="a\`, "mx.example", ""},
		{`mx.example; spf=fail smtp.mailfrom=a"b;spf=pass"@evil.example`, "mx.example", "spf=fail{smtp.mailfrom:ab;spf=pass@evil.example}"},
		{`mx.example; spf=fail dkim=pass; x=y`, "mx.example", "spf=fail{.dkim:pass} x=y"},
		{`mx.example; spf=fail ""; x=y`, "mx.example", "spf=fail x=y"},
		// As the real world writes it.
		{" spf=pass (sender IP is 192.0.2.1)\r\n smtp.mailfrom=example.com; dkim=none (message not signed)\r\n header.d=none;dmarc=pass action=none\r\n header.from=example.com;compauth=pass reason=100",
			"", "spf=pass{smtp.mailfrom:example.com} dkim=none{header.d:none} dmarc=pass{.action:none}{header.from:example.com} compauth=pass[100]"},
		{"mx.google.example; dkim=pass header.i=@example.org header.s=s1 header.b=\"Zx/+1=\"; dmarc=pass (p=REJECT sp=REJECT dis=NONE) header.from=example.org",
			"mx.google.example", "dkim=pass{header.i:@example.org}{header.s:s1}{header.b:Zx/+1=} dmarc=pass{header.from:example.org}"},
		{"mx.example; dkim=pass header.b=ab/c+== header.a=rsa-sha256; arc=pass (i=1 spf=fail); dmarc=fail policy.dmarc=reject;",
			"mx.example", "dkim=pass{header.b:ab/c+==}{header.a:rsa-sha256} arc=pass dmarc=fail{policy.dmarc:reject}"},
		{"mx.example from=joe@example.org; domainkeys=neutral (no sig)", "mx.example", "domainkeys=neutral"},
		{`"mx example";SPF=Pass SMTP.MailFrom="joe blow" @ (at) Example.org stray`, "mx example", "spf=pass{smtp.mailfrom:joe blow@Example.org}"},
		{"mx.example; spf=pass a.b=x@ (c) y a.c= @y a.d=", "mx.example", "spf=pass{a.b:x@y}{a.c:@y}{a.d:}"},
		{"; spf=pass", "", "spf=pass"},
		{"mx.example;;; spf=; =pass; spf; spf=pass,; iprev=pass", "mx.example", "iprev=pass"},
		{"mx.example", "mx.example", ""},
		{"", "", ""},
	} {
		f, err := Parse(test.body)
		if err != nil || f.AuthservID != test.id || short(f.Results) != test.results {
			t.Errorf("%q:\ngot  %q %s %v\nwant %q %s", test.body, f.AuthservID, short(f.Results), err, test.id, test.results)
		}
	}
}

func TestParseReadsTheVersion(t *testing.T) {
	if f, err := Parse("mx.example (c) 2; none"); err != nil || f.Version != "2" {
		t.Errorf("got %+v, %v", f, err)
	}
}

func TestParseRefusesWhatHasNoOwner(t *testing.T) {
	for _, body := range []string{"(mx.example; spf=pass", strings.Repeat(" ", maxBody+1)} {
		if f, err := Parse(body); err == nil {
			t.Errorf("%.40q: got %+v", body, f)
		}
	}
}

func TestParseIsBounded(t *testing.T) {
	f, err := Parse("mx.example" + strings.Repeat("; spf=pass"+strings.Repeat(" a.b=c", 40), 200))
	if err != nil || len(f.Results) != maxResults || len(f.Results[0].Properties) != maxProperties {
		t.Errorf("%v: %d results", err, len(f.Results))
	}
}

func FuzzParse(f *testing.F) {
	f.Add("mx.example 1; spf=pass (c) reason=\"x;\" smtp.mailfrom=a@b.example; none")
	f.Add("(a\\)(b))\"x\\\"\" ; dkim/1 = pass header . d = \"")
	f.Fuzz(func(t *testing.T, body string) {
		field, err := Parse(body)
		if err != nil {
			return
		}
		// Whatever was inside comments and quoted strings made no result: with their content gone, there are as many.
		bare, bareErr := Parse(withoutContent(body))
		if bareErr == nil && len(bare.Results) != len(field.Results) {
			t.Errorf("%q: %d results, %d without the content of comments and quoted strings", body, len(field.Results), len(bare.Results))
		}
	})
}

// withoutContent replaces what is in comments and quoted strings by x.
func withoutContent(body string) string {
	out := []byte(body)
	depth, inQuotes := 0, false
	for i := 0; i < len(out); i++ {
		c := out[i]
		inside := depth > 0 || inQuotes
		switch {
		case inside && c == '\\':
			out[i] = 'x'
			if i++; i < len(out) {
				out[i] = 'x'
			}
			continue
		case inQuotes && c == '"':
			inQuotes = false
			continue
		case inQuotes:
		case c == '(':
			if depth++; depth == 1 {
				continue
			}
		case c == ')' && depth > 0:
			if depth--; depth == 0 {
				continue
			}
		case depth == 0 && c == '"':
			inQuotes = true
			continue
		}
		if inside {
			out[i] = 'x'
		}
	}
	return string(out)
}

func FuzzClaims(f *testing.F) {
	f.Add([]byte("Authentication-Results: (c) \"mx\\.example\".org 1; spf=pass"), "mx.example.org")
	f.Add([]byte("Authentication-Results: =?x?="), "b\u00fccher.example")
	f.Fuzz(func(t *testing.T, field []byte, id string) {
		claims := ClaimsToBe(field, id)
		_, body, _ := bytes.Cut(field, []byte(":"))
		parsed, err := Parse(string(body))
		if claims || err != nil || canonical(parsed.AuthservID) != canonical(id) {
			return
		}
		if bytes.HasPrefix(field, []byte("Authentication-Results:")) {
			t.Errorf("%q reads as one of %q", field, id)
		}
	})
}

func FuzzFormat(f *testing.F) {
	f.Add("mx.example.org", "spf", "pass", "why; not (really)", "smtp", "mailfrom", "a\"b@example.org")
	f.Add("\u00e4", "dkim", "fail", strings.Repeat("word ", 60), "header", "b", strings.Repeat("\\", 500))
	f.Fuzz(func(t *testing.T, id, method, result, reason, kind, name, value string) {
		results := []filters.AuthResult{
			{Method: method, Result: result, Reason: reason, Properties: []filters.AuthProperty{{Type: kind, Name: name, Value: value}}},
			{Method: "iprev", Result: "pass"},
		}
		field := Format(id, results)
		checkLines(t, field)
		if !ClaimsToBe(field, clean(id)) {
			t.Errorf("%q is not taken for ours", field)
		}
		parsed, err := Parse(string(field[len(fieldName)+1:]))
		if err != nil {
			t.Fatalf("%q: %v", field, err)
		}
		if want := expressible(results); !reflect.DeepEqual(parsed.Results, want) || parsed.AuthservID != clean(id) {
			t.Errorf("%q\nreads as %q %+v\nwant %+v", field, parsed.AuthservID, parsed.Results, want)
		}
	})
}

func checkLines(t *testing.T, field []byte) {
	text, ended := strings.CutSuffix(string(field), "\r\n")
	if !ended {
		t.Errorf("%q does not end its line", field)
	}
	for i, line := range strings.Split(text, "\r\n") {
		if strings.TrimSpace(line) == "" || i > 0 && line[0] != ' ' && line[0] != '\t' {
			t.Errorf("line %d of %q is no continuation", i, field)
		}
		if len(line) > 998 || strings.ContainsFunc(line, func(r rune) bool { return r >= 0x7f || r < ' ' && r != '\t' }) {
			t.Errorf("line %d of %q is too long or not printable ASCII", i, field)
		}
	}
}

// expressible is what Format can write of results, the way Parse gives it back.
func expressible(results []filters.AuthResult) []filters.AuthResult {
	var out []filters.AuthResult
	for _, r := range results {
		if !isKeyword(r.Method) || !isKeyword(r.Result) {
			continue
		}
		e := filters.AuthResult{Method: strings.ToLower(r.Method), Result: strings.ToLower(r.Result), Reason: clean(r.Reason)}
		for _, p := range r.Properties {
			if isKeyword(p.Type) && isKeyword(p.Name) {
				e.Properties = append(e.Properties, filters.AuthProperty{Type: strings.ToLower(p.Type), Name: strings.ToLower(p.Name), Value: clean(p.Value)})
			}
		}
		out = append(out, e)
	}
	return out
}
