package spf

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/filters/filtertest"
)

// check runs one check for MAIL FROM:<sender> after EHLO helo.example.
func check(zone *filtertest.Zone, client, sender string) Outcome {
	return Check(context.Background(), zone, Query{
		IP: netip.MustParseAddr(client), Helo: "helo.example", Sender: sender, Receiver: "mx.example.org", Now: time.Unix(1e9, 0),
	})
}

func TestResultsAndMechanisms(t *testing.T) {
	zone := filtertest.MustParseZone(`
a.example            TXT v=spf1 ip4:192.0.2.0/24 ?ip6:2001:db8::/32 include:b.example ~all
b.example            TXT v=spf1 -IP4:198.51.100.7 +ip4:198.51.100.0/24
r.example            TXT v=spf1 redirect=b.example
xn--bcher-kva.example TXT v=spf1 ip4:192.0.2.1 -all
_u.bad_name.example  TXT v=spf1 -all
helo.example         TXT v=spf1 ip4:192.0.2.1 -all
`)
	for _, test := range []struct {
		client, sender            string
		result                    Result
		domain, identity, matched string
	}{
		{"192.0.2.9", "joe@a.example", Pass, "a.example", "mailfrom", "ip4:192.0.2.0/24"},
		{"::ffff:192.0.2.9", "joe@A.Example.", Pass, "a.example", "mailfrom", "ip4:192.0.2.0/24"},
		{"2001:db8::1", "joe@a.example", Neutral, "a.example", "mailfrom", "?ip6:2001:db8::/32"},
		{"198.51.100.1", "joe@a.example", Pass, "a.example", "mailfrom", "include:b.example"},
		{"198.51.100.7", "joe@a.example", SoftFail, "a.example", "mailfrom", "~all"},
		{"198.51.100.7", "joe@r.example", Fail, "r.example", "mailfrom", "-IP4:198.51.100.7"},
		{"203.0.113.1", "joe@r.example", Neutral, "r.example", "mailfrom", ""},
		{"192.0.2.1", "", Pass, "helo.example", "helo", "ip4:192.0.2.1"},
		{"192.0.2.1", "jörg@Bücher.example", Pass, "xn--bcher-kva.example", "mailfrom", "ip4:192.0.2.1"},
		{"192.0.2.1", "x@_u.bad_name.example", Fail, "_u.bad_name.example", "mailfrom", "-all"},
		{"192.0.2.1", "x@nothing.example", None, "nothing.example", "mailfrom", ""},
		{"192.0.2.1", "postmaster", None, "", "mailfrom", ""},
		{"192.0.2.1", "x@localhost", None, "", "mailfrom", ""},
		{"192.0.2.1", "x@192.0.2.1", None, "", "mailfrom", ""},
		{"192.0.2.1", "x@[192.0.2.1]", None, "", "mailfrom", ""},
		{"192.0.2.1", "x@b\xffd.example", None, "", "mailfrom", ""},
		{"192.0.2.1", "x@" + strings.Repeat("ü", 1<<16) + ".example", None, "", "mailfrom", ""},
	} {
		o := check(zone, test.client, test.sender)
		if o.Result != test.result || o.Domain != test.domain || o.Identity != test.identity || o.Mechanism != test.matched {
			t.Errorf("%.60s from %s: %+v", test.sender, test.client, o)
		}
		if (o.Problem != "") != (o.Result == PermError || o.Result == TempError) {
			t.Errorf("%.60s: problem %q with %s", test.sender, o.Problem, o.Result)
		}
	}
}

