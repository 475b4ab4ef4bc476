package resolver

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func FuzzAnswer(f *testing.F) {
	types := []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypeMX, dns.TypePTR}
	seed := func(name string, qtype uint16, lines ...string) {
		reply := new(dns.Msg).SetQuestion(name, qtype)
		reply.Response = true
		for _, line := range lines {
			reply.Answer = append(reply.Answer, rr(line))
		}
		packed, err := reply.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed)
	}
	seed("a.example.", dns.TypeA, "a.example. 60 IN CNAME b.example.", "b.example. 60 IN A 192.0.2.1")
	seed("a.example.", dns.TypeAAAA, "a.example. 60 IN AAAA 2001:db8::1")
	seed("a.example.", dns.TypeTXT, `a.example. 60 IN TXT "a\"\\\000" "b"`)
	seed("a.example.", dns.TypeMX, "a.example. 60 IN MX 10 mx.example.")
	seed("1.2.0.192.in-addr.arpa.", dns.TypePTR, "1.2.0.192.in-addr.arpa. 60 IN PTR a.example.")
	f.Fuzz(func(t *testing.T, message []byte) {
		for _, qtype := range types {
			q := newQuery("a.example", qtype)
			q.answeredBy(message)
			a, err := readAnswer(message, nameKey(qtype, "a.example"))
			if err != nil {
				continue
			}
			if a.ttl < minTTL || a.ttl > maxTTL {
				t.Errorf("kept for %s", a.ttl)
			}
			if a.size > 100*len(message)+100 {
				t.Errorf("%d bytes became %d", len(message), a.size)
			}
			for _, ip := range a.addresses {
				if !ip.IsValid() {
					t.Error("an invalid address")
				}
			}
		}
	})
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		`plain`: "plain", `a\"b`: `a"b`, `a\\b`: `a\b`, `\000\255`: "\x00\xff", `\`: `\`, `a\`: `a\`, `\12`: "12", `\\000`: `\000`,
	} {
		if got := unescape(in); got != want {
			t.Errorf("%s became %q, want %q", in, got, want)
		}
	}
}

func TestQueryIsWhatTheLibraryReads(t *testing.T) {
	name := strings.Repeat("abcdefghi.", 20) + "example"
	q := newQuery(name, dns.TypeTXT)
	q.setID(4711)
	var m dns.Msg
	if err := m.Unpack(q.message); err != nil {
		t.Fatal(err)
	}
	if m.Id != 4711 || !m.RecursionDesired || m.Response || len(m.Question) != 1 || m.Question[0].Name != name+"." ||
		m.Question[0].Qtype != dns.TypeTXT || m.Question[0].Qclass != dns.ClassINET {
		t.Errorf("the query reads %v", &m)
	}
	if opt := m.IsEdns0(); opt == nil || opt.UDPSize() != udpSize {
		t.Errorf("EDNS0 reads %v", opt)
	}
	reply := new(dns.Msg).SetReply(&m)
	reply.Question[0].Name = strings.ToUpper(name) + "."
	packed, err := reply.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if !q.answeredBy(packed) {
		t.Error("an answer in capitals was refused")
	}
}
