//go:build mta

package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// mtaClient speaks SMTP as a stranger.
type mtaClient struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

// newMTAClient sends the PROXY header of a client and reads the greeting.
func newMTAClient(t *testing.T, conn net.Conn, header string) *mtaClient {
	t.Helper()
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	c := &mtaClient{t: t, conn: conn, in: bufio.NewReader(conn)}
	c.write(header)
	c.expect("220")
	return c
}

// proxyHeader makes the stranger out of whoever connects.
func proxyHeader(conn net.Conn) string {
	host, port, _ := net.SplitHostPort(conn.RemoteAddr().String())
	return fmt.Sprintf("PROXY TCP4 %s %s 40000 %s\r\n", stranger, host, port)
}

func (c *mtaClient) write(text string) {
	c.t.Helper()
	if _, err := c.conn.Write([]byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

// expect reads one reply, which must start with prefix.
func (c *mtaClient) expect(prefix string) string {
	c.t.Helper()
	var reply []string
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			c.t.Fatalf("want %s, got %q and %v", prefix, reply, err)
		}
		reply = append(reply, strings.TrimRight(line, "\r\n"))
		if len(line) < 4 || line[3] != '-' {
			break
		}
	}
	text := strings.Join(reply, "\n")
	if !strings.HasPrefix(text, prefix) {
		c.t.Fatalf("want %s, got %q", prefix, text)
	}
	return text
}

func (c *mtaClient) raw(bytes, want string) string {
	c.t.Helper()
	c.write(bytes)
	return c.expect(want)
}

func (c *mtaClient) say(line, want string) string {
	c.t.Helper()
	return c.raw(line+"\r\n", want)
}

func (c *mtaClient) transaction(recipient, params string) {
	c.t.Helper()
	c.say("EHLO client.example.net", "250")
	c.say("MAIL FROM:<bob@example.net>"+params, "250")
	c.say("RCPT TO:<"+recipient+">", "250")
}

// message sends body by DATA, dots stuffed.
func (c *mtaClient) message(body, want string) string {
	c.t.Helper()
	c.say("DATA", "354")
	stuffed := strings.ReplaceAll("\n"+body, "\n.", "\n..")[1:]
	return c.raw(stuffed+".\r\n", want)
}

func (c *mtaClient) startTLS() {
	c.t.Helper()
	c.startTLSWith(anyCertificate)
}

func (c *mtaClient) startTLSWith(config *tls.Config) {
	c.t.Helper()
	c.say("EHLO client.example.net", "250")
	c.say("STARTTLS", "220")
	secure := tls.Client(c.conn, config)
	if err := secure.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.conn, c.in = secure, bufio.NewReader(secure)
}

// ready tells whether RCPT is answered by the mail server.
func ready(n *network, address string) bool {
	conn, err := n.dial(address)
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	in := bufio.NewReader(conn)
	for _, step := range []struct{ say, want string }{
		{strings.TrimSpace(proxyHeader(conn)), "220 "},
		{"HELO client.example.net", "250 "}, {"MAIL FROM:<bob@example.net>", "250 "}, {"RCPT TO:<alice@example.org>", "250 "},
	} {
		fmt.Fprintf(conn, "%s\r\n", step.say)
		if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, step.want) {
			return false
		}
	}
	return true
}

// stranger is the client that every test pretends to be.
const stranger = "198.51.100.7"

// strangerName is the confirmed name of the stranger.
const strangerName = "mail.stranger.test"

// serveDNS runs a DNS server that knows the stranger's name, and no other.
func serveDNS(t *testing.T, n *network) string {
	t.Helper()
	var conn net.PacketConn
	var err error
	n.do(func() { conn, err = net.ListenPacket("udp", n.host+":0") })
	if err != nil {
		t.Fatal(err)
	}
	records := map[string]string{
		"7.100.51.198.in-addr.arpa. PTR": strangerName + ".",
		strangerName + ". A":             stranger,
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		var answer dns.Msg
		question := q.Question[0]
		key := question.Name + " " + dns.TypeToString[question.Qtype]
		if value, ok := records[key]; ok {
			answer.SetReply(q)
			rr, err := dns.NewRR(strings.Replace(key, " ", " 60 IN ", 1) + " " + value)
			if err != nil {
				t.Error(err)
			}
			answer.Answer = []dns.RR{rr}
		} else {
			answer.SetRcode(q, dns.RcodeNameError)
		}
		w.WriteMsg(&answer)
	})}
	done := make(chan struct{})
	go func() { defer close(done); server.ActivateAndServe() }()
	t.Cleanup(func() { server.Shutdown(); <-done })
	return conn.LocalAddr().String()
}
