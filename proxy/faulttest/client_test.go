package faulttest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// talk is a scripted client's session. The first thing that goes wrong ends it: what follows does nothing.
type talk struct {
	net.Conn
	r      *bufio.Reader
	ledger *ledger
	name   string // makes reverse-paths of its own
	count  int
	err    error // the connection is of no more use
	breach error // the proxy has broken the protocol
	last   string
	read   []*sending // whose final reply has been read
}

var errSaid421 = errors.New("the server said 421")

// clientPatience is longer than a house without faults ever takes.
const clientPatience = 5 * time.Second

func (h *house) connect(name string) *talk {
	c := &talk{ledger: &h.ledger, name: name}
	if c.Conn, c.err = net.Dial("tcp", h.address); c.err != nil {
		return c
	}
	c.SetDeadline(time.Now().Add(h.work))
	c.r = bufio.NewReader(c.Conn)
	return c
}

func (c *talk) send(text string) {
	if c.err != nil {
		return
	}
	for _, s := range c.read {
		s.followed = true
	}
	_, c.err = c.Write([]byte(text))
}

// reply reads one reply to what was asked. Its code is 0 if none came.
func (c *talk) reply(asked string, want ...string) (code int) {
	var lines []string
	for c.err == nil {
		line, err := c.r.ReadString('\n')
		if err != nil {
			c.err = err
			return 0
		}
		code, err = replyLine(line)
		if err == nil && len(lines) > 0 && lines[0][:3] != line[:3] {
			err = fmt.Errorf("%q after %q", line, lines[0])
		}
		if err != nil {
			c.violated(asked, err.Error())
			return 0
		}
		if lines = append(lines, strings.TrimSuffix(line, "\r\n")); line[3] == ' ' {
			break
		}
	}
	if c.err != nil {
		return 0
	}
	c.last = strings.Join(lines, "\n")
	if code == 421 { // it may have come unasked
		c.err = errSaid421
		return code
	}
	for _, s := range c.read {
		s.heard = s.followed
	}
	for _, prefix := range append(want, "4", "5") {
		if strings.HasPrefix(c.last, prefix) {
			return code
		}
	}
	c.violated(asked, c.last)
	return code
}

func replyLine(line string) (code int, err error) {
	if len(line) < 6 || !strings.HasSuffix(line, "\r\n") || line[3] != ' ' && line[3] != '-' || strings.ContainsAny(line[:len(line)-2], "\r\n\x00") {
		return 0, fmt.Errorf("not a reply: %q", line)
	}
	return strconv.Atoi(line[:3])
}

func (c *talk) violated(asked, got string) {
	if c.breach == nil {
		c.breach = fmt.Errorf("asked %q, got %q", asked, got)
	}
	c.err = c.breach
}

func (c *talk) greeted() { c.reply("greeting", "220 ") }

func (c *talk) hello() {
	c.greeted()
	c.ehlo()
}

func (c *talk) ehlo() {
	c.send("EHLO client.example.org\r\n")
	c.reply("EHLO", "250-mx.test")
}

func (c *talk) starttls() {
	c.send("STARTTLS\r\n")
	if c.reply("STARTTLS", "220 "); c.err != nil {
		return
	}
	over := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
	if c.err = over.Handshake(); c.err == nil {
		c.Conn, c.r = over, bufio.NewReader(over)
	}
}

// letter prepares a sending; kind is the start of its reverse-path, which rules look at.
func (c *talk) letter(kind, subject, body string, recipients ...string) *sending {
	c.count++
	s := &sending{sender: fmt.Sprintf("%s-%s-%d@example.org", kind, c.name, c.count), recipients: recipients, rcpts: make([]int, len(recipients))}
	s.message = fmt.Appendf(nil, "X-Sender: %s\r\nSubject: %s\r\n\r\n%s", s.sender, subject, body)
	c.ledger.expect(s)
	return s
}

