package spf

import (
	"context"
	"net/netip"
	"reflect"
	"testing"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

func newFilter(t *testing.T, zone string) *Filter {
	t.Helper()
	f, err := Spec.Build(Spec.NewConfig(), filtertest.NewEnv(filtertest.MustParseZone(zone)))
	if err != nil {
		t.Fatal(err)
	}
	return f.(*Filter)
}

const testZone = `
example.com      TXT v=spf1 ip4:192.0.2.0/24 -all exp=why.example.com
why.example.com  TXT Mail from %{c} is refused by %{r}
mail.example.com TXT v=spf1 a -all
mail.example.com A   192.0.2.1
broken.example   TXT v=spf1 foo
`

func TestMailFacts(t *testing.T) {
	f := newFilter(t, testZone)
	for _, test := range []struct {
		client, sender string
		want           Facts
		reported       []filters.AuthResult
	}{
		{"192.0.2.1", "joe@example.com",
			Facts{Result: "pass", Domain: "example.com", Identity: "mailfrom", Mechanism: "ip4:192.0.2.0/24", Authenticated: "example.com", Lookups: 1},
			[]filters.AuthResult{{Method: "spf", Result: "pass", Properties: []filters.AuthProperty{{Type: "smtp", Name: "mailfrom", Value: "example.com"}}}}},
		{"198.51.100.1", "joe@example.com",
			Facts{Result: "fail", Domain: "example.com", Identity: "mailfrom", Mechanism: "-all", Explanation: "Mail from 198.51.100.1 is refused by mx.example.org", Lookups: 2},
			[]filters.AuthResult{{Method: "spf", Result: "fail", Properties: []filters.AuthProperty{{Type: "smtp", Name: "mailfrom", Value: "example.com"}}}}},
		{"192.0.2.1", "",
			Facts{Result: "pass", Domain: "mail.example.com", Identity: "helo", Mechanism: "a", Authenticated: "mail.example.com", Lookups: 2},
			[]filters.AuthResult{{Method: "spf", Result: "pass", Properties: []filters.AuthProperty{{Type: "smtp", Name: "helo", Value: "mail.example.com"}}}}},
		{"192.0.2.1", "joe@broken.example",
			Facts{Result: "permerror", Domain: "broken.example", Identity: "mailfrom", Problem: "syntax error in the record of broken.example at foo", Lookups: 1},
			[]filters.AuthResult{{Method: "spf", Result: "permerror", Reason: "syntax error in the record of broken.example at foo",
				Properties: []filters.AuthProperty{{Type: "smtp", Name: "mailfrom", Value: "broken.example"}}}}},
		{"192.0.2.1", "joe", Facts{Result: "none", Identity: "mailfrom"}, []filters.AuthResult{{Method: "spf", Result: "none"}}},
	} {
		got, err := f.Mail(t.Context(), filtertest.Mailed(test.client, "mail.example.com", test.sender))
		if err != nil || *got != test.want {
			t.Errorf("%s: got %+v, %v\nwant %+v", test.sender, got, err, test.want)
			continue
		}
		if reported := got.AuthResults(nil); !reflect.DeepEqual(reported, test.reported) {
			t.Errorf("%s: reports %+v", test.sender, reported)
		}
	}
}

func TestHeloFacts(t *testing.T) {
	f := newFilter(t, testZone)
	for helo, want := range map[string]HeloFacts{
		"Mail.Example.COM": {HeloResult: "pass", HeloDomain: "mail.example.com"},
		"example.org":      {HeloResult: "none", HeloDomain: "example.org"},
		"[192.0.2.1]":      {HeloResult: "none"},
		"localhost":        {HeloResult: "none"},
	} {
		got, err := f.Helo(t.Context(), filtertest.Greeted("192.0.2.1", helo))
		if err != nil || *got != want {
			t.Errorf("%s: got %+v, %v", helo, got, err)
		}
	}
	got := (&HeloFacts{HeloResult: "pass", HeloDomain: "mail.example.com"}).AuthResults(nil)
	if want := (filters.AuthProperty{Type: "smtp", Name: "helo", Value: "mail.example.com"}); len(got) != 1 || got[0].Properties[0] != want {
		t.Errorf("reports %+v", got)
	}
}

// cached answers from memory without work of its own, like a warm cache.
type cached struct {
	filters.Resolver
	texts []string
}

func (c cached) LookupTXT(context.Context, string) ([]string, error) { return c.texts, nil }

var fiveTerms = cached{texts: []string{"google-site-verification=x",
	"v=spf1 ip4:198.51.100.0/24 ip4:203.0.113.7 ip6:2001:db8:1::/48 ip6:2001:db8:2::1 ip4:192.0.2.0/24 -all"}}

var fiveTermsQuery = Query{IP: netip.MustParseAddr("192.0.2.1"), Helo: "mail.example.com", Sender: "joe@example.com"}

func TestCachedCheckAllocatesNothing(t *testing.T) {
	var o Outcome
	var resolver filters.Resolver = fiveTerms
	if n := testing.AllocsPerRun(1000, func() { o = Check(t.Context(), resolver, fiveTermsQuery) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if o.Result != Pass || o.Mechanism != "ip4:192.0.2.0/24" {
		t.Errorf("%+v", o)
	}
}

func BenchmarkFiveTerms(b *testing.B) {
	var resolver filters.Resolver = fiveTerms
	b.ReportAllocs()
	for b.Loop() {
		if o := Check(b.Context(), resolver, fiveTermsQuery); o.Result != Pass {
			b.Fatal(o)
		}
	}
}

func BenchmarkMail(b *testing.B) {
	f := &Filter{env: filtertest.NewEnv(fiveTerms)}
	v := filtertest.Mailed("192.0.2.1", "mail.example.com", "joe@example.com")
	b.ReportAllocs()
	for b.Loop() {
		if facts, err := f.Mail(b.Context(), v); err != nil || facts.Result != "pass" {
			b.Fatal(facts, err)
		}
	}
}

// echo answers every question with the fuzzer's record, names and addresses, so that everything leads everywhere.
type echo struct {
	record  string
	addr    netip.Addr
	queries int
}

func (e *echo) LookupTXT(context.Context, string) ([]string, error) {
	e.queries++
	return []string{e.record}, nil
}

func (e *echo) LookupA(context.Context, string) ([]netip.Addr, error) {
	e.queries++
	return []netip.Addr{netip.MustParseAddr("203.0.113.1"), e.addr}, nil
}

func (e *echo) LookupAAAA(context.Context, string) ([]netip.Addr, error) {
	e.queries++
	return nil, filters.ErrNXDomain
}

func (e *echo) LookupMX(context.Context, string) ([]filters.MX, error) {
	e.queries++
	return []filters.MX{{Host: "a.example.com"}, {Host: "b.example.com"}, {}}, nil
}

func (e *echo) LookupPTR(context.Context, netip.Addr) ([]string, error) {
	e.queries++
	return []string{"a.example.com", e.record}, nil
}

func FuzzSPF(f *testing.F) {
	f.Add("v=spf1 a/24//64 mx:%{d2r}.example.com -exists:%{ir}.%{v}.%{p} include:%{L}.%{o} ~ptr redirect=%{h} exp=%{d}", []byte{192, 0, 2, 1}, "joe+x@example.com", "mail.example.com")
	f.Add("v=spf1 ip4:192.0.2.0/24 ip6:::/0 ?all x=%{c}%{r}%{t}%_%-%%", make([]byte, 16), "", "mail.example.com")
	f.Add("v=spf1 -all exp=%{s}.example.com", []byte{}, "\"a@b\"@b\u00fccher.example", "[::1]")
	f.Fuzz(func(t *testing.T, record string, ip []byte, sender, helo string) {
		addr, _ := netip.AddrFromSlice(ip)
		e := &echo{record: record, addr: addr}
		o := Check(t.Context(), e, Query{IP: addr, Sender: sender, Helo: helo})
		if e.queries > maxQueries || o.Queries != e.queries {
			t.Errorf("%d queries, %d counted", e.queries, o.Queries)
		}
		switch o.Result {
		case None, Neutral, Pass, Fail, SoftFail:
			if o.Problem != "" {
				t.Errorf("problem %q with %s", o.Problem, o.Result)
			}
		case PermError, TempError:
			if o.Problem == "" {
				t.Errorf("%s without a problem", o.Result)
			}
		default:
			t.Errorf("result %q", o.Result)
		}
		for _, text := range []string{o.Mechanism, o.Explanation, o.Problem} {
			if text != printable(text, maxExplanation) {
				t.Errorf("%q is not safe to show", text)
			}
		}
	})
}
