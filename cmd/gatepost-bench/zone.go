package main

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	blockList = "bl.example.com"
	// publicList lists everybody.
	publicList = "all." + blockList
	// ttl is long enough for every answer to be asked for once in a run.
	ttl = 3600
)

// nameServer answers from a small zone in which the clients are all that they should be: not listed, with names that
// lead back to them, allowed by SPF, with a key and a DMARC policy.
type nameServer struct {
	udp, tcp *dns.Server
	serving  sync.WaitGroup
	records  map[dns.Question][]string // rdata
}

// startNameServer listens on one port of 127.0.0.1, UDP and TCP.
func startNameServer(keyRecord string) (*nameServer, error) {
	s := &nameServer{records: map[dns.Question][]string{}}
	s.add("example.net.", dns.TypeMX, "10 client.example.net.")
	s.add("example.net.", dns.TypeA, "127.0.0.10")
	s.add("example.net.", dns.TypeTXT, `"v=spf1 ip4:127.0.0.0/8 -all"`)
	s.add(clientName+".", dns.TypeA, "127.0.0.10")
	s.add(clientName+".", dns.TypeTXT, `"v=spf1 ip4:127.0.0.0/8 -all"`)
	s.add("_dmarc.example.net.", dns.TypeTXT, `"v=DMARC1; p=reject"`)
	s.add(keyName, dns.TypeTXT, quoted(keyRecord))
	s.add("2.0.0.127."+blockList+".", dns.TypeA, "127.0.0.2") // RFC 5782, 5
	return s, s.listen()
}

func (s *nameServer) add(name string, kind uint16, rdata string) {
	q := dns.Question{Name: name, Qtype: kind, Qclass: dns.ClassINET}
	s.records[q] = append(s.records[q], rdata)
}

// quoted writes a long text as the strings of at most 255 bytes that a TXT record consists of.
func quoted(text string) string {
	var b strings.Builder
	for len(text) > 255 {
		fmt.Fprintf(&b, "%q ", text[:255])
		text = text[255:]
	}
	fmt.Fprintf(&b, "%q", text)
	return b.String()
}

func (s *nameServer) listen() error {
	addr, err := freePort()
	if err != nil {
		return err
	}
	packets, err := net.ListenPacket("udp", addr.String())
	if err != nil {
		return err
	}
	stream, err := net.Listen("tcp", addr.String())
	if err != nil {
		packets.Close()
		return err
	}
	ready := make(chan struct{}, 2)
	started := func() { ready <- struct{}{} }
	s.udp = &dns.Server{PacketConn: packets, Handler: s, NotifyStartedFunc: started}
	s.tcp = &dns.Server{Listener: stream, Handler: s, NotifyStartedFunc: started}
	s.serving.Go(func() { s.udp.ActivateAndServe() })
	s.serving.Go(func() { s.tcp.ActivateAndServe() })
	for range 2 { // a shutdown that overtakes the start would find nothing to stop
		select {
		case <-ready:
		case <-time.After(10 * time.Second):
			return fmt.Errorf("the DNS server on %s does not start", packets.LocalAddr())
		}
	}
	return nil
}

func (s *nameServer) addr() string { return s.udp.PacketConn.LocalAddr().String() }

func (s *nameServer) close() {
	s.udp.Shutdown()
	s.tcp.Shutdown()
	s.serving.Wait()
}

// ServeDNS implements [dns.Handler].
func (s *nameServer) ServeDNS(w dns.ResponseWriter, question *dns.Msg) {
	reply := new(dns.Msg).SetReply(question)
	reply.Authoritative, reply.RecursionAvailable = true, true
	q := question.Question[0]
	q.Name = strings.ToLower(q.Name)
	for _, rdata := range s.answer(q) {
		record, err := dns.NewRR(fmt.Sprintf("%s %d IN %s %s", q.Name, ttl, dns.TypeToString[q.Qtype], rdata))
		if err != nil {
			reply.Rcode = dns.RcodeServerFailure
			break
		}
		reply.Answer = append(reply.Answer, record)
	}
	if len(reply.Answer) == 0 {
		s.nothing(reply, q.Name)
	}
	if w.LocalAddr().Network() == "udp" {
		size := dns.MinMsgSize
		if o := question.IsEdns0(); o != nil {
			size = max(size, int(o.UDPSize()))
			reply.SetEdns0(o.UDPSize(), false)
		}
		reply.Truncate(size)
	}
	w.WriteMsg(reply)
}

func (s *nameServer) answer(q dns.Question) []string {
	switch q.Qtype {
	case dns.TypePTR:
		if client, ok := reversedClient(q.Name); ok {
			return []string{nameOf(client)}
		}
	case dns.TypeA:
		if name, ok := strings.CutSuffix(q.Name, "."+publicList+"."); ok && name != "1.0.0.127" { // RFC 5782, 5
			return []string{"127.0.0.2"}
		}
		if client, ok := namedClient(q.Name); ok {
			return []string{client.String()}
		}
	}
	return s.records[q]
}

// nothing says whether the name exists, and for how long that holds (RFC 2308).
func (s *nameServer) nothing(reply *dns.Msg, name string) {
	if !s.exists(name) {
		reply.Rcode = dns.RcodeNameError
	}
	soa, err := dns.NewRR(fmt.Sprintf(". %d IN SOA ns.invalid. hostmaster.invalid. 1 3600 600 86400 %d", ttl, ttl))
	if err == nil {
		reply.Ns = append(reply.Ns, soa)
	}
}

func (s *nameServer) exists(name string) bool {
	if _, ok := namedClient(name); ok {
		return true
	}
	for q := range s.records {
		if q.Name == name || strings.HasSuffix(q.Name, "."+name) {
			return true
		}
	}
	return false
}

const (
	clientDomain  = ".clients.example.net."
	reverseDomain = ".127.in-addr.arpa."
)

// nameOf is the name of a client: 127.0.0.10 is 127-0-0-10.clients.example.net.
func nameOf(client netip.Addr) string {
	return strings.ReplaceAll(client.String(), ".", "-") + clientDomain
}

func namedClient(name string) (netip.Addr, bool) {
	label, ok := strings.CutSuffix(name, clientDomain)
	client, err := netip.ParseAddr(strings.ReplaceAll(label, "-", "."))
	return client, ok && err == nil && client.Is4()
}

func reversedClient(name string) (netip.Addr, bool) {
	labels, ok := strings.CutSuffix(name, reverseDomain)
	octets := strings.Split(labels, ".")
	if !ok || len(octets) != 3 {
		return netip.Addr{}, false
	}
	client, err := netip.ParseAddr("127." + octets[2] + "." + octets[1] + "." + octets[0])
	return client, err == nil
}