func TestErrors(t *testing.T) {
	zone := filtertest.MustParseZone(`
slow.example   TIMEOUT
broken.example SERVFAIL
two.example    TXT v=spf1 -all
two.example    TXT v=spf1 +all
mx.example     TXT v=spf1 mx -all
mx.example     MX  10 slow.example
a.example      TXT v=spf1 a:broken.example -all
exists.example TXT v=spf1 exists:slow.example -all
include.example TXT v=spf1 include:broken.example -all
redirect.example TXT v=spf1 redirect=slow.example
norecord.example TXT v=spf1 include:nothing.example -all
nowhere.example TXT v=spf1 redirect=nothing.example
early.example  TXT v=spf1 ip4:192.0.2.1 a:slow.example -all
ptr.example    TXT v=spf1 ptr -all
192.0.2.1      PTR slow.ptr.example
slow.ptr.example TIMEOUT
192.0.2.2      TIMEOUT
`)
	for domain, want := range map[string]Result{
		"slow.example": TempError, "broken.example": TempError, "two.example": PermError, "mx.example": TempError,
		"a.example": TempError, "exists.example": TempError, "include.example": TempError, "redirect.example": TempError,
		"norecord.example": PermError, "nowhere.example": PermError, "early.example": Pass,
		"ptr.example": Fail, // RFC 7208, 5.5: errors on the client's names are skipped
	} {
		o := check(zone, "192.0.2.1", "joe@"+domain)
		if o.Result != want || (o.Problem == "") != (want == Pass || want == Fail) {
			t.Errorf("%s: %+v", domain, o)
		}
	}
	if o := check(zone, "192.0.2.2", "joe@ptr.example"); o.Result != Fail {
		t.Errorf("no answer for the client's name: %+v", o)
	}
}

func TestOutOfTimeIsTempError(t *testing.T) {
	zone := filtertest.MustParseZone(`
silent.example SILENT
a.example      TXT v=spf1 a:silent.example -all
ptr.example    TXT v=spf1 ptr -all
192.0.2.1      PTR silent.ptr.example
silent.ptr.example SILENT
`)
	synctest.Test(t, func(t *testing.T) {
		for _, domain := range []string{"silent.example", "a.example", "ptr.example"} {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			o := Check(ctx, zone, Query{IP: netip.MustParseAddr("192.0.2.1"), Sender: "joe@" + domain})
			cancel()
			if o.Result != TempError || o.Problem == "" {
				t.Errorf("%s: %+v", domain, o)
			}
		}
	})
}

// TestQueriesAreBounded holds the worst records that can be thought of to the budget, by the zone's own count.
func TestQueriesAreBounded(t *testing.T) {
	fan := func(z *filtertest.Zone, name string, n int) {
		for i := range n {
			add(z, name, "MX", fmt.Sprintf("%d h%d.%s", i, i, name))
			add(z, fmt.Sprintf("h%d.%s", i, name), "A", "203.0.113.1")
			add(z, fmt.Sprintf("h%d.%s", i, name), "AAAA", "2001:db8:1::1")
		}
	}
	for _, test := range []struct {
		name  string
		build func(z *filtertest.Zone)
		want  Result
	}{
		{"redirect loop", func(z *filtertest.Zone) {
			add(z, "evil.example", "TXT", "v=spf1 redirect=evil.example")
		}, PermError},
		{"include loop", func(z *filtertest.Zone) {
			add(z, "evil.example", "TXT", "v=spf1 include:evil.example include:evil.example -all")
		}, PermError},
		{"include tree", func(z *filtertest.Zone) {
			add(z, "evil.example", "TXT", "v=spf1 include:a.evil.example include:b.evil.example include:c.evil.example -all")
			for _, l := range []string{"a", "b", "c"} {
				add(z, "*."+l+".evil.example", "TXT", "v=spf1 include:a.%{d} include:b.%{d} include:c.%{d} ?all")
				add(z, l+".evil.example", "TXT", "v=spf1 include:a.%{d} include:b.%{d} include:c.%{d} ?all")
			}
		}, PermError},
		{"mx fan-out", func(z *filtertest.Zone) {
			fan(z, "evil.example", 10)
			add(z, "evil.example", "TXT", "v=spf1"+strings.Repeat(" mx", 10)+" -all")
		}, PermError},
		{"too many exchangers", func(z *filtertest.Zone) {
			fan(z, "evil.example", 11)
			add(z, "evil.example", "TXT", "v=spf1 mx ?all")
		}, PermError},
		{"void look-ups", func(z *filtertest.Zone) {
			add(z, "evil.example", "TXT", "v=spf1 a:n1.example mx:n2.example exists:n3.example -all")
		}, PermError},
		{"two void look-ups", func(z *filtertest.Zone) {
			add(z, "evil.example", "TXT", "v=spf1 a:n1.example exists:%{i}.n3.example -all")
		}, Fail},
		{"eleven terms", func(z *filtertest.Zone) {
			add(z, "a.example", "A", "203.0.113.1")
			add(z, "a.example", "AAAA", "2001:db8:1::1")
			add(z, "evil.example", "TXT", "v=spf1"+strings.Repeat(" a:a.example", 11)+" -all")
		}, PermError},
		{"client with a thousand names", func(z *filtertest.Zone) {
			for i := range 1000 {
				name := fmt.Sprintf("n%d.evil.example", i)
				for _, client := range []string{"192.0.2.1", "2001:db8::1"} {
					add(z, client, "PTR", name)
				}
				add(z, name, "A", "203.0.113.1")
				add(z, name, "AAAA", "2001:db8:1::1")
			}
			add(z, "x.example", "TXT", "%{p}")
			add(z, "evil.example", "TXT", "v=spf1 ptr ptr ptr:other.example -exists:%{p}.%{p}.none.example ptr -all exp=x.example")
		}, Fail},
		{"explanation behind a spent budget", func(z *filtertest.Zone) {
			fan(z, "m.example", 10)
			add(z, "x.example", "TXT", "%{p}")
			add(z, "evil.example", "TXT", "v=spf1 mx:m.example mx:m.example a:h1.m.example a:h1.m.example -all exp=x.example")
		}, Fail},
	} {
		for _, client := range []string{"192.0.2.1", "2001:db8::1"} {
			zone := filtertest.NewZone()
			test.build(zone)
			o := check(zone, client, "joe@evil.example")
			if o.Result != test.want || zone.Queries() > 25 || o.Queries != zone.Queries() {
				t.Errorf("%s from %s: %d queries, %+v", test.name, client, zone.Queries(), o)
			}
			for i := range 11 {
				other := map[bool]string{true: "AAAA", false: "A"}[client == "192.0.2.1"]
				if n := zone.Asked(other, fmt.Sprintf("h%d.evil.example", i)); n > 0 {
					t.Errorf("%s from %s: asked for %s", test.name, client, other)
				}
			}
		}
	}
}

