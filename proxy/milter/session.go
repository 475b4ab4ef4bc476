package milter

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/emersion/go-milter"

	"gatepost/filters"
	"gatepost/filters/milter/wire"
	"gatepost/policy"
	"gatepost/policy/deadline"
	"gatepost/proxy/called"
)

// session is one connection of an MTA. It belongs to the goroutine that drives it.
type session struct {
	server *Server
	conn   *called.Conn[Listen]
	r      *wire.Reader
	out    []byte // responses that were not written yet

	negotiated bool
	agreed     wire.Negotiation
	macros     macros

	gate     *policy.Gate // nil without a client
	info     *filters.Session
	greeting *filters.Greeting // nil before HELO
	refused  []byte            // the response that turned the client away
	tx       *transaction      // from MAIL to its end
	serial   int               // of the latest transaction

	budget *deadline.Context // of the present command; nil: none was needed
	over   bool
}

func (s *Server) begin(c *called.Conn[Listen]) called.Session {
	return &session{server: s, conn: c, r: wire.NewReader(c)}
}

// Busy tells that a shutdown waits: in a transaction.
func (s *session) Busy() bool { return s.tx != nil }

// service is what the session works with.
func (s *session) service() *called.Service { return s.conn.Service }

// Serve obeys until the connection ends.
func (s *session) Serve() error {
	for !s.over {
		code, size, err := s.await()
		if err != nil {
			return err
		}
		s.conn.Patience = time.Duration(s.service().Limits.DataTimeout)
		if err := s.obey(milter.Code(code), size); err != nil {
			return err
		}
		s.endBudget()
	}
	return s.flush()
}

// await waits for the next frame. Responses are written before, if it is not there yet, or if there are many.
func (s *session) await() (code byte, size int, err error) {
	s.conn.Patience = called.IdlePatience
	if s.r.Buffered() && len(s.out) < maxOut {
		return s.r.Next()
	}
	if err := s.flush(); err != nil {
		return 0, 0, err
	}
	if s.gate != nil && (s.tx == nil || s.tx.message == nil) {
		s.gate.Idle()
		defer s.gate.Resume()
	}
	return s.r.Next()
}

// obey does what a frame says. An error ends the session.
func (s *session) obey(code milter.Code, size int) error {
	if !s.negotiated && code != milter.CodeOptNeg && code != milter.CodeQuit {
		return fmt.Errorf("%q came before the negotiation", code)
	}
	switch code { // bodies go past the reader's own memory
	case milter.CodeBody:
		return s.body(size)
	case milter.CodeEOB:
		return s.endOfMessage(size)
	}
	data, err := s.r.Data()
	if err != nil {
		return err
	}
	switch code {
	case milter.CodeOptNeg:
		return s.negotiate(data)
	case milter.CodeMacro:
		s.macros.take(data)
	case milter.CodeConn:
		return s.connect(data)
	case milter.CodeHelo:
		s.helo(data)
	case milter.CodeMail:
		s.mail(data)
	case milter.CodeRcpt:
		s.rcpt(data)
	case milter.CodeData:
		s.data()
	case milter.CodeHeader:
		return s.header(data)
	case milter.CodeEOH:
		s.endOfHeader()
	case milter.CodeAbort:
		s.abandon("RSET")
		s.macros.forget(withMail)
	case wire.CodeUnknown:
		s.proceed()
	case milter.CodeQuit:
		s.conn.Note = "quit"
		s.over = true
	case milter.CodeQuitNewConn:
		s.conn.Note = "quit"
		s.Leave()
		s.macros = macros{}
	default:
		return fmt.Errorf("a frame %q, which the milter protocol does not have", code)
	}
	return nil
}

// Leave ends the client's session, if there is one.
func (s *session) Leave() {
	gate := s.gate
	s.gate = nil
	if gate == nil {
		return
	}
	defer func() { s.info, s.greeting, s.refused, s.conn.Note = nil, nil, nil, "MTA left" }()
	defer gate.Close(s.conn.Note)
	if s.tx != nil {
		s.tx.release(func(size int64) { gate.Conclude(policy.Ending{Note: s.conn.Note, Size: size}) })
		s.tx = nil
	}
}

// within returns the context for what the MTA's command makes us wait for. All of one command share it.
func (s *session) within(limit filters.Duration) context.Context {
	if s.budget == nil {
		s.budget = deadline.New(s.conn.Base(), time.Now().Add(time.Duration(limit)))
	}
	return s.budget
}

func (s *session) endBudget() {
	if s.budget != nil {
		s.budget.Cancel()
		s.budget = nil
	}
}

// flush writes all responses at once.
func (s *session) flush() error {
	if len(s.out) == 0 {
		return nil
	}
	_, err := s.conn.Write(s.out)
	if s.out = s.out[:0]; cap(s.out) > maxOut {
		s.out = nil
	}
	return err
}

// maxOut is what waits for more responses, and is kept for them; edits of a header can take more.
const maxOut = 4 << 10

// Log names the client.
func (s *session) Log() *slog.Logger {
	if s.info == nil {
		return s.server.log
	}
	return s.server.log.With("session", s.info.ID, "client", s.info.Client.IP)
}
