package helo

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gatepost/filters/filtertest"
)

func newFilter(t testing.TB, zone string) (*Filter, *filtertest.Zone) {
	t.Helper()
	z := filtertest.MustParseZone(zone)
	f, err := New(Defaults(), filtertest.NewEnv(z))
	if err != nil {
		t.Fatal(err)
	}
	return f, z
}

func TestForm(t *testing.T) {
	f, _ := newFilter(t, "")
	for helo, want := range map[string]FormFacts{
		"mail.example.com":                       {Valid: true},
		"mail.example.com.":                      {Valid: true},
		"MAIL.Example.COM":                       {Valid: true},
		"under_score.example.com":                {Valid: true},
		"1.2.example.com":                        {Valid: true},
		"mx.example.org":                         {Valid: true, Ours: true},
		"MX.example.ORG.":                        {Valid: true, Ours: true},
		"example.org":                            {Valid: true, Ours: true},
		"sub.example.org":                        {Valid: true},
		"[192.0.2.1]":                            {Valid: true, Literal: true},
		"[IPv6:2001:db8::1]":                     {Valid: true, Literal: true},
		"[ipv6:2001:DB8::1]":                     {Valid: true, Literal: true},
		"[192.0.2.25]":                           {Valid: true, Literal: true, Ours: true},
		"[IPv6:::ffff:192.0.2.25]":               {Valid: true, Literal: true, Ours: true},
		"localhost":                              {},
		"192.0.2.1":                              {},
		"192.0.2.25":                             {},
		"[2001:db8::1]":                          {},
		"[IPv6:192.0.2.1]":                       {},
		"[IPv6:fe80::1%eth0]":                    {},
		"[192.0.2.1":                             {},
		"[]":                                     {},
		"[":                                      {},
		"":                                       {},
		".":                                      {},
		"..":                                     {},
		"a..b":                                   {},
		"-a.example.com":                         {},
		"a-.example.com":                         {},
		"a b.example.com":                        {},
		"a\x00b.example.com":                     {},
		"bücher.example":                         {},
		"user@example.com":                       {},
		"mail.example.com\r\nRSET":               {},
		strings.Repeat("a", 64) + ".example.com": {},
		strings.Repeat("a.", 127) + "example.com": {},
		"[" + strings.Repeat("1", 1000) + "]":     {},
		strings.Repeat("a", 63) + ".example.com":  {Valid: true},
	} {
		got, err := f.Form(t.Context(), filtertest.Greeted("192.0.2.1", helo))
		if err != nil || *got != want {
			t.Errorf("%q: %+v, %v; want %+v", helo, *got, err, want)
		}
	}
}

const zone = `
own.example.com     A     192.0.2.1
own.example.com     AAAA  2001:db8::1
other.example.com   A     192.0.2.99
six.example.com     AAAA  2001:db8::99
mxonly.example.com  MX    10 own.example.com
empty.example.com   TXT   nothing else
slow.example.com    TIMEOUT
half.example.com    MX    10 own.example.com
half.example.com    TIMEOUT
`

func TestResolve(t *testing.T) {
	yes, no := new(true), new(false)
	f, z := newFilter(t, zone)
	for _, c := range []struct {
		client, helo string
		resolves     bool
		matches      *bool
		fails        bool
	}{
		{"192.0.2.1", "own.example.com", true, yes, false},
		{"::ffff:192.0.2.1", "OWN.example.com.", true, yes, false},
		{"2001:db8::1", "own.example.com", true, yes, false},
		{"192.0.2.1", "other.example.com", true, no, false},
		{"192.0.2.1", "six.example.com", true, no, false},
		{"2001:db8::1", "other.example.com", true, no, false},
		{"192.0.2.1", "mxonly.example.com", true, no, false},
		{"192.0.2.1", "empty.example.com", false, no, false},
		{"192.0.2.1", "nowhere.example.com", false, no, false},
		{"192.0.2.1", "slow.example.com", false, nil, true},
		{"192.0.2.1", "half.example.com", true, nil, false},
		{"192.0.2.1", "[192.0.2.1]", true, yes, false},
		{"192.0.2.1", "[192.0.2.2]", true, no, false},
		{"2001:db8::1", "[IPv6:2001:db8::1]", true, yes, false},
	} {
		got, err := f.Resolve(t.Context(), filtertest.Greeted(c.client, c.helo))
		if c.fails {
			if err == nil {
				t.Errorf("%s of %s: %+v", c.helo, c.client, got)
			}
			continue
		}
		if err != nil || got.Resolves != c.resolves || (got.Matches == nil) != (c.matches == nil) ||
			(got.Matches != nil && *got.Matches != *c.matches) {
			t.Errorf("%s of %s: %+v, %v", c.helo, c.client, got, err)
		}
	}
	before := z.Queries()
	for _, helo := range []string{"localhost", "192.0.2.1", "a\x00.b", ""} {
		got, err := f.Resolve(t.Context(), filtertest.Greeted("192.0.2.1", helo))
		if err != nil || got.Resolves || got.Matches == nil || *got.Matches {
			t.Errorf("%q: %+v, %v", helo, got, err)
		}
	}
	if z.Queries() != before {
		t.Error("a name that is none was looked up")
	}
}

func TestAnyNameIsHarmless(t *testing.T) {
	f, _ := newFilter(t, zone)
	rapid.Check(t, func(t *rapid.T) {
		helo := rapid.OneOf(rapid.String(), rapid.StringMatching(`\[?(IPv6:)?[0-9a-f:.]{0,40}\]?`), rapid.StringMatching(`[-_a-z0-9.]{0,80}`)).Draw(t, "helo")
		v := filtertest.Greeted("192.0.2.1", helo)
		form, err := f.Form(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		resolved, err := f.Resolve(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		if form.Literal && !form.Valid || resolved.Resolves && !form.Valid {
			t.Fatalf("%q: %+v, %+v", helo, form, resolved)
		}
		if form.Valid && strings.ContainsAny(helo, "\r\n\x00 \"<>") {
			t.Fatalf("%q is valid", helo)
		}
	})
}

func TestFormAllocatesNothingBesideItsFacts(t *testing.T) {
	f, _ := newFilter(t, "")
	v := filtertest.Greeted("192.0.2.1", "mail.example.com")
	if n := testing.AllocsPerRun(100, func() { f.Form(t.Context(), v) }); n > 1 {
		t.Errorf("%v allocations", n)
	}
}
