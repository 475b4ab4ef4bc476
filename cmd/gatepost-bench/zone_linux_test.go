package main

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestNameServer(t *testing.T) {
	record := "v=DKIM1; p=" + strings.Repeat("abcdefghij", 40)
	s, err := startNameServer(record)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for _, test := range []struct {
		name  string
		kind  uint16
		rcode int
		want  string // of all answers, after the type
	}{
		{"example.net.", dns.TypeTXT, dns.RcodeSuccess, "v=spf1 ip4:127.0.0.0/8 -all"},
		{"EXAMPLE.net.", dns.TypeMX, dns.RcodeSuccess, "10 client.example.net."},
		{"_dmarc.example.net.", dns.TypeTXT, dns.RcodeSuccess, "v=DMARC1; p=reject"},
		{keyName, dns.TypeTXT, dns.RcodeSuccess, record},
		{"10.0.0.127.in-addr.arpa.", dns.TypePTR, dns.RcodeSuccess, "127-0-0-10.clients.example.net."},
		{"127-0-0-10.clients.example.net.", dns.TypeA, dns.RcodeSuccess, "127.0.0.10"},
		{"127-0-0-10.clients.example.net.", dns.TypeAAAA, dns.RcodeSuccess, ""},
		{"clients.example.net.", dns.TypeA, dns.RcodeNameError, ""},
		{"_domainkey.example.net.", dns.TypeTXT, dns.RcodeSuccess, ""},
		{"10.0.0.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, ""},
		{"2.0.0.127." + blockList + ".", dns.TypeA, dns.RcodeSuccess, "127.0.0.2"},
		{"1.0.0.127." + blockList + ".", dns.TypeA, dns.RcodeNameError, ""},
		{"10.0.0.127." + blockList + ".", dns.TypeA, dns.RcodeNameError, ""},
	} {
		for _, network := range []string{"udp", "tcp"} {
			c := dns.Client{Net: network}
			reply, _, err := c.Exchange(new(dns.Msg).SetQuestion(test.name, test.kind).SetEdns0(1232, false), s.addr())
			if err != nil {
				t.Fatal(test.name, err)
			}
			var got string
			for _, rr := range reply.Answer {
				if txt, ok := rr.(*dns.TXT); ok {
					got += strings.Join(txt.Txt, "")
					continue
				}
				got += strings.TrimPrefix(rr.String(), rr.Header().String())
			}
			if reply.Rcode != test.rcode || got != test.want {
				t.Errorf("%s %s over %s: %s %q, want %s %q", test.name, dns.TypeToString[test.kind], network,
					dns.RcodeToString[reply.Rcode], got, dns.RcodeToString[test.rcode], test.want)
			}
			if got == "" && len(reply.Ns) != 1 {
				t.Errorf("%s: no SOA, so that nobody can remember that there is nothing", test.name)
			}
		}
	}
}
