package faulttest

import (
	"fmt"
	"strings"
	"time"

	"gatepost/proxy/backend/backendtest"
)

// dialogue is a session that is broken at every byte. Unbroken it ends as finals says.
type dialogue struct {
	name   string
	setup  setup
	times  int // how often a fault may strike at most
	play   func(c *talk)
	finals []int // of the sendings, in order
}

const known, unknown = "b@example.com", "nobody@example.com"

var (
	text  = "Hello,\r\n.dots\r\n..\r\n\xe4\xf6\r\n\r\nend\r\n"
	large = longText(150 << 10)
)

func longText(size int) string {
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "%s%d line of a large message \xe9\r\n", strings.Repeat(".", i%3), i)
	}
	return b.String()
}

var withoutChunking = []string{"PIPELINING", "SIZE 102400000", "ENHANCEDSTATUSCODES", "8BITMIME"}

func picky(keywords ...string) backendtest.Behaviour {
	return backendtest.Behaviour{Mailboxes: []string{known, "c@example.com", "d@example.com"}, Keywords: keywords}
}

func dialogues() []dialogue {
	one := func(c *talk) {
		c.hello()
		s := c.letter("a", "one", text, known)
		c.envelope(s)
		c.data(s)
		c.quit()
	}
	many := func(c *talk) {
		c.hello()
		s := c.letter("a", "many", text, known, unknown, "c@example.com", "d@example.com")
		c.envelope(s)
		c.data(s)
		c.quit()
	}
	chunks := func(n int) func(c *talk) {
		return func(c *talk) {
			c.hello()
			s := c.letter("a", "chunks", text, known, "c@example.com")
			c.envelope(s)
			if c.err == nil && s.rcpts[0] == 250 {
				c.send(strings.Join(s.chunks(n), ""))
				c.chunkReplies(s, n)
			}
			c.quit()
		}
	}
	return []dialogue{
		{name: "data", play: one, finals: []int{250}},
		{name: "data to data, no reuse", play: one, finals: []int{250}, setup: setup{
			backends: []backendtest.Behaviour{{Keywords: withoutChunking}}, backend: "  reuse: false"}},
		{name: "lock-step backend, proxy header", play: one, finals: []int{250}, setup: setup{
			backends: []backendtest.Behaviour{{Keywords: []string{"SIZE", "8BITMIME"}, LockStep: true, Proxy: backendtest.ProxyV2, XClient: backendtest.XClientNever}},
			backend:  "  client_address: proxy-v2"}},
		{name: "many recipients", play: many, finals: []int{250}, setup: setup{backends: []backendtest.Behaviour{picky(withoutChunking...)}}},
		{name: "bdat", play: chunks(1), finals: []int{250}},
		{name: "bdat in chunks", play: chunks(4), finals: []int{250}, setup: setup{backend: "  client_address: none", backends: []backendtest.Behaviour{{XClient: backendtest.XClientNever}}}},
		{name: "pipelined", finals: []int{250}, setup: setup{backends: []backendtest.Behaviour{picky(withoutChunking...)}}, play: func(c *talk) {
			c.hello()
			s := c.letter("a", "pipelined", text, known, unknown, "c@example.com")
			s.ahead = true
			c.together(s, "DATA\r\n")
			if c.reply("DATA", "354 ") == 354 {
				c.send(s.stuffed() + "QUIT\r\n")
				c.finalReply(s)
				c.bye()
			}
		}},
		{name: "all at once", finals: []int{250, 250}, play: func(c *talk) {
			c.hello()
			first, second := c.letter("a", "first", text, known), c.letter("a", "second", text, "c@example.com")
			second.ahead = true
			c.together(first, strings.Join(first.chunks(2), ""))
			if c.chunkReplies(first, 2); first.final != 250 {
				c.rset()
			}
			c.together(second, second.chunks(1)[0]+"QUIT\r\n")
			c.chunkReplies(second, 1)
			c.bye()
		}},
		{name: "eager", play: one, finals: []int{250}, setup: setup{backend: "  eager: true", backends: []backendtest.Behaviour{{Lenient: true}}}},
		{name: "queue", play: queue, finals: []int{250, 550, 250, 250}, setup: setup{rules: spoiledRule}},
		{name: "queue, eager, no chunking", play: queue, finals: []int{250, 550, 250, 250}, setup: setup{rules: spoiledRule, backend: "  eager: true",
			backends: []backendtest.Behaviour{{Keywords: withoutChunking, Lenient: true}}}},
		{name: "tls", finals: []int{250}, play: func(c *talk) {
			c.hello()
			c.starttls()
			c.ehlo()
			s := c.letter("tagged", "tls", text, known)
			c.together(s, "DATA\r\n")
			if c.reply("DATA", "354 ") == 354 {
				c.send(s.stuffed())
				c.finalReply(s)
			}
			c.quit()
		}},
		{name: "tls to the backend", play: one, finals: []int{250}, setup: setup{
			backends: []backendtest.Behaviour{{TLS: backendTLS()}}, backend: "  tls: required"}},
		{name: "tls on both sides, no reuse", finals: []int{250}, setup: setup{
			backends: []backendtest.Behaviour{{Keywords: withoutChunking, TLS: backendTLS()}}, backend: "  tls: required\n  reuse: false"},
			play: func(c *talk) {
				c.hello()
				c.starttls()
				c.ehlo()
				s := c.letter("a", "tls", text, known, "c@example.com")
				c.envelope(s)
				c.data(s)
				c.quit()
			}},
		{name: "two messages", finals: []int{250, 0, 250}, play: func(c *talk) {
			c.hello()
			for i, recipient := range []string{known, known, "c@example.com"} {
				s := c.letter("a", "several", text, recipient)
				c.envelope(s)
				if i == 1 {
					c.rset()
					continue
				}
				c.data(s)
			}
			c.quit()
		}},
		{name: "greylisted", finals: []int{0, 250}, play: func(c *talk) {
			c.hello()
			grey, plain := c.letter("grey", "grey", text, known), c.letter("a", "plain", text, known)
			c.envelope(grey)
			c.rset()
			c.envelope(plain)
			c.data(plain)
			c.quit()
		}},
		{name: "one of two greylisted", finals: []int{250}, play: func(c *talk) {
			c.hello()
			s := c.letter("a", "both", text, known, "later@example.com")
			c.together(s, "")
			c.data(s)
			c.quit()
		}},
		{name: "refused by rules", finals: []int{0, 550, 250}, play: func(c *talk) {
			c.hello()
			refused, spoiled, plain := c.letter("refused", "x", text, known), c.letter("a", "spoiled", text, known), c.letter("a", "plain", text, known)
			c.envelope(refused)
			c.rset()
			c.envelope(spoiled)
			c.data(spoiled)
			c.envelope(plain)
			c.data(plain)
			c.quit()
		}},
		{name: "large", finals: []int{250}, setup: setup{backends: []backendtest.Behaviour{{Keywords: withoutChunking}}}, play: func(c *talk) {
			c.hello()
			s := c.letter("a", "large", large, known)
			c.envelope(s)
			c.data(s)
			c.quit()
		}},
		{name: "large in chunks", finals: []int{250}, play: func(c *talk) {
			c.hello()
			s := c.letter("a", "large", large, known)
			c.together(s, strings.Join(s.chunks(3), ""))
			c.chunkReplies(s, 3)
			c.quit()
		}},
		{name: "held and replayed", finals: []int{250}, setup: setup{hold: 2 * time.Millisecond, backends: []backendtest.Behaviour{picky()}}, play: held},
		{name: "fail-over", finals: []int{250}, times: 3, play: many, setup: setup{backends: []backendtest.Behaviour{picky(), picky(withoutChunking...)}}},
		{name: "held, and the next backend refuses", finals: []int{250}, times: 2, play: held, setup: setup{hold: 2 * time.Millisecond, backends: []backendtest.Behaviour{
			picky(), {Mailboxes: []string{"c@example.com", "d@example.com"}}}}},
	}
}

