package demo

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"gatepost/proxy/wire"
)

// sessionTime bounds one session of the demo.
const sessionTime = 30 * time.Second

// player plays one SMTP session and prints it.
type player struct {
	paper   *Paper
	conn    net.Conn
	in      *bufio.Reader
	replies []wire.Reply
	err     error // the first; what follows does nothing
}

// connect opens a session. A client other than the demo's own machine is given by XCLIENT, after the greeting.
func connect(paper *Paper, address string) *player {
	p := &player{paper: paper}
	p.conn, p.err = net.DialTimeout("tcp", address, 5*time.Second)
	if p.err == nil {
		p.err = p.conn.SetDeadline(time.Now().Add(sessionTime))
		p.in = bufio.NewReader(p.conn)
	}
	return p
}

// as opens a session in which the client is somebody else.
func as(paper *Paper, address, client string) *player {
	p := connect(paper, address)
	p.read()
	p.say("XCLIENT ADDR=" + client)
	return p
}

func (p *player) close() {
	if p.conn != nil {
		p.conn.Close()
	}
}

// say sends a line and reads the reply.
func (p *player) say(line string) wire.Reply {
	p.send(line)
	return p.read()
}

func (p *player) send(line string) {
	if p.err != nil {
		return
	}
	p.paper.Client(line)
	_, p.err = io.WriteString(p.conn, line+"\r\n")
}

// body sends message bytes as they are, and shows them with what is invisible spelled out.
func (p *player) body(text string) {
	if p.err != nil {
		return
	}
	for line := range strings.SplitAfterSeq(strings.TrimSuffix(text, "\r\n"), "\n") {
		shown := strings.TrimSuffix(line, "\r\n")
		p.paper.Client(strings.NewReplacer("\n", "<LF>", "\r", "<CR>").Replace(shown))
	}
	_, p.err = io.WriteString(p.conn, text)
}

func (p *player) read() wire.Reply {
	if p.err != nil {
		return wire.Reply{}
	}
	var raw []byte
	for {
		line, err := p.in.ReadBytes('\n')
		if err != nil {
			p.err = fmt.Errorf("no reply: %w", err)
			return wire.Reply{}
		}
		raw = append(raw, line...)
		r, _, err := wire.ParseReply(raw, 4096, 100)
		if err == wire.ErrIncomplete {
			continue
		}
		if err != nil {
			p.err = err
			return wire.Reply{}
		}
		for line := range strings.Lines(string(raw)) {
			p.paper.Server(strings.TrimRight(line, "\r\n"))
		}
		p.replies = append(p.replies, r)
		return r
	}
}

// transaction goes as far as the reply to the end of data. It returns the reply that ended it.
func (p *player) transaction(from, to, message string) wire.Reply {
	for _, line := range []string{"MAIL FROM:<" + from + ">", "RCPT TO:<" + to + ">", "DATA"} {
		if r := p.say(line); r.Class() > 3 || p.err != nil {
			return r
		}
	}
	p.body(message)
	p.send(".")
	return p.read()
}
