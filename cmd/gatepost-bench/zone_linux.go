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
	udp     *net.UDPConn
	tcp     *dns.Server
	serving sync.WaitGroup
	records map[dns.Question][]dns.RR
	nothing dns.RR // SOA, says for how long it may be remembered that there is nothing (RFC 2308)
}

// startNameServer listens on one port of 127.0.0.1, UDP and TCP.
func startNameServer(keyRecord string) (*nameServer, error) {
	s := &nameServer{records: map[dns.Question][]dns.RR{}}
	s.nothing = mustRecord(fmt.Sprintf(". %d IN SOA ns.invalid. hostmaster.invalid. 1 3600 600 86400 %d", ttl, ttl))
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
	s.records[q] = append(s.records[q], mustRecord(fmt.Sprintf("%s %d IN %s %s", name, ttl, dns.TypeToString[kind], rdata)))
}

// mustRecord reads one of our own records.
func mustRecord(line string) dns.RR {
	record, err := dns.NewRR(line)
	if err != nil {
		panic(err)
	}
	return record
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
	if s.udp, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr)); err != nil {
		return err
	}
	stream, err := net.Listen("tcp", addr.String())
	if err != nil {
		s.udp.Close()
		return err
	}
	ready := make(chan struct{})
	s.tcp = &dns.Server{Listener: stream, Handler: s, NotifyStartedFunc: func() { close(ready) }}
	s.serving.Go(s.serveUDP)
	s.serving.Go(func() { s.tcp.ActivateAndServe() })
	select { // a shutdown that overtakes the start would find nothing to stop
	case <-ready:
		return nil
	case <-time.After(10 * time.Second):
		return fmt.Errorf("the DNS server on %s does not start", addr)
	}
}

func (s *nameServer) addr() string { return s.udp.LocalAddr().String() }

func (s *nameServer) close() {
	s.udp.Close()
	s.tcp.Shutdown()
	s.serving.Wait()
}

// serveUDP answers one question after the other. A dns.Server has a goroutine and a deadline for each, and takes as much
// processor time as the proxy that asks. It never returns from its callback with true: see datagrams_linux.go.
func (s *nameServer) serveUDP() {
	raw, err := s.udp.SyscallConn()
	if err != nil {
		return
	}
	room := make([]byte, 4096)
	raw.Read(func(fd uintptr) bool {
		for {
			n, from, errno := receive(fd, room)
			if errno != 0 {
				return false // until the socket is closed
			}
			if packed := s.packed(room[:n], room); packed != nil {
				send(fd, packed, &from)
			}
		}
	})
}

// packed is the reply to a question, in room if it fits; nil for what is none.
func (s *nameServer) packed(message, room []byte) []byte {
	var question dns.Msg
	if question.Unpack(message) != nil || len(question.Question) != 1 {
		return nil
	}
	reply := s.reply(&question)
	size := dns.MinMsgSize
	if o := question.IsEdns0(); o != nil {
		size = max(size, int(o.UDPSize()))
		reply.SetEdns0(o.UDPSize(), false)
	}
	reply.Truncate(size)
	packed, err := reply.PackBuffer(room)
	if err != nil {
		return nil
	}
	return packed
}

// ServeDNS implements [dns.Handler], over TCP.
func (s *nameServer) ServeDNS(w dns.ResponseWriter, question *dns.Msg) { w.WriteMsg(s.reply(question)) }

func (s *nameServer) reply(question *dns.Msg) *dns.Msg {
	reply := new(dns.Msg).SetReply(question)
	reply.Authoritative, reply.RecursionAvailable = true, true
	q := question.Question[0]
	q.Name = strings.ToLower(q.Name)
	if reply.Answer = s.answer(q); len(reply.Answer) == 0 {
		if !s.exists(q.Name) {
			reply.Rcode = dns.RcodeNameError
		}
		reply.Ns = []dns.RR{s.nothing}
	}
	return reply
}

func (s *nameServer) answer(q dns.Question) []dns.RR {
	header := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: ttl}
	switch q.Qtype {
	case dns.TypePTR:
		if client, ok := reversedClient(q.Name); ok {
			return []dns.RR{&dns.PTR{Hdr: header, Ptr: nameOf(client)}}
		}
	case dns.TypeA:
		if name, ok := strings.CutSuffix(q.Name, "."+publicList+"."); ok && name != "1.0.0.127" { // RFC 5782, 5
			return []dns.RR{&dns.A{Hdr: header, A: net.IPv4(127, 0, 0, 2)}}
		}
		if client, ok := namedClient(q.Name); ok {
			return []dns.RR{&dns.A{Hdr: header, A: client.AsSlice()}}
		}
	}
	return s.records[q]
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
