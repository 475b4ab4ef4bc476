package calledtest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/proxy/backend/backendtest"
)

// Asker is how an MTA asks the front end under test about one of its clients. Its methods are called in the order of the
// dialogue.
type Asker interface {
	Connect() (Answer, error)
	Helo(verb, name string) (Answer, error)
	Mail(path string, params []string) (Answer, error)
	Rcpt(path string, params []string) (Answer, error)
	// Rejected tells of a recipient that the MTA has refused itself, where the front end wants to hear of those.
	Rejected(path string, params []string, status, text string) error
	Data() (Answer, error)
	// Message returns what becomes of a message where nothing is against it: as edited, or nil where the MTA shall
	// neither refuse nor deliver it.
	Message(text []byte) (a Answer, edited []byte, err error)
	// Reset tells that a transaction has ended without a message.
	Reset() error
	Quit() error
}

// Answer is what the front end says to a command. The zero value lets the MTA go on.
type Answer struct {
	Reply string // of a refusal, its lines with CRLF between them
}

// QueueID is the MTA's name for every message.
const QueueID = "4XQID"

// MTA asks a front end in the order in which Postfix does: its own checks first. Those, and the mail that it takes, are
// those of a backendtest.Server behind it.
type MTA struct {
	Ask     func() (Asker, error) // for each of its clients
	Behind  *backendtest.Server
	Domains []string // that it takes mail for; empty: all
	Trusted bool     // its clients may send anywhere

	socket  net.Listener
	serving sync.WaitGroup
}

// Start listens until Stop, and returns the address.
func (m *MTA) Start(t testing.TB) string {
	t.Helper()
	var err error
	if m.socket, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	m.serving.Go(func() {
		for {
			c, err := m.socket.Accept()
			if err != nil {
				return
			}
			m.serving.Go(func() {
				defer c.Close()
				s := &mtaSession{mta: m, conn: c, in: bufio.NewReader(c)}
				if err := s.run(); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, errClosing) {
					t.Errorf("the MTA: %v", err)
				}
			})
		}
	})
	t.Cleanup(m.Stop)
	return m.socket.Addr().String()
}

// Stop waits until its clients have left.
func (m *MTA) Stop() {
	m.socket.Close()
	m.serving.Wait()
}

// mtaSession is one client of the MTA.
type mtaSession struct {
	mta     *MTA
	conn    net.Conn
	in      *bufio.Reader
	asker   Asker
	behind  net.Conn
	replies *bufio.Reader
	mail    string   // the line of MAIL; empty: no transaction
	rcpts   []string // the lines of those who were taken
	chunked bool     // BDAT has begun
	chunks  []byte
}

var errClosing = errors.New("the MTA closes the connection")

func (s *mtaSession) run() (err error) {
	if s.asker, err = s.mta.Ask(); err != nil {
		return err
	}
	defer func() {
		s.asker.Reset()
		if quit := s.asker.Quit(); err == nil || errors.Is(err, errClosing) {
			err = quit
		}
	}()
	if s.behind, err = net.Dial("tcp", s.mta.Behind.Address()); err != nil {
		return err
	}
	defer s.behind.Close()
	s.behind.SetDeadline(time.Now().Add(patience))
	s.replies = bufio.NewReader(s.behind)
	if greeting, err := s.own(""); err != nil || greeting[0] != '2' {
		return errors.Join(err, s.say(greeting))
	}
	a, err := s.asker.Connect()
	greeting := "220 mx.test ESMTP"
	if a.Reply != "" { // Postfix's words
		greeting = map[byte]string{'4': "421 mx.test Service unavailable", '5': "554 mx.test ESMTP not accepting connections"}[a.Reply[0]]
	}
	if err != nil || s.say(greeting) != nil {
		return err
	}
	return s.obey(a.Reply != "")
}

// obey takes commands until the connection ends.
func (s *mtaSession) obey(refused bool) error {
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			return err
		}
		reply, err := s.command(strings.TrimSuffix(line, "\r\n"), refused)
		if err != nil {
			return err
		}
		if err := s.say(reply); err != nil {
			return err
		}
		if strings.HasPrefix(reply, "421") || strings.HasPrefix(reply, "221") {
			return errClosing
		}
	}
}

func (s *mtaSession) say(reply string) error {
	_, err := s.conn.Write([]byte(reply + "\r\n"))
	return err
}

// own asks the MTA's own checks.
func (s *mtaSession) own(line string) (string, error) {
	if line != "" {
		if _, err := s.behind.Write([]byte(line + "\r\n")); err != nil {
			return "", err
		}
	}
	return ReadReply(s.replies)
}

func (s *mtaSession) command(line string, refused bool) (string, error) {
	verb, arg, _ := strings.Cut(line, " ")
	switch verb = strings.ToUpper(verb); {
	case verb == "QUIT" && arg == "":
		return "221 2.0.0 Bye", nil
	case refused:
		return "503 5.5.0 Error: access denied", nil
	case verb == "BDAT":
		return s.bdat(arg)
	case s.chunked && slices.Contains([]string{"MAIL", "RCPT", "DATA"}, verb):
		return "503 5.5.1 Error: " + verb + " after BDAT", nil
	case verb == "EHLO" || verb == "HELO":
		return s.checked(line, func() (Answer, error) {
			s.end()
			return s.asker.Helo(verb, arg)
		})
	case verb == "MAIL":
		path, params := arguments(arg, "FROM:")
		reply, err := s.checked(line, func() (Answer, error) { return s.asker.Mail(path, params) })
		if err == nil && reply[0] == '2' {
			s.mail, s.rcpts = line, nil
		}
		return reply, err
	case verb == "RCPT" && s.mail != "":
		return s.rcpt(line, arg)
	case verb == "DATA" && s.mail != "":
		return s.data()
	case verb == "RSET" && arg == "":
		s.end()
		return "250 2.0.0 Ok", nil
	}
	return s.own(line)
}

