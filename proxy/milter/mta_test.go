package milter

import (
	"bufio"
	"crypto/tls"
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

	"github.com/emersion/go-milter"

	"gatepost/filters/milter/wire"
	"gatepost/proxy/backend/backendtest"
)

// mta is an MTA that asks a milter, in the order in which Postfix does: its own checks first, then the milter. Its own
// checks, and the mail that it takes, are those of a backendtest.Server behind it.
type mta struct {
	t         testing.TB
	house     *house
	behind    *backendtest.Server
	domains   []string
	trusted   bool
	client    wire.Connect
	socket    net.Listener
	secure    *tls.Config
	serving   sync.WaitGroup
	mu        sync.Mutex // guards delivered
	delivered [][]byte   // messages as edited
}

func startMTA(t testing.TB, m *mta) string {
	t.Helper()
	m.t = t
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
	t.Cleanup(func() {
		m.socket.Close()
		m.serving.Wait()
	})
	return m.socket.Addr().String()
}

// mtaSession is one client of the MTA.
type mtaSession struct {
	mta     *mta
	conn    net.Conn
	in      *bufio.Reader
	milter  *caller
	behind  net.Conn
	replies *bufio.Reader
	mail    string
	rcpts   []string
	chunks  []byte // BDAT so far
}

var errClosing = errors.New("the MTA closes the connection")

func (s *mtaSession) run() (err error) {
	if s.milter, err = call(s.mta.house.network, s.mta.house.address, fullOffer); err != nil {
		return err
	}
	defer func() {
		s.milter.abort()
		if quit := s.milter.quit(); err == nil || errors.Is(err, errClosing) {
			err = quit
		}
	}()
	if s.behind, err = net.Dial("tcp", s.mta.behind.Address()); err != nil {
		return err
	}
	defer s.behind.Close()
	s.replies = bufio.NewReader(s.behind)
	if _, err := s.own(""); err != nil {
		return err
	}
	s.milter.values["v"], s.milter.values["{daemon_name}"], s.milter.values["j"] = "Postfix 3.7.11", "mx.test", "mx.test"
	a, err := s.milter.connect(s.mta.client)
	greeting := "220 mx.test ESMTP"
	if a.reply != "" { // Postfix's words
		greeting = map[byte]string{'4': "421 mx.test Service unavailable", '5': "554 mx.test ESMTP not accepting connections"}[a.reply[0]]
	}
	if err != nil || s.say(greeting) != nil {
		return err
	}
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			return err
		}
		reply, err := s.command(strings.TrimSuffix(line, "\r\n"), a.reply != "")
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
	var reply []string
	for {
		text, err := s.replies.ReadString('\n')
		if err != nil {
			return "", err
		}
		text = strings.TrimSuffix(text, "\r\n")
		reply = append(reply, text)
		if len(text) < 4 || text[3] != '-' {
			return strings.Join(reply, "\r\n"), nil
		}
	}
}

func (s *mtaSession) command(line string, refused bool) (string, error) {
	verb, arg, _ := strings.Cut(line, " ")
	switch verb = strings.ToUpper(verb); {
	case verb == "QUIT":
		return "221 2.0.0 Bye", nil
	case refused:
		return "503 5.5.0 Error: access denied", nil
	case verb == "EHLO" || verb == "HELO":
		return s.checked(line, func() (answer, error) {
			s.end()
			return s.milter.helo(arg)
		})
	case verb == "STARTTLS" && s.mta.secure != nil:
		return "", s.startTLS()
	case verb == "MAIL":
		path, params := arguments(arg, "FROM:")
		reply, err := s.checked(line, func() (answer, error) { return s.milter.mail(append([]string{path}, params...)...) })
		if reply[0] == '2' {
			s.mail, s.rcpts = line, nil
		}
		return reply, err
	case verb == "RCPT" && s.mail != "":
		return s.rcpt(line, arg)
	case verb == "DATA" && len(s.rcpts) > 0:
		return s.data()
	case verb == "BDAT" && len(s.rcpts) > 0:
		return s.bdat(arg)
	case verb == "RSET":
		s.end()
		return "250 2.0.0 Ok", nil
	}
	return s.own(line)
}