// queue is a client with several messages, which sends the next envelope and DATA with the end of each.
func queue(c *talk) {
	c.hello()
	letters := []*sending{c.letter("a", "first", text, known), c.letter("a", "spoiled", text, known), c.letter("a", "third", text, "c@example.com"),
		c.letter("a", "fourth", text, known)}
	c.together(letters[0], "DATA\r\n")
	for i, s := range letters {
		if c.reply("DATA", "354 ") != 354 {
			c.quit()
			return
		}
		if i == len(letters)-1 {
			c.send(s.stuffed())
			c.finalReply(s)
			break
		}
		next := letters[i+1]
		s.ahead = true
		c.send(s.stuffed() + "MAIL FROM:<" + next.sender + ">\r\nRCPT TO:<" + next.recipients[0] + ">\r\nDATA\r\n")
		c.finalReply(s)
		next.mail = c.reply("MAIL", "250 2.1.0")
		next.rcpts[0] = c.recipientReply(next.recipients[0])
	}
	c.quit()
}

// spoiledRule judges messages, and nothing before.
const spoiledRule = `
  - {name: spoiled, when: header("Subject") == "spoiled", then: reject, reply: 550 5.7.1 Spoiled}
`

// held is a client that pauses in the middle of its message.
func held(c *talk) {
	c.hello()
	s := c.letter("a", "slow", text, known, "c@example.com")
	c.together(s, "DATA\r\n")
	if c.reply("DATA", "354 ") != 354 {
		c.quit()
		return
	}
	half := len(s.message) / 2
	c.send(s.stuffed()[:half])
	time.Sleep(5 * time.Millisecond)
	c.send(s.stuffed()[half:])
	c.finalReply(s)
	c.quit()
}
