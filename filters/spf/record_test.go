package spf

import (
	"net/netip"
	"strings"
	"testing"
)

// TestMacros has the examples of RFC 7208, 7.4.
func TestMacros(t *testing.T) {
	c := checker{client: netip.MustParseAddr("192.0.2.3"), local: "strong-bad", origin: "email.example.com"}
	for macros, want := range map[string]string{
		"%{s}": "strong-bad@email.example.com", "%{o}": "email.example.com", "%{d}": "email.example.com",
		"%{d4}": "email.example.com", "%{d3}": "email.example.com", "%{d2}": "example.com", "%{d1}": "com",
		"%{dr}": "com.example.email", "%{d2r}": "example.email", "%{l}": "strong-bad", "%{l-}": "strong.bad",
		"%{lr}": "strong-bad", "%{lr-}": "bad.strong", "%{l1r-}": "strong", "%{L1R-}": "strong", "%{d99999999999999999999}": "email.example.com",
		"%{ir}.%{v}._spf.%{d2}":               "3.2.0.192.in-addr._spf.example.com",
		"%{lr-}.lp._spf.%{d2}":                "bad.strong.lp._spf.example.com",
		"%{lr-}.lp.%{ir}.%{v}._spf.%{d2}":     "bad.strong.lp.3.2.0.192.in-addr._spf.example.com",
		"%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}":    "3.2.0.192.in-addr.strong.lp._spf.example.com",
		"%{d2}.trusted-domains.example.net":   "example.com.trusted-domains.example.net",
		"a%%b%_c%-d.%{d1}":                    "a%b c%20d.com",
		strings.Repeat("x.", 130) + "%{d2}":   strings.Repeat("x.", 121) + "example.com",
		"%{S}":                                "strong-bad%40email.example.com",
		strings.Repeat("y", 63) + ".%{d}.com": strings.Repeat("y", 63) + ".email.example.com.com",
	} {
		if !isDomainSpec(macros) {
			t.Errorf("%s is no domain-spec", macros)
		}
		if got, ok := c.target(macros, "email.example.com"); !ok || got != want {
			t.Errorf("%s: got %q, %v, want %q", macros, got, ok, want)
		}
	}
	c.client = netip.MustParseAddr("2001:db8::cb01")
	want := "1.0.B.C.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.B.D.0.1.0.0.2.ip6._spf.example.com"
	if got, _ := c.target("%{ir}.%{v}._spf.%{d2}", "email.example.com"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestBackslashIsNoEscape(t *testing.T) {
	c := checker{}
	if name, ask, _ := c.mayAsk(`a\.b.example`); !ask || name != `a\\.b.example` {
		t.Errorf("asks for %q", name)
	}
}

func TestUnaskable(t *testing.T) {
	for _, name := range []string{"", ".", "a..b", ".a", "a.", "ä.example", "a\x00.example", strings.Repeat("a", 64) + ".example",
		strings.Repeat("a.", 127) + "a"} {
		if isAskable(name) {
			t.Errorf("%q", name)
		}
	}
}

func TestSyntax(t *testing.T) {
	for record, sound := range map[string]bool{
		"v=spf1": true, "V=SPF1   -ALL ": true, "v=spf1 a/24//64 mx//0 a:b.example//64 mx:b.example/0": true,
		"v=spf1 a:foo/bar.example/24": true, "v=spf1 exists:%{l}/a.example": true, "v=spf1 x-y.z_1=%{c}%{t}": true,
		"v=spf1 a:%{d}/24": true, "v=spf1 ip6:2001:db8::/32 ip6:::1": true, "v=spf1 include:%{d}.x-1": true,
		"v=spf1 +include:_spf.example.com": true, "v=spf1 a:b.example./24": true,
		"v=spf1 \tall": false, "v=spf1 -": false, "v=spf1 +": false, "v=spf1 :": false, "v=spf1 =": false, "v=spf1 --all": false,
		"v=spf1 -redirect=a.example": false, "v=spf1 a/": false, "v=spf1 a//": false, "v=spf1 a///24": false, "v=spf1 a/1000": false,
		"v=spf1 a/00": false, "v=spf1 a:b.example/24/64": false, "v=spf1 a//64/24": false, "v=spf1 mx/": false, "v=spf1 mx/-1": false,
		"v=spf1 ip4:192.0.2.1/": false, "v=spf1 ip4:": false, "v=spf1 ip4:2001:db8::1": false, "v=spf1 ip6:192.0.2.1": false,
		"v=spf1 ip6:fe80::1%eth0": false, "v=spf1 ip4:192.0.2.1/ 24": false, "v=spf1 ip4:192.0.2.01": false,
		"v=spf1 a:%": false, "v=spf1 a:%{": false, "v=spf1 a:%{}": false, "v=spf1 a:%{d0}": false, "v=spf1 a:%{d-.": false,
		"v=spf1 a:%{dx}": false, "v=spf1 a:%{c}": false, "v=spf1 a:%{d}.": false, "v=spf1 a:%{d}com": false, "v=spf1 include:": false,
		"v=spf1 x=%{y}": false, "v=spf1 x=%": false, "v=spf1 x=\x7f": false, "v=spf1 redirect=": false, "v=spf1 exp=a": false,
		"v=spf1 redirect=a.example redirect=a.example": false, "v=spf1 all all:": false, "v=spf1 include": false, "v=spf1 ptr/24": false,
		"v=spf1 foo": false, "v=spf1 foo:bar.example": false, "v=spf1 a:b.example\x00": false, "v=spf1 a:b.\xc3\xa4": false,
	} {
		if !isRecord(record) {
			t.Errorf("%q is no record", record)
			continue
		}
		if _, bad := parseRecord(record, nil); (bad == "") != sound {
			t.Errorf("%q: mistake at %q", record, bad)
		}
	}
	for _, text := range []string{"", "v=spf10", "v=spf1\tall", "v=spf", " v=spf1", "v=spf2.0/pra all"} {
		if isRecord(text) {
			t.Errorf("%q is a record", text)
		}
	}
}

// idna replaces what is no UTF-8 without a word, and the name that comes out is somebody else's.
func TestBytesThatAreNoUTF8AreNoDomain(t *testing.T) {
	for _, domain := range []string{"exam\xffple.org", "ex\xc3.example.org", "b\u00fccher\xff.example"} {
		if ascii, ok := toASCII(domain); ok {
			t.Errorf("%q became %s", domain, ascii)
		}
	}
	if ascii, ok := toASCII("b\u00fccher.example"); ascii != "xn--bcher-kva.example" || !ok {
		t.Errorf("a domain with a U-label became %q, %v", ascii, ok)
	}
}