// end is RSET.
func (s *mtaSession) end() {
	if s.mail != "" {
		s.own("RSET")
	}
	s.mail, s.rcpts, s.chunks = "", nil, nil
	s.milter.abort()
}

// checked asks the MTA's own checks, then the milter.
func (s *mtaSession) checked(line string, ask func() (answer, error)) (string, error) {
	reply, err := s.own(line)
	if err != nil || reply[0] != '2' {
		return reply, err
	}
	a, err := ask()
	if a.reply != "" {
		if strings.HasPrefix(line, "MAIL") {
			s.own("RSET")
		}
		return a.reply, err
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
	args := append([]string{path}, params...)
	if _, domain, _ := strings.Cut(strings.Trim(path, "<>"), "@"); len(s.mta.domains) > 0 && !s.mta.trusted && !slices.Contains(s.mta.domains, domain) {
		return "550 5.7.1 Relay access denied", s.milter.rejected("5.7.1", "Relay access denied", args...)
	}
	reply, err := s.own(line)
	if err != nil || reply[0] != '2' {
		status, text, _ := strings.Cut(reply[4:], " ")
		if reply[0] == '2' || reply[0] == '3' {
			return reply, err
		}
		return reply, errors.Join(err, s.milter.rejected(status, text, args...))
	}
	s.milter.values["i"] = "4XQID"
	a, err := s.milter.rcpt(args...)
	if a.reply != "" {
		return a.reply, err
	}
	s.rcpts = append(s.rcpts, line)
	return reply, err
}

func (s *mtaSession) data() (string, error) {
	if a, err := s.milter.data(); a.reply != "" || err != nil {
		s.end()
		return a.reply, err
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

func (s *mtaSession) bdat(arg string) (string, error) {
	if s.chunks == nil {
		if a, err := s.milter.data(); a.reply != "" || err != nil {
			s.end()
			return a.reply, err
		}
	}
	count, last, _ := strings.Cut(arg, " ")
	n, err := strconv.Atoi(count)
	if err != nil {
		return "501 5.5.4 Syntax", nil
	}
	chunk := make([]byte, n)
	if _, err := io.ReadFull(s.in, chunk); err != nil {
		return "", err
	}
	s.chunks = append(s.chunks, chunk...)
	if last == "" {
		return fmt.Sprintf("250 2.0.0 Ok: %d bytes", n), nil
	}
	return s.finish(s.chunks)
}

// finish asks about the message, and hands what passes to the server behind, as the milter has edited it. That has heard
// of recipients whom the milter has refused, so it hears everything anew.
func (s *mtaSession) finish(text []byte) (string, error) {
	a, _, err := s.milter.message(text)
	if err != nil {
		return "", err
	}
	mail, rcpts := s.mail, s.rcpts
	defer s.end()
	switch {
	case a.reply != "":
		return a.reply, nil
	case a.code == byte(milter.ActDiscard), a.held != "":
		return "250 2.0.0 Ok: queued as 4XQID", nil
	}
	if text, err = s.milter.apply(text, a.edits); err != nil {
		return "", err
	}
	s.mta.mu.Lock()
	s.mta.delivered = append(s.mta.delivered, text)
	s.mta.mu.Unlock()
	for _, line := range append([]string{"RSET", mail}, rcpts...) {
		if reply, err := s.own(line); err != nil || reply[0] != '2' {
			return reply, err
		}
	}
	return s.own(fmt.Sprintf("BDAT %d LAST\r\n%s", len(text), strings.TrimSuffix(string(text), "\r\n")))
}

func (s *mtaSession) startTLS() error {
	if err := s.say("220 2.0.0 Ready to start TLS"); err != nil {
		return err
	}
	secured := tls.Server(s.conn, s.mta.secure)
	secured.SetDeadline(time.Now().Add(10 * time.Second))
	if err := secured.Handshake(); err != nil {
		return err
	}
	state := secured.ConnectionState()
	s.end()
	s.conn, s.in = secured, bufio.NewReader(secured)
	s.milter.values["{tls_version}"], s.milter.values["{cipher}"] = strings.Replace(tls.VersionName(state.Version), "TLS ", "TLSv", 1), tls.CipherSuiteName(state.CipherSuite)
	return nil
}
