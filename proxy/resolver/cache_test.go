package resolver

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

func TestAnswersExpire(t *testing.T) {
	const soa = "example. 7200 IN SOA ns.example. admin.example. 1 1 1 1 60"
	const longSOA = "example. 7200 IN SOA ns.example. admin.example. 1 1 1 1 7200"
	for _, c := range []struct {
		name    string
		records []string
		keep    time.Duration
	}{
		{"as its TTL says", []string{"a.example. 60 IN A 192.0.2.1"}, time.Minute},
		{"the least TTL counts", []string{"a.example. 60 IN A 192.0.2.1", "a.example. 30 IN A 192.0.2.2"}, 30 * time.Second},
		{"no shorter than the floor", []string{"a.example. 0 IN A 192.0.2.1"}, minTTL},
		{"no longer than an hour", []string{"a.example. 604800 IN A 192.0.2.1"}, maxTTL},
		{"no such name, by the SOA's minimum", []string{soa}, time.Minute},
		{"no such record, by the SOA's minimum", []string{soa, "a.example. 60 IN TXT x"}, time.Minute},
		{"nothing is not believed for long", []string{longSOA}, maxNegative},
		{"nothing without an SOA", nil, minTTL},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, records(c.records...))
			clock := filtertest.NewClock()
			r := newResolver(t, clock, s.address)
			r.LookupA(t.Context(), "a.example")
			clock.Advance(c.keep - time.Millisecond)
			r.LookupA(t.Context(), "A.example.")
			if n := s.count("all"); n != 1 {
				t.Errorf("asked %d times before the answer expired", n)
			}
			clock.Advance(2 * time.Millisecond)
			r.LookupA(t.Context(), "a.example")
			if n := s.count("all"); n != 2 {
				t.Errorf("asked %d times after the answer expired", n)
			}
		})
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache(100, filtertest.NewClock())
	for i := range 10_000 {
		c.put(key{qtype: dns.TypeA, name: time.Duration(i).String()}, &answer{ttl: time.Hour, size: 100})
	}
	if n := c.entries.EstimatedSize(); n > 110 {
		t.Errorf("%d entries in a cache of 100", n)
	}
	for i := range 100 {
		c.put(key{qtype: dns.TypeTXT, name: time.Duration(i).String()}, &answer{ttl: time.Hour, size: 10 * weightUnit})
	}
	if w := c.entries.WeightedSize(); w > 110 {
		t.Errorf("weight %d in a cache of 100", w)
	}
}

func TestCachedAnswerAllocatesNothing(t *testing.T) {
	s := serve(t, records("a.example. 60 IN A 192.0.2.1", "1.2.0.192.in-addr.arpa. 60 IN PTR a.example."))
	r := newResolver(t, clock(), s.address)
	ctx, ip := t.Context(), netip.MustParseAddr("192.0.2.1")
	r.LookupA(ctx, "a.example")
	r.LookupA(ctx, "nowhere.example")
	r.LookupPTR(ctx, ip)
	for name, look := range map[string]func(){
		"A":        func() { r.LookupA(ctx, "a.example.") },
		"NXDOMAIN": func() { r.LookupA(ctx, "nowhere.example") },
		"PTR":      func() { r.LookupPTR(ctx, ip) },
	} {
		if n := testing.AllocsPerRun(1000, look); n != 0 {
			t.Errorf("%s from memory allocates %v times", name, n)
		}
	}
}

func BenchmarkCached(b *testing.B) {
	r := &Resolver{Metrics: &Metrics{}, cache: newCache(1000, filtertest.NewClock())}
	r.cache.put(nameKey(dns.TypeA, "a.example"), &answer{ttl: time.Hour})
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		r.LookupA(ctx, "a.example")
	}
}

func BenchmarkReadAnswer(b *testing.B) {
	q := newQuery("1.2.0.192.zen.example", dns.TypeA)
	m := new(dns.Msg)
	if err := m.Unpack(q.message); err != nil {
		b.Fatal(err)
	}
	reply := new(dns.Msg).SetReply(m)
	reply.Answer = []dns.RR{rr("1.2.0.192.zen.example. 60 IN A 127.0.0.2")}
	packed, err := reply.Pack()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := readAnswer(packed, nameKey(dns.TypeA, "1.2.0.192.zen.example")); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAsked asks a server on loopback, which runs in the same process, a new name each time.
func BenchmarkAsked(b *testing.B) {
	s := serve(b, func(_ string, q *dns.Msg) *dns.Msg {
		reply := new(dns.Msg).SetReply(q)
		reply.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(127, 0, 0, 2)}}
		return reply
	})
	r := newResolver(b, clock(), s.address)
	var names atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := r.LookupA(b.Context(), strconv.FormatInt(names.Add(1), 10)+".example"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// An attempt gets what the cache has, and asks nobody for the rest.
func TestAttemptsAskNobody(t *testing.T) {
	s := serve(t, records("mx.example.org. 60 IN A 192.0.2.25"))
	r := newResolver(t, clock(), s.address)
	var cold, warm filters.Attempt
	if _, err := r.LookupA(&cold, "mx.example.org"); !errors.Is(err, filters.ErrNotAtHand) || !cold.Missed() || cold.Err() == nil {
		t.Errorf("nothing in the cache: %v, missed: %t", err, cold.Missed())
	}
	if n := r.Metrics.Asked.Load(); n != 0 {
		t.Errorf("%d questions", n)
	}
	if _, err := r.LookupA(t.Context(), "mx.example.org"); err != nil {
		t.Fatal(err)
	}
	a, err := r.LookupA(&warm, "mx.example.org")
	check(t, "A", a, err, addrs("192.0.2.25"))
	if _, err := r.LookupA(&warm, "a name that cannot be asked."+strings.Repeat("x", 64)); !errors.Is(err, filters.ErrNXDomain) || warm.Missed() {
		t.Errorf("name that cannot be asked: %v, missed: %t", err, warm.Missed())
	}
}
