package sink

import (
	"bytes"
	"strconv"
)

const (
	banner = "220 sink.example.org ESMTP\r\n"
	// probeDomain is where Gatepost asks a backend to relay to, to see it refuse.
	probeDomain = "@gatepost-probe.invalid>"
	maxLine     = 4096
)

type state uint8

const (
	commands state = iota
	data           // between 354 and CRLF.CRLF
	chunk          // in the bytes of a BDAT
	ended          // to be closed when the replies are written
)

// conn is one connection.
type conn struct {
	fd    int
	open  bool
	state state

	greeted    bool // EHLO or HELO was said
	mail       bool // MAIL was taken
	recipients int
	size       int64 // of the message so far

	dot  terminator
	left int64  // bytes of the chunk that are still to come
	last bool   // the chunk ends the message
	line []byte // the part of a command that has come
}

func (c *conn) reset(fd int) { *c = conn{fd: fd, open: true, line: c.line[:0]} }

// hello is the answer to EHLO.
func hello(o Options) string {
	reply := "250-sink.example.org\r\n250-PIPELINING\r\n250-SIZE 0\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n" +
		"250-ENHANCEDSTATUSCODES\r\n"
	if o.Chunking {
		reply += "250-CHUNKING\r\n"
	}
	return reply + "250 XCLIENT NAME ADDR PORT PROTO HELO\r\n"
}

// take deals with bytes that came in; replies are appended to s.out.
func (s *Sink) take(c *conn, p []byte) {
	for len(p) > 0 && c.state != ended {
		switch c.state {
		case data:
			p = s.takeData(c, p)
		case chunk:
			p = s.takeChunk(c, p)
		default:
			p = s.takeLine(c, p)
		}
	}
}

func (s *Sink) takeData(c *conn, p []byte) (rest []byte) {
	n, complete := c.dot.find(p)
	c.size += int64(n)
	if complete {
		c.size -= int64(len(".\r\n"))
		s.finish(c)
	}
	return p[n:]
}

func (s *Sink) takeChunk(c *conn, p []byte) (rest []byte) {
	n := min(int64(len(p)), c.left)
	c.left -= n
	c.size += n
	if c.left == 0 {
		s.chunkEnds(c)
	}
	return p[n:]
}

func (s *Sink) chunkEnds(c *conn) {
	if c.last {
		s.finish(c)
		return
	}
	c.state = commands
	s.say("250 2.0.0 Go on\r\n")
}

func (s *Sink) finish(c *conn) {
	s.messages.Add(1)
	s.bytes.Add(c.size)
	c.state = commands
	c.endTransaction()
	s.say("250 2.0.0 Ok: queued as BENCH\r\n")
}

func (c *conn) endTransaction() { c.mail, c.recipients, c.size = false, 0, 0 }

// takeLine deals with one command, or keeps the part of it that has come.
func (s *Sink) takeLine(c *conn, p []byte) (rest []byte) {
	end := bytes.IndexByte(p, '\n')
	line := p[:end+1]
	if end < 0 {
		line, end = p, len(p)-1
	}
	complete := line[end] == '\n'
	if !complete || len(c.line) > 0 {
		c.line = append(c.line, line...)
		line = c.line
	}
	switch {
	case len(line) > maxLine:
		s.say("500 5.5.2 Line too long\r\n")
		c.state = ended
	case complete:
		s.command(c, line)
		c.line = c.line[:0]
	}
	return p[end+1:]
}

func (s *Sink) command(c *conn, line []byte) {
	line, crlf := bytes.CutSuffix(line, []byte("\r\n"))
	if !crlf {
		s.say("500 5.5.2 Lines end with CRLF\r\n")
		return
	}
	verb, argument, _ := bytes.Cut(line, []byte(" "))
	for i, b := range verb {
		if 'a' <= b && b <= 'z' {
			verb[i] = b - 'a' + 'A'
		}
	}
	switch string(verb) {
	case "EHLO":
		c.greeted = true
		c.endTransaction()
		s.say(s.ehlo)
	case "HELO":
		c.greeted = true
		c.endTransaction()
		s.say("250 sink.example.org\r\n")
	case "XCLIENT":
		s.xclient(c)
	case "MAIL":
		s.mail(c)
	case "RCPT":
		s.rcpt(c, argument)
	case "DATA":
		s.startData(c)
	case "BDAT":
		s.startChunk(c, argument)
	case "RSET":
		c.endTransaction()
		s.say("250 2.0.0 Ok\r\n")
	case "NOOP":
		s.say("250 2.0.0 Ok\r\n")
	case "QUIT":
		s.say("221 2.0.0 Bye\r\n")
		c.state = ended
	default:
		s.say("500 5.5.1 Unknown command\r\n")
	}
}

// xclient starts the session anew, as often as it comes (Postfix does so with smtpd_authorized_xclient_hosts=static:all).
func (s *Sink) xclient(c *conn) {
	if c.mail {
		s.sequence()
		return
	}
	c.greeted = false
	s.say(banner)
}

func (s *Sink) mail(c *conn) {
	if !c.greeted || c.mail {
		s.sequence()
		return
	}
	c.mail = true
	s.say("250 2.1.0 Ok\r\n")
}

func (s *Sink) rcpt(c *conn, argument []byte) {
	switch {
	case !c.mail:
		s.sequence()
	case bytes.Contains(bytes.ToLower(argument), []byte(probeDomain)):
		s.say("550 5.7.1 We do not relay\r\n")
	default:
		c.recipients++
		s.say("250 2.1.5 Ok\r\n")
	}
}

func (s *Sink) startData(c *conn) {
	if c.recipients == 0 || c.size > 0 {
		s.sequence()
		return
	}
	c.state = data
	c.dot.reset()
	s.say("354 End data with <CR><LF>.<CR><LF>\r\n")
}

// startChunk hangs up on what it cannot take: the bytes of the chunk, which nobody can tell from commands, may be on
// their way.
func (s *Sink) startChunk(c *conn, argument []byte) {
	number, word, last := bytes.Cut(argument, []byte(" "))
	size, err := strconv.ParseInt(string(number), 10, 64)
	switch {
	case !s.chunking:
		s.say("500 5.5.1 Unknown command\r\n")
		c.state = ended
		return
	case c.recipients == 0:
		s.sequence()
		c.state = ended
		return
	case err != nil || size < 0 || last && !bytes.EqualFold(word, []byte("LAST")):
		s.say("501 5.5.4 BDAT size [LAST]\r\n")
		c.state = ended
		return
	}
	c.state, c.left, c.last = chunk, size, last
	if size == 0 {
		s.chunkEnds(c)
	}
}

func (s *Sink) sequence() { s.say("503 5.5.1 Bad sequence of commands\r\n") }

func (s *Sink) say(reply string) { s.out = append(s.out, reply...) }
