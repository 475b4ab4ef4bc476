package backendtest

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Session is one connection as the server sees it. The exported fields may be read by Answer and During, and by anybody
// after the server was closed.
type Session struct {
	server *Server
	conn   net.Conn
	r      *bufio.Reader

	Client     netip.AddrPort // as handed over, else the peer
	ClientName string
	Helo       string
	Extended   bool
	Login      string
	TLS        bool
	From       string // of the open transaction; empty: none
	To         []string

	attributes  map[string]string
	message     *Message
	xclientUsed bool
	turnedAway  bool
	nonMail     int // commands in a row that do not belong to a message
	refusals    int

	mu       sync.Mutex // guards all below
	lines    []string
	segments []string
	received int64
	end      error
}

// End is the error that ended the session: io.EOF where the client closed the connection properly; nil as long as it lasts.
func (s *Session) End() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end
}

// Lines is the commands received so far.
func (s *Session) Lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.lines...)
}

// Segments is what came in, read by read.
func (s *Session) Segments() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.segments...)
}

var errEnd = errors.New("end of session")

// over notes that the server ended the session, if the client did not.
func (s *Session) over() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end == nil {
		s.end = errEnd
	}
}

// Read reads from the connection, keeps a copy of the first megabyte, and drops the connection where that is asked for.
func (s *Session) Read(p []byte) (int, error) {
	if limit := s.server.DropAfter; limit > 0 {
		s.mu.Lock()
		left := limit - s.received
		s.mu.Unlock()
		if left <= 0 {
			return 0, errEnd
		}
		p = p[:min(int64(len(p)), left)]
	}
	n, err := s.conn.Read(p)
	s.mu.Lock()
	if s.received < 1<<20 && n > 0 {
		s.segments = append(s.segments, string(p[:n]))
	}
	s.received += int64(n)
	if err != nil && s.end == nil {
		s.end = err
	}
	s.mu.Unlock()
	return n, err
}

// answer writes a reply; it is false when the session is over.
func (s *Session) answer(text string) bool {
	text, hangup := strings.CutSuffix(text, Hangup)
	text, stall := strings.CutSuffix(text, Stall)
	if text == Silence {
		return true
	}
	if s.server.Pause > 0 && strings.HasPrefix(text, "5") {
		select {
		case <-time.After(s.server.Pause << s.refusals):
		case <-s.server.done:
			return false
		}
		s.refusals++
	}
	if text != "" {
		if _, err := s.conn.Write([]byte(text + "\r\n")); err != nil {
			return false
		}
	}
	if stall {
		<-s.server.done
	}
	return !hangup && !stall
}

func (s *Session) run() {
	s.r = bufio.NewReaderSize(s, 64<<10)
	if a, ok := s.conn.RemoteAddr().(*net.TCPAddr); ok {
		s.Client = a.AddrPort()
	}
	if s.server.Proxy != ProxyNone {
		client, ok := readProxyHeader(s.r, s.server.Proxy)
		if !ok {
			s.answer("421 4.3.0 " + s.server.Hostname + " Server local error")
			return
		}
		if client.IsValid() {
			s.Client = client
		}
	}
	if s.turnedAway {
		s.answer(s.server.TooMany + Hangup)
		return
	}
	if !s.greet() {
		return
	}
	for {
		line, err := s.r.ReadString('\n')
		if err != nil && (line == "" || !s.server.RunsPartialLine) {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		s.mu.Lock()
		s.lines = append(s.lines, line)
		s.mu.Unlock()
		if s.server.LockStep && s.r.Buffered() > 0 {
			s.answer("500 5.5.0 Invalid command: Pipelining not supported" + Hangup)
			return
		}
		if !s.mayFollow(line) {
			s.answer("554 5.5.0 Error: SMTP protocol synchronization" + Hangup)
			return
		}
		if s.tooMuch(line) {
			s.answer("554 Too many nonmail commands" + Hangup)
			return
		}
		if !s.command(line) || err != nil {
			return
		}
	}
}

// lastInGroup is the commands behind which a client must wait (RFC 2920, 3.1), as Postfix has them.
var lastInGroup = []string{"HELO", "EHLO", "XCLIENT", "STARTTLS", "NOOP", "VRFY", "EXPN", "DATA", "QUIT"}

// mayFollow tells whether what stands behind the line may stand there.
func (s *Session) mayFollow(line string) bool {
	verb, _, _ := strings.Cut(line, " ")
	if s.r.Buffered() == 0 || !containsFold(lastInGroup, verb) {
		return true
	}
	behind, _ := s.r.Peek(s.r.Buffered())
	s.server.mu.Lock()
	s.server.wrong = append(s.server.wrong, fmt.Sprintf("improper command pipelining after %s: %.200q", verb, behind))
	s.server.mu.Unlock()
	return s.server.Lenient
}

// tooMuch counts commands that do not belong to a message.
func (s *Session) tooMuch(line string) bool {
	verb, _, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "MAIL", "RCPT", "DATA", "BDAT", "STARTTLS", "XCLIENT", "QUIT":
		return false
	}
	s.nonMail++
	return s.server.MaxNonMail > 0 && s.nonMail > s.server.MaxNonMail+2
}

