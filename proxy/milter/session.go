package milter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"time"

	"github.com/emersion/go-milter"

	"gatepost/filters"
	"gatepost/filters/milter/wire"
	"gatepost/policy"
	"gatepost/policy/deadline"
	"gatepost/policy/grow"
)

// session is one connection of an MTA. It belongs to the goroutine that drives it.
type session struct {
	server  *Server
	service *service
	listen  *Listen
	conn    *conn
	r       *wire.Reader
	out     []byte // responses that were not written yet

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
	note   string // why the client's session ended
}

func newSession(s *Server, v *service, l *Listen, c net.Conn) *session {
	e := &session{server: s, service: v, listen: l, note: "MTA left"}
	e.conn = &conn{Conn: c, patience: idlePatience, mustEnd: e.mustEnd}
	e.r = wire.NewReader(e.conn)
	return e
}

// mustEnd tells that the session shall not wait for its MTA any more.
func (s *session) mustEnd() bool {
	return s.server.killed.Load() || s.server.closing.Load() && s.tx == nil
}

// drive runs the session to its end. A panic ends this session and no other.
func (s *session) drive() {
	defer s.server.retire(s)
	defer s.conn.Close()
	defer s.guard("at the end of a session", func() { s.leave() })
	s.guard("in a session", func() {
		grow.Stack()
		s.ended(s.serve())
	})
}

func (s *session) guard(where string, f func()) {
	defer func() {
		if p := recover(); p != nil {
			s.server.metrics.Panics.Add(1)
			text := debug.Stack()
			s.log().Error("panic "+where+"; please report it", "panic", p, "stack", string(text[:min(len(text), 8<<10)]))
			s.note = "internal error"
		}
	}()
	f()
}

// ended says in the log why a session ended that should not have.
func (s *session) ended(err error) {
	switch {
	case err == nil || errors.Is(err, io.EOF):
	case errors.Is(err, errShutdown):
		s.note = "shutdown"
	case errors.Is(err, errSilent):
		s.server.metrics.Timeouts.Add(1)
		s.note = "timeout"
		s.log().Warn("an MTA was silent for too long", "milter", s.listen.Address)
	default:
		if _, ok := errors.AsType[net.Error](err); ok { // it went away in its own manner
			return
		}
		s.server.metrics.Violations.Add(1)
		s.note = "protocol violation"
		s.log().Error("an MTA's milter session is broken", "milter", s.listen.Address, "error", err)
	}
}

// serve obeys until the connection ends.
func (s *session) serve() error {
	for !s.over {
		code, size, err := s.await()
		if err != nil {
			return err
		}
		s.conn.patience = time.Duration(s.service.Limits.DataTimeout)
		if err := s.obey(milter.Code(code), size); err != nil {
			return err
		}
		s.endBudget()
	}
	return s.flush()
}

// await waits for the next frame. Responses are written before, if it is not there yet.
func (s *session) await() (code byte, size int, err error) {
	s.conn.patience = idlePatience
	if s.r.Buffered() {
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
		s.note = "quit"
		s.over = true
	case milter.CodeQuitNewConn:
		s.note = "quit"
		s.leave()
		s.macros = macros{}
	default:
		return fmt.Errorf("a frame %q, which the milter protocol does not have", code)
	}
	return nil
}

// leave ends the client's session, if there is one.
func (s *session) leave() {
	gate := s.gate
	s.gate = nil
	if gate == nil {
		return
	}
	defer func() { s.info, s.greeting, s.refused, s.note = nil, nil, nil, "MTA left" }()
	defer gate.Close(s.note)
	if s.tx != nil {
		s.tx.release(func(size int64) { gate.Conclude(policy.Ending{Note: s.note, Size: size}) })
		s.tx = nil
	}
}

// within returns the context for what the MTA's command makes us wait for. All of one command share it.
func (s *session) within(limit filters.Duration) context.Context {
	if s.budget == nil {
		s.budget = deadline.New(s.server.base, time.Now().Add(time.Duration(limit)))
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

// maxOut is what is kept for responses to come; edits of a header can take more.
const maxOut = 4 << 10

func (s *session) log() *slog.Logger {
	if s.info == nil {
		return s.server.log
	}
	return s.server.log.With("session", s.info.ID, "client", s.info.Client.Addr())
}

// takesSubmission tells whether users hand in their mail at a service of that name.
func (l *Listen) takesSubmission(service string) bool { return slices.Contains(l.Submission, service) }
