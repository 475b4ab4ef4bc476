package backend

import (
	"bytes"
	"context"
	"io"
	"net"
	"strconv"
	"testing"
	"time"

	"gatepost/proxy/backend/backendtest"
)

// canned is a connection that answers every write with the same bytes.
type canned struct {
	net.Conn
	reply   []byte
	pending []byte
	written int
}

func (c *canned) Write(p []byte) (int, error) {
	c.written++
	c.pending = c.reply
	return len(p), nil
}

func (c *canned) Read(p []byte) (int, error) {
	n := copy(p, c.pending)
	c.pending = c.pending[n:]
	return n, nil
}

func (c *canned) Close() error                     { return nil }
func (c *canned) SetDeadline(time.Time) error      { return nil }
func (c *canned) SetReadDeadline(time.Time) error  { return nil }
func (c *canned) SetWriteDeadline(time.Time) error { return nil }

// rewinding is a body that can be sent again and again.
type rewinding []byte

func (r rewinding) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(r)
	return int64(n), err
}

// An eager transaction on a kept connection costs two writes, and allocates for little more than the texts of the replies.
func TestTransactionIsCheap(t *testing.T) {
	g, _ := newGroup(t, func(c *Config) { c.Address, c.Eager = []string{"127.0.0.1:1"}, true })
	nc := &canned{}
	link := newLink(nc)
	link.ext = parseExtensions(mustReply(t, ehloReply), g.config.Extensions)
	s := g.servers[0]
	s.learn(&knowledge{extensions: link.ext, offered: link.ext.XClient, seen: s.clock.Now()})
	link.idleSince = time.Now()
	s.pool.open = 1
	s.pool.put(link)

	client, ctx := testClient(), context.Background()
	lines := [][]byte{[]byte("MAIL FROM:<a@example.org> SIZE=4096 BODY=8BITMIME"), []byte("RCPT TO:<b@example.net>")}
	parts := Parts{Prepend: []byte("Received: x\r\n"), Body: rewinding(bytes.Repeat([]byte("x"), 4096)), Size: 13 + 4096}
	greeted := []byte("220 backend.test ESMTP\r\n" + ehloReply + "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n")
	queued := []byte("250 2.0.0 Ok: queued as 4BqX6L0zZ9\r\n")
	transaction := func() {
		nc.reply = greeted
		c, err := g.Dial(ctx, client)
		if err != nil || !c.kept {
			t.Fatal(err)
		}
		for _, line := range lines {
			c.Queue(line)
		}
		for range lines {
			if r, err := c.Reply(ctx); err != nil || r.Code != 250 {
				t.Fatal(r, err)
			}
		}
		nc.reply = queued
		if r, _, err := c.SendMessage(ctx, parts, 0); err != nil || r.Code != 250 {
			t.Fatal(r, err)
		}
		link.uses = 0
		c.Release()
	}
	allocs := testing.AllocsPerRun(200, transaction)
	if nc.written != 2*201 {
		t.Errorf("%d writes in 201 transactions", nc.written)
	}
	t.Logf("%.0f allocations", allocs)
	if allocs > 24 {
		t.Errorf("%.0f allocations, 24 were enough", allocs)
	}
}

func BenchmarkTransaction(b *testing.B) {
	for _, test := range []struct {
		name   string
		change func(*Config)
		server backendtest.Behaviour
	}{
		{"kept XCLIENT BDAT", nil, backendtest.Behaviour{}},
		{"kept XCLIENT DATA", nil, backendtest.Behaviour{Keywords: dataKeywords}},
		{"new XCLIENT BDAT", func(c *Config) { c.Reuse = false }, backendtest.Behaviour{}},
		{"new PROXY v2 BDAT", func(c *Config) { c.ClientAddress = ProxyV2 }, backendtest.Behaviour{Proxy: backendtest.ProxyV2}},
	} {
		for _, size := range []int{4 << 10, 1 << 20} {
			b.Run(test.name+" "+strconv.Itoa(size>>10)+"KiB", func(b *testing.B) {
				test.server.Deliver = func(*backendtest.Message) error { return nil }
				g, _ := newGroup(b, test.change, start(b, test.server))
				parts := Parts{Body: rewinding(bytes.Repeat([]byte("0123456789abcde\r\n"), size/17)), Size: int64(size / 17 * 17)}
				ctx, client := context.Background(), testClient()
				b.ReportAllocs()
				b.SetBytes(parts.Size)
				for b.Loop() {
					c, err := g.Dial(ctx, client)
					if err != nil {
						b.Fatal(err)
					}
					c.Queue([]byte("MAIL FROM:<a@example.org>"))
					c.Queue([]byte("RCPT TO:<b@example.net>"))
					for range 2 {
						if _, err := c.Reply(ctx); err != nil {
							b.Fatal(err)
						}
					}
					if _, _, err := c.SendMessage(ctx, parts, 0); err != nil {
						b.Fatal(err)
					}
					c.Release()
				}
			})
		}
	}
}