func (s *Session) greet() bool {
	if s.server.Greeting != "" {
		return s.answer(s.server.Greeting)
	}
	return s.answer("220 " + s.server.Hostname + " ESMTP")
}

// command deals with one line; it is false when the session is over.
func (s *Session) command(line string) bool {
	if s.server.Answer != nil {
		if text := s.server.Answer(s, line); text != "" {
			return s.answer(text)
		}
	}
	verb, arg, _ := strings.Cut(line, " ")
	switch verb = strings.ToUpper(verb); {
	case verb == "EHLO" || verb == "HELO":
		return s.hello(verb, arg)
	case verb == "STARTTLS" && s.server.TLS != nil && !s.TLS:
		return s.startTLS()
	case verb == "XCLIENT" && s.takesXclient():
		return s.xclient(arg)
	case verb == "MAIL":
		return s.mail(arg)
	case verb == "RCPT":
		return s.rcpt(arg)
	case verb == "DATA":
		return s.data()
	case verb == "BDAT" && s.offers("CHUNKING"):
		return s.bdat(arg)
	case verb == "RSET":
		s.reset()
		return s.answer("250 2.0.0 Ok")
	case verb == "NOOP":
		return s.answer("250 2.0.0 Ok")
	case verb == "VRFY":
		return s.answer("252 2.0.0 " + arg)
	case verb == "QUIT":
		return s.answer("221 2.0.0 Bye" + Hangup)
	case verb == "XCLIENT" && s.server.XClient != XClientNever:
		return s.answer("550 5.7.0 Error: insufficient authorization")
	}
	return s.answer("502 5.5.2 Error: command not recognized")
}

func (s *Session) reset() {
	s.From, s.To, s.message = "", nil, nil
}

func (s *Session) offers(keyword string) bool {
	for _, k := range s.server.Keywords {
		name, _, _ := strings.Cut(k, " ")
		if name == keyword {
			return true
		}
	}
	return false
}

func (s *Session) hello(verb, name string) bool {
	if s.server.OneHello && s.Helo != "" {
		return s.answer("503 5.5.1 Invalid command: Already identified")
	}
	s.reset()
	s.Helo, s.Extended = name, verb == "EHLO"
	if !s.Extended {
		return s.answer("250 " + s.server.Hostname)
	}
	lines := append([]string{s.server.Hostname}, s.server.Keywords...)
	if s.server.TLS != nil && !s.TLS {
		lines = append(lines, "STARTTLS")
	}
	if s.takesXclient() {
		lines = append(lines, "XCLIENT NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT")
	}
	last := len(lines) - 1
	var b strings.Builder
	for _, line := range lines[:last] {
		b.WriteString("250-" + line + "\r\n")
	}
	return s.answer(b.String() + "250 " + lines[last])
}

func (s *Session) startTLS() bool {
	if !s.answer("220 2.0.0 Ready to start TLS") {
		return false
	}
	secured := tls.Server(s.conn, s.server.TLS)
	if err := secured.Handshake(); err != nil {
		return false
	}
	s.conn, s.TLS, s.Helo = secured, true, ""
	s.r.Reset(s)
	s.reset()
	return true
}