func add(z *filtertest.Zone, name, typ, value string) {
	if err := z.Add(name, typ, value); err != nil {
		panic(err)
	}
}

// An IPv6 client meets a domain whose ten exchangers have IPv4 addresses only: that is one term without an answer.
func TestVoidsAreCountedByTerm(t *testing.T) {
	zone := filtertest.MustParseZone("a.example TXT v=spf1 mx ip6:2001:db8::1 -all")
	for i := range 10 {
		add(zone, "a.example", "MX", fmt.Sprintf("1 h%d.example", i))
		add(zone, fmt.Sprintf("h%d.example", i), "A", "192.0.2.1")
	}
	if o := check(zone, "2001:db8::1", "joe@a.example"); o.Result != Pass {
		t.Errorf("%+v", o)
	}
}

func TestNullMXIsAnAnswer(t *testing.T) {
	zone := filtertest.MustParseZone("a.example TXT v=spf1 mx:n1.example mx:n2.example mx:n3.example -all")
	for _, name := range []string{"n1.example", "n2.example", "n3.example"} {
		add(zone, name, "MX", "0 .")
	}
	if o := check(zone, "192.0.2.1", "joe@a.example"); o.Result != Fail {
		t.Errorf("%+v", o)
	}
}

// The client decides what its own names are: they must not turn a fail into a permerror.
func TestClientCannotSpendTheVoids(t *testing.T) {
	zone := filtertest.MustParseZone(`
a.example   TXT v=spf1 ptr ptr:b.example a:none1.example exists:none2.example -all
192.0.2.1   PTR n1.a.example
192.0.2.1   PTR n2.a.example
192.0.2.1   PTR n3.b.example
`)
	if o := check(zone, "192.0.2.1", "joe@a.example"); o.Result != Fail {
		t.Errorf("%+v", o)
	}
}

