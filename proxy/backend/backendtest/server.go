// Package backendtest is a small SMTP server that stands in for an MTA: in tests as a scripted backend that can be made
// to behave well or badly, and wherever mail needs a place to go without an MTA at hand.
//
// Out of the box it behaves like Postfix 3.9: it takes XCLIENT on every connection as often as it comes, pipelines, knows
// BDAT, and hangs up on clients that pipeline where RFC 2920 forbids it. [Behaviour] changes that. It shares no code with
// what it tests.
package backendtest

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Hangup and Stall may stand at the end of a scripted answer: the connection is closed after it, or the server reads no
// more until it is closed itself. Both may stand alone. Silence alone is no answer at all.
const (
	Hangup  = "\x00hangup"
	Stall   = "\x00stall"
	Silence = "\x00silence"
)

// XClientUse says whether clients may use XCLIENT.
type XClientUse uint8

const (
	XClientAlways XClientUse = iota // again and again, as with Postfix's static:all
	XClientOnce                     // once per connection, as with Postfix's list of addresses
	XClientNever
)

// ProxyHeader says whether a PROXY header must come first.
type ProxyHeader uint8

const (
	ProxyNone ProxyHeader = iota
	ProxyV1
	ProxyV2
)

// PostfixKeywords is what Postfix 3.7 offers.
var PostfixKeywords = []string{"PIPELINING", "SIZE 10240000", "VRFY", "ETRN", "ENHANCEDSTATUSCODES", "8BITMIME", "DSN", "SMTPUTF8", "CHUNKING"}

// Behaviour is how a server behaves. The zero value is a Postfix 3.9 that takes mail for everybody but domains under
// .invalid.
type Behaviour struct {
	Hostname string   // default backend.test
	Keywords []string // answer to EHLO; default PostfixKeywords; XCLIENT and STARTTLS are added as they apply
	XClient  XClientUse
	Proxy    ProxyHeader // must come first, in one segment
	TLS      *tls.Config // offers STARTTLS

	Domains   []string       // what mail is taken for; empty: all but .invalid
	Mailboxes []string       // who exists there; empty: everybody
	Relay     []netip.Prefix // clients that may send anywhere, like Postfix's mynetworks
	MaxSize   int64          // of a message in bytes; 0: no limit

	// LockStep ends sessions of clients that send two commands at once, as OpenSMTPD does.
	LockStep bool
	// Lenient lets clients send more behind a command that ends a group (RFC 2920, 3.1), as Postfix does with
	// smtpd_forbid_unauth_pipelining=no. It is noted in Violations all the same.
	Lenient bool
	// OneHello answers 503 to EHLO and HELO where one was answered already, as OpenSMTPD does.
	OneHello bool
	// MaxNonMail is the number of commands other than MAIL, RCPT, DATA, BDAT, STARTTLS, XCLIENT and QUIT in a row after
	// which the next one ends the session, as Exim has it; the first EHLO and RSET after a message are not counted. 0: no
	// limit.
	MaxNonMail int
	// RunsPartialLine takes what stands before the end of the stream for a command line, as sendmail does.
	RunsPartialLine bool
	// Pause is how long each 5xx answer of a session is held back: once, twice, four times, ... as Courier does.
	Pause time.Duration
	// MaxSessions is the number of sessions at a time above which a client is turned away with TooMany; 0: no limit.
	MaxSessions int
	TooMany     string
	// Greeting replaces the first reply; without CRLF.
	Greeting string
	// Answer replaces the reply to a command line where it returns something; lines are separated by CRLF, the last has
	// none. It runs on the session's goroutine.
	Answer func(s *Session, line string) string
	// During is asked while message data comes in and may interrupt it with an answer; most useful with Hangup or Stall.
	During func(s *Session, received int64) string
	// DropAfter closes a connection when so many bytes were received on it; 0: never.
	DropAfter int64

	// Deliver takes the message; an error is answered with 451. Default: it is kept for Messages.
	Deliver func(*Message) error
}

