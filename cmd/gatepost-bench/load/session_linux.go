package load

import (
	"bytes"
	"fmt"
	"time"
)

// maxReplyLine bounds a line of a reply. RFC 5321, 4.5.3.1.5 allows 512 bytes; proxies pass on what they get.
const maxReplyLine = 4096

// conn is one session.
type conn struct {
	fd   int
	open bool

	step, reply int // what is awaited
	unsent      []byte
	blocked     bool // unsent waits for room in the socket
	line        []byte
	// begun holds when the transactions began whose end is awaited: a pipelining client begins the next one with the
	// content of the one before.
	begun  [2]time.Time
	nbegun int
}

func (c *conn) begin(now time.Time) {
	c.begun[c.nbegun] = now
	c.nbegun++
}

// took returns how long the oldest transaction has taken, and forgets it.
func (c *conn) took(now time.Time) time.Duration {
	d := now.Sub(c.begun[0])
	c.begun[0] = c.begun[1]
	c.nbegun--
	return d
}

// awaited names what the server has to answer.
func (g *generator) awaited(c *conn) string {
	return g.Script.Steps[c.step].Replies[c.reply].To
}

// take deals with bytes of the server.
func (g *generator) take(c *conn, p []byte) {
	for len(p) > 0 && c.open {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			if c.line = append(c.line, p...); len(c.line) > maxReplyLine {
				g.fail(c, g.awaited(c)+": a line without end")
			}
			return
		}
		line := p[:end+1]
		if len(c.line) > 0 {
			c.line = append(c.line, line...)
			line = c.line
		}
		p = p[end+1:]
		g.takeLine(c, line, len(p) > 0)
		c.line = c.line[:0]
	}
}

// takeLine deals with a line of a reply. more tells that bytes follow it.
func (g *generator) takeLine(c *conn, line []byte, more bool) {
	code, last, ok := parseLine(line)
	step := &g.Script.Steps[c.step]
	want := step.Replies[c.reply]
	switch {
	case !ok || code != want.Code:
		g.fail(c, fmt.Sprintf("%s: %s", want.To, bytes.TrimRight(line, "\r\n")))
		return
	case !last:
		return
	case want.Ends:
		g.succeeded(c)
	}
	if c.reply++; c.reply < len(step.Replies) {
		return
	}
	c.step, c.reply = c.step+1, 0
	switch {
	case more:
		c.step, c.reply = c.step-1, len(step.Replies)-1
		g.fail(c, "a reply that nobody asked for after that to "+want.To)
	case c.step == len(g.Script.Steps):
		g.hangUp(c)
	default:
		g.send(c, &g.Script.Steps[c.step])
	}
}

func (g *generator) succeeded(c *conn) {
	d := c.took(g.now)
	g.result.All++
	if g.now.Before(g.end) {
		g.result.InTime++
		g.result.Latency.Add(d)
	}
}

// parseLine reads the code of a reply's line and whether it is the last one.
func parseLine(line []byte) (code int, last, ok bool) {
	if len(line) < len("250\r\n") || !bytes.HasSuffix(line, []byte("\r\n")) {
		return 0, false, false
	}
	for _, digit := range line[:3] {
		if digit < '0' || digit > '9' {
			return 0, false, false
		}
		code = code*10 + int(digit-'0')
	}
	switch line[3] {
	case ' ', '\r':
		return code, true, true
	case '-':
		return code, false, true
	}
	return 0, false, false
}