func (s *sending) stuffed() string {
	return string(bytes.ReplaceAll(s.message, []byte("\r\n."), []byte("\r\n.."))) + ".\r\n"
}

// envelope says MAIL and RCPT, each alone.
func (c *talk) envelope(s *sending) {
	c.send("MAIL FROM:<" + s.sender + ">\r\n")
	s.mail = c.reply("MAIL", "250 2.1.0")
	for i, recipient := range s.recipients {
		c.send("RCPT TO:<" + recipient + ">\r\n")
		s.rcpts[i] = c.recipientReply(recipient)
	}
}

// recipientReply checks that a refusal is about this recipient.
func (c *talk) recipientReply(recipient string) int {
	code := c.reply("RCPT "+recipient, "250 2.1.5")
	if code == 550 && strings.Contains(c.last, "@") && !strings.Contains(c.last, recipient) {
		c.violated("RCPT "+recipient, c.last)
	}
	return code
}

// data says DATA, and the message if that is wanted. A transaction that comes to nothing is reset, or the next MAIL would
// be nested in it.
func (c *talk) data(s *sending) {
	if !s.accepted() {
		c.rset()
		return
	}
	c.send("DATA\r\n")
	if c.reply("DATA", "354 ") == 354 {
		c.send(s.stuffed())
		c.finalReply(s)
	}
}

func (c *talk) finalReply(s *sending) {
	s.final = c.reply("end of data of "+s.sender, "250 2.0.0 Ok: queued as ")
	if s.final != 0 {
		c.read = append(c.read, s)
	}
	if s.final == 250 {
		_, s.queueID, _ = strings.Cut(c.last, "queued as ")
	}
}

// together says MAIL, RCPT and a last command in one segment and takes the replies.
func (c *talk) together(s *sending, rest string) {
	text := "MAIL FROM:<" + s.sender + ">\r\n"
	for _, recipient := range s.recipients {
		text += "RCPT TO:<" + recipient + ">\r\n"
	}
	c.send(text + rest)
	s.mail = c.reply("MAIL", "250 2.1.0")
	for i, recipient := range s.recipients {
		s.rcpts[i] = c.recipientReply(recipient)
	}
}

// chunks is the message as BDAT, cut into n pieces.
func (s *sending) chunks(n int) (pieces []string) {
	size := (len(s.message) + n - 1) / n
	for i := range n {
		piece := s.message[min(i*size, len(s.message)):min((i+1)*size, len(s.message))]
		last := ""
		if i == n-1 {
			last = " LAST"
		}
		pieces = append(pieces, fmt.Sprintf("BDAT %d%s\r\n%s", len(piece), last, piece))
	}
	return pieces
}

func (c *talk) chunkReplies(s *sending, n int) {
	for range n - 1 {
		if code := c.reply("BDAT", "250 2.0.0 "); code/100 != 2 && code != 0 {
			s.final = code
		}
	}
	if s.final != 0 { // RFC 3030, 2: the message has failed, the chunks behind are refused
		c.reply("BDAT LAST behind a failure")
		return
	}
	c.finalReply(s)
}

func (c *talk) rset() {
	c.send("RSET\r\n")
	c.reply("RSET", "250 2.0.0 Ok")
}

func (c *talk) quit() {
	c.send("QUIT\r\n")
	c.bye()
}

// bye expects the reply to QUIT and nothing behind it.
func (c *talk) bye() {
	if c.reply("QUIT", "221 "); c.err != nil {
		return
	}
	if line, err := c.r.ReadString('\n'); err == nil || line != "" {
		c.violated("nothing more", line)
	}
}

// end closes the connection. What comes behind a 421 is nobody's answer.
func (c *talk) end() {
	if c.Conn == nil {
		return
	}
	if errors.Is(c.err, errSaid421) {
		c.SetReadDeadline(time.Now().Add(time.Second))
		if line, err := c.r.ReadString('\n'); err == nil {
			c.violated("nothing behind 421", line)
		}
	}
	c.Conn.Close()
}