// end ends the transaction, whatever it has come to.
func (s *mtaSession) end() {
	if s.mail != "" {
		s.own("RSET")
	}
	s.mail, s.rcpts, s.chunks, s.chunked = "", nil, nil, false
	s.asker.Reset()
}

// checked asks the MTA's own checks, then the front end.
func (s *mtaSession) checked(line string, ask func() (Answer, error)) (string, error) {
	reply, err := s.own(line)
	if err != nil || reply[0] != '2' {
		return reply, err
	}
	a, err := ask()
	if a.Reply != "" {
		if strings.HasPrefix(line, "MAIL") {
			s.own("RSET")
		}
		return a.Reply, err
	}
	return reply, err
}

func arguments(arg, keyword string) (path string, params []string) {
	words := strings.Fields(strings.TrimSpace(arg[min(len(keyword), len(arg)):]))
	if len(words) == 0 {
		return "", nil
	}
	return words[0], words[1:]
}

func (s *mtaSession) rcpt(line, arg string) (string, error) {
	path, params := arguments(arg, "TO:")
	if _, domain, _ := strings.Cut(strings.Trim(path, "<>"), "@"); len(s.mta.Domains) > 0 && !s.mta.Trusted && !slices.Contains(s.mta.Domains, domain) {
		return "550 5.7.1 Relay access denied", s.asker.Rejected(path, params, "5.7.1", "Relay access denied")
	}
	reply, err := s.own(line)
	if err != nil || reply[0] != '2' {
		status, text, _ := strings.Cut(reply[min(4, len(reply)):], " ")
		if err != nil || reply[:3] == "501" || reply[:3] == "421" { // no recipient, or the end of all
			return reply, err
		}
		return reply, s.asker.Rejected(path, params, status, text)
	}
	a, err := s.asker.Rcpt(path, params)
	if a.Reply != "" {
		return a.Reply, err
	}
	s.rcpts = append(s.rcpts, line)
	return reply, err
}

const noRecipients = "554 5.5.1 Error: no valid recipients"

func (s *mtaSession) data() (string, error) {
	if len(s.rcpts) == 0 {
		return noRecipients, nil
	}
	if reply, err := s.announce(); reply != "" || err != nil {
		return reply, err
	}
	if err := s.say("354 End data with <CR><LF>.<CR><LF>"); err != nil {
		return "", err
	}
	var text []byte
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			return "", err
		}
		if line == ".\r\n" {
			return s.finish(text)
		}
		text = append(text, strings.TrimPrefix(line, ".")...)
	}
}

// announce asks about DATA.
func (s *mtaSession) announce() (string, error) {
	a, err := s.asker.Data()
	if a.Reply != "" && err == nil {
		s.end()
	}
	return a.Reply, err
}

// bdat takes a chunk (RFC 3030), also where it belongs to nothing.
func (s *mtaSession) bdat(arg string) (string, error) {
	count, last, _ := strings.Cut(arg, " ")
	n, err := strconv.Atoi(count)
	if err != nil || last != "" && last != "LAST" {
		s.say("501 5.5.4 Syntax: BDAT count [LAST]")
		return "", errClosing
	}
	chunk := make([]byte, n)
	if _, err := io.ReadFull(s.in, chunk); err != nil {
		return "", err
	}
	switch {
	case s.mail == "":
		return "503 5.5.1 Error: need MAIL command", nil
	case len(s.rcpts) == 0:
		return noRecipients, nil
	case !s.chunked:
		if reply, err := s.announce(); reply != "" || err != nil {
			return reply, err
		}
		s.chunked = true
	}
	s.chunks = append(s.chunks, chunk...)
	if last == "" {
		return fmt.Sprintf("250 2.0.0 Ok: %d bytes", n), nil
	}
	return s.finish(s.chunks)
}

// finish asks about the message, and hands what passes to the server behind, as it was edited. That has heard of
// recipients whom the front end has refused, so it hears everything anew.
func (s *mtaSession) finish(text []byte) (string, error) {
	// A line ends with LF, whatever stands before it: as Postfix has it.
	text = bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	a, text, err := s.asker.Message(text)
	if err != nil {
		return "", err
	}
	mail, rcpts := s.mail, s.rcpts
	defer s.end()
	switch {
	case a.Reply != "":
		return a.Reply, nil
	case text == nil:
		return "250 2.0.0 Ok: queued as " + QueueID, nil
	}
	for _, line := range append([]string{"RSET", mail}, rcpts...) {
		if reply, err := s.own(line); err != nil || reply[0] != '2' {
			return reply, err
		}
	}
	return s.own(fmt.Sprintf("BDAT %d LAST\r\n%s", len(text), strings.TrimSuffix(string(text), "\r\n")))
}
