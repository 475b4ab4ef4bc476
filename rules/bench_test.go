package rules

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

const fiveClauses = `dnsbl.score > 4 or not rdns.confirmed and spf.result in ["none", "softfail"] or in_network(client.ip, "198.51.100.0/24") or mail.domain == "example.net"`

func sampleFacts(t testing.TB, s *Schema) *Facts {
	return setFacts(t, s.NewFacts(),
		&clientFacts{IP: netip.MustParseAddr("192.0.2.1"), Name: "mx.example.org"}, &dnsblConnect{Score: 1, Listed: []string{"zen"}},
		&rdnsFacts{Name: "mx.example.org"}, &heloFacts{Name: "mx.example.org"}, &mailFacts{Address: "Anna@Example.org", Domain: "example.org", Size: 4096},
		&spfMail{Result: "pass"}, &rcptFacts{Local: "bob", Domain: "example.com"}, &messageFacts{Size: 4096, Header: headers{"Subject": "Hello"}},
		&dkimFacts{Result: "pass", Domains: []string{"example.org"}})
}

func BenchmarkMatchFiveClauses(b *testing.B) {
	s := testSchema(b)
	r, f := mustExpr(b, s, fiveClauses), sampleFacts(b, s)
	b.ReportAllocs()
	for b.Loop() {
		r.Match(f)
	}
}

func BenchmarkMatchOneClause(b *testing.B) {
	s := testSchema(b)
	r, f := mustExpr(b, s, "dnsbl.score >= 4"), sampleFacts(b, s)
	b.ReportAllocs()
	for b.Loop() {
		r.Match(f)
	}
}

func BenchmarkDefaultRules(b *testing.B) {
	s := testSchema(b)
	set, f := mustCompile(b, s, emptyLists, defaultDefinitions(b)...), sampleFacts(b, s)
	b.ReportAllocs()
	for b.Loop() {
		for _, r := range set.Rules() {
			r.Match(f)
		}
	}
}

func BenchmarkResidual(b *testing.B) {
	s := testSchema(b)
	r, f := mustExpr(b, s, `dkim.result == "fail" and (rcpt.local == dmarc.domain or client.trusted)`), sampleFacts(b, s)
	f.Clear(groupOf(b, &dkimFacts{}))
	dst := make([]byte, 0, 100)
	b.ReportAllocs()
	for b.Loop() {
		dst = r.Residual(dst[:0], f, atRcpt)
	}
}

func thousandRules() (definitions []Definition) {
	for i := range 1000 {
		d := define(i+1, fmt.Sprintf("name: r%d; then: reject; reply: 554 5.7.1 {client.ip} is listed by {dnsbl.listed}", i))
		d.When = written(i+1, fmt.Sprintf(`%s or mail.size == %d`, fiveClauses, i))
		definitions = append(definitions, d)
	}
	return definitions
}

func BenchmarkCompileThousandRules(b *testing.B) {
	s, definitions := testSchema(b), thousandRules()
	for b.Loop() {
		mustCompile(b, s, nil, definitions...)
	}
}

func TestThousandRules(t *testing.T) {
	s, definitions := testSchema(t), thousandRules()
	start := time.Now()
	set := mustCompile(t, s, nil, definitions...)
	compiled := time.Since(start)
	f := sampleFacts(t, s)
	start = time.Now()
	for _, r := range set.Rules() {
		if r.Match(f) != False {
			t.Fatalf("%s: %v", r.Name, r.Match(f))
		}
	}
	t.Logf("1,000 rules of six clauses: compiled in %v, one pass in %v", compiled, time.Since(start))
}