// Message is what was delivered.
type Message struct {
	ID         string
	Received   time.Time
	Client     netip.AddrPort // as handed over
	ClientName string
	Helo       string
	Extended   bool // EHLO rather than HELO
	Login      string
	Attributes map[string]string // of XCLIENT, whatever client they were said of last; LOGIN is not kept
	TLS        bool
	From       string // the argument of MAIL after "FROM:", parameters included
	To         []string
	Recipients []string // addresses
	Sender     string   // address
	BDAT       bool
	Data       []byte // the message
	Raw        []byte // as it was sent: dots stuffed and final dot included, or the chunks
}

// Server is a running server.
type Server struct {
	Behaviour
	listener net.Listener
	wg       sync.WaitGroup
	done     chan struct{}

	mu       sync.Mutex // guards all below
	conns    map[net.Conn]bool
	messages []*Message
	sessions []*Session
	count    int
	wrong    []string
}

// Start listens on a free port of 127.0.0.1.
func Start(b Behaviour) (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return Serve(l, b), nil
}

// Serve runs on a listener until Close.
func Serve(l net.Listener, b Behaviour) *Server {
	if b.Hostname == "" {
		b.Hostname = "backend.test"
	}
	if b.Keywords == nil {
		b.Keywords = PostfixKeywords
	}
	s := &Server{Behaviour: b, listener: l, done: make(chan struct{}), conns: map[net.Conn]bool{}}
	s.wg.Go(s.accept)
	return s
}

// Address is "host:port" or "unix:/path", as a configuration has it.
func (s *Server) Address() string {
	if a := s.listener.Addr(); a.Network() == "unix" {
		return "unix:" + a.String()
	}
	return s.listener.Addr().String()
}

// Close ends all sessions and waits for them.
func (s *Server) Close() {
	s.mu.Lock()
	select {
	case <-s.done:
		s.mu.Unlock()
		return
	default:
	}
	close(s.done)
	s.listener.Close()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// CloseSessions ends all sessions but goes on listening, as a restart looks to those who keep connections.
func (s *Server) CloseSessions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}

// Messages is what was delivered so far and not taken by Deliver.
func (s *Server) Messages() []*Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Message(nil), s.messages...)
}

// Sessions is all sessions so far, ended ones included.
func (s *Server) Sessions() []*Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Session(nil), s.sessions...)
}

// Open is how many sessions there are now.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Violations is what clients sent where RFC 2920 wants them to wait, in the words of Postfix's log.
func (s *Server) Violations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.wrong...)
}

func (s *Server) accept() {
	for {
		nc, err := s.listener.Accept()
		if err != nil {
			return
		}
		sess := &Session{server: s, conn: nc}
		s.mu.Lock()
		select {
		case <-s.done:
			s.mu.Unlock()
			nc.Close()
			return
		default:
		}
		s.conns[nc] = true
		s.sessions = append(s.sessions, sess)
		sess.turnedAway = s.MaxSessions > 0 && len(s.conns) > s.MaxSessions
		s.mu.Unlock()
		s.wg.Go(func() {
			defer func() {
				nc.Close()
				sess.over()
				s.mu.Lock()
				delete(s.conns, nc)
				s.mu.Unlock()
			}()
			sess.run()
		})
	}
}

// deliver hands a message over and returns the reply.
func (s *Server) deliver(m *Message) string {
	s.mu.Lock()
	s.count++
	m.ID = fmt.Sprintf("%012X", s.count)
	s.mu.Unlock()
	m.Received = time.Now()
	if s.Deliver != nil {
		if err := s.Deliver(m); err != nil {
			return "451 4.3.0 Error: " + err.Error()
		}
		return "250 2.0.0 Ok: queued as " + m.ID
	}
	s.mu.Lock()
	s.messages = append(s.messages, m)
	s.mu.Unlock()
	return "250 2.0.0 Ok: queued as " + m.ID
}
