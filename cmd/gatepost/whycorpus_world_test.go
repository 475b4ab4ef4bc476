package main

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"gatepost/filters/filtertest"
	"gatepost/proxy/backend/backendtest"
)

// senders knows whose transaction a session of the backend is in, also when its end is answered.
type senders struct {
	mu        sync.Mutex // guards bySession
	bySession map[*backendtest.Session]string
}

func (s *senders) of(session *backendtest.Session, line string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if path, ok := strings.CutPrefix(line, "MAIL FROM:<"); ok {
		s.bySession[session], _, _ = strings.Cut(path, ">")
	}
	return s.bySession[session]
}

// serveZone is a DNS server for a zone and its faults.
func serveZone(t *testing.T, text string) (address string) {
	t.Helper()
	zone, err := filtertest.ParseZone([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		if m := zoneAnswer(zone, q); m != nil {
			w.WriteMsg(m)
		}
	})}
	done := make(chan struct{})
	go func() { defer close(done); server.ActivateAndServe() }()
	t.Cleanup(func() { server.Shutdown(); <-done })
	return conn.LocalAddr().String()
}

// zoneAnswer is nil where the server stays silent.
func zoneAnswer(zone *filtertest.Zone, q *dns.Msg) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q)
	question := q.Question[0]
	records, exists := zone.Find(strings.ToLower(strings.TrimSuffix(question.Name, ".")))
	if !exists {
		return m.SetRcode(q, dns.RcodeNameError)
	}
	for _, r := range records {
		value := r.Value
		switch r.Type {
		case filtertest.Timeout, filtertest.Silent:
			return nil
		case filtertest.ServFail:
			return m.SetRcode(q, dns.RcodeServerFailure)
		case dns.TypeToString[question.Qtype]:
		default:
			continue
		}
		switch r.Type {
		case "TXT":
			value = fmt.Sprintf("%q", value)
		case "MX":
			value = fmt.Sprintf("%d %s", r.Preference, value)
		}
		if rr, err := dns.NewRR(fmt.Sprintf("%s 60 IN %s %s", question.Name, r.Type, value)); err == nil {
			m.Answer = append(m.Answer, rr)
		}
	}
	return m
}

// corpusClient is the client's side of one connection.
type corpusClient struct {
	session *corpusSession
	conn    net.Conn
	in      *bufio.Reader
	gone    bool
}

func dialCorpus(s *corpusSession) *corpusClient {
	conn, err := net.Dial("tcp", s.site.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	c := &corpusClient{session: s, conn: conn, in: bufio.NewReader(conn)}
	c.send("PROXY TCP4 " + s.client + " 203.0.113.25 40000 25\r\n")
	return c
}

func (c *corpusClient) send(text string) {
	if _, err := c.conn.Write([]byte(text)); err != nil {
		c.session.fatalf("%v", err)
	}
}

// reply reads one, with all its lines; empty at the end of the connection.
func (c *corpusClient) reply() (all, last string) {
	for {
		line, err := c.in.ReadString('\n')
		if err != nil && line == "" && all == "" {
			return "", ""
		}
		if err != nil {
			c.session.fatalf("%q, %v", all+line, err)
		}
		all += line
		if len(line) < 4 || line[3] != '-' {
			return all, line
		}
	}
}

func (c *corpusClient) end() {
	if !c.gone {
		c.gone = true
		c.conn.Close()
	}
}