func TestWide(t *testing.T) {
	zone := filtertest.MustParseZone(`
allow.example TXT v=spf1 ip4:192.0.2.0/24 all
inc.example   TXT v=spf1 include:allow.example -all
big.example   TXT v=spf1 ip4:10.0.0.0/7 -all
incbig.example TXT v=spf1 include:big.example ip4:192.0.2.1 -all
notinc.example TXT v=spf1 ?include:big.example ip4:192.0.2.1 -all
redir.example TXT v=spf1 redirect=allow.example
behind.example TXT v=spf1 ip4:192.0.2.0/24 -all +all
eight.example TXT v=spf1 ip4:192.0.0.0/8 -all
more.example  TXT v=spf1 ip4:192.0.0.0/8 ip4:198.51.100.1 -all
zero.example  TXT v=spf1 ip4:0.0.0.0/0 -all
halves.example TXT v=spf1 ip4:192.0.2.1 ip4:0.0.0.0/1 ip4:128.0.0.0/1 -all
six.example   TXT v=spf1 ip6:2001:d00::/24 ip4:192.0.2.1 -all
sixer.example TXT v=spf1 ip6:::/0 ip4:192.0.2.1 -all
host.example  TXT v=spf1 a:h.example/0 -all
mx.example    TXT v=spf1 mx/4 -all
mx.example    MX  1 h.example
h.example     A   192.0.2.77
exists.example TXT v=spf1 exists:h.example -all
existsip.example TXT v=spf1 exists:%{ir}.l.example -all
1.2.0.192.l.example A 127.0.0.1
named.example TXT v=spf1 a:%{h} -all
helo.example  A   192.0.2.1
neutral.example TXT v=spf1 ip4:192.0.2.1 ?all
`)
	for domain, want := range map[string]bool{
		"allow": true, "inc": true, "incbig": true, "notinc": false, "redir": true, "behind": false, "eight": false, "more": true,
		"zero": true, "halves": true, "six": false, "sixer": true, "host": true, "mx": true, "exists": true,
		"existsip": false, "named": true, "neutral": false,
	} {
		if o := check(zone, "192.0.2.1", "joe@"+domain+".example"); o.Result != Pass || o.Wide != want {
			t.Errorf("%s: %+v", domain, o)
		}
	}
	if o := check(zone, "2001:db8::1", "joe@mx.example"); o.Result != Fail || o.Wide {
		t.Errorf("wide without a pass: %+v", o)
	}
}

func TestLocalPartBeyondASCIINeverMatches(t *testing.T) {
	zone := filtertest.MustParseZone(`
a.example TXT v=spf1 exists:%{l1}.l.example exists:%{L}.l.example ?exists:%{d} -all
*.l.example A 127.0.0.1
`)
	if o := check(zone, "192.0.2.1", "ü.joe@a.example"); o.Result != Fail || zone.Queries() != 2 {
		t.Errorf("%+v", o)
	}
	if o := check(zone, "192.0.2.1", "u.joe@a.example"); o.Result != Pass {
		t.Errorf("%+v", o)
	}
}

func TestExplanationIsSafeToShow(t *testing.T) {
	zone := filtertest.MustParseZone(`
a.example TXT v=spf1 -all exp=x.example
x.example TXT "%{l} %{c} %{r} %{t} %{h}"
b.example TXT v=spf1 -all exp=y.example
`)
	o := check(zone, "2001:db8::1", "a\r\nb\x1b[31m\u00e4\x00@a.example")
	if want := "a??b?[31m??? 2001:db8::1 mx.example.org 1000000000 helo.example"; o.Explanation != want {
		t.Errorf("got %q, want %q", o.Explanation, want)
	}
	add(zone, "y.example", "TXT", strings.Repeat("%{s}", 100))
	if o := check(zone, "2001:db8::1", "joe@b.example"); len(o.Explanation) != maxExplanation {
		t.Errorf("%d bytes of explanation", len(o.Explanation))
	}
	add(zone, "y.example", "TXT", "a second one")
	if o := check(zone, "2001:db8::1", "joe@b.example"); o.Explanation != "" {
		t.Errorf("%q out of two explanations", o.Explanation)
	}
	// Far beyond any use: as if there were none.
	zone.Remove("y.example")
	add(zone, "y.example", "TXT", strings.Repeat("%{s}", 10000))
	if o := check(zone, "2001:db8::1", "joe@b.example"); o.Explanation != "" {
		t.Errorf("%d bytes of explanation", len(o.Explanation))
	}
}
