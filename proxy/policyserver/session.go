package policyserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/proxy/called"
)

// session is one connection of a Postfix process, which serves one client after the other. It belongs to the goroutine
// that drives it.
type session struct {
	server  *Server
	conn    *called.Conn[Listen]
	in      *bufio.Reader
	request attributes

	gate     *policy.Gate // nil without a client
	info     *filters.Session
	refused  answer            // to all requests about this client; empty: it was not turned away
	greeting *filters.Greeting // nil before HELO
	unheard  answer            // to all requests with this greeting; empty: there is nothing against it
	tx       *transaction      // the latest one of this client
	serial   int               // its number
}

func (s *Server) begin(c *called.Conn[Listen]) called.Session {
	return &session{server: s, conn: c, in: bufio.NewReaderSize(c, maxLine), request: attributes{}}
}

// Busy is never: when a transaction ends Postfix does not tell, and it asks again where a connection is lost.
func (s *session) Busy() bool { return false }

// Log names the client.
func (s *session) Log() *slog.Logger {
	if s.info == nil {
		return s.server.log
	}
	return s.server.log.With("session", s.info.ID, "client", s.info.Client.IP)
}

var errRequest = errors.New("a request is not smtpd_access_policy")

// Serve answers requests until the connection ends.
func (s *session) Serve() error {
	for {
		if err := s.await(); err != nil {
			return err
		}
		if kind := s.request["request"]; kind != "smtpd_access_policy" {
			return fmt.Errorf("%w: %q", errRequest, kind)
		}
		if err := s.reply(s.decide()); err != nil {
			return err
		}
		if s.tx != nil && s.tx.over {
			s.conclude("")
		}
	}
}

// requestPatience is how long a request may take once it has begun.
const requestPatience = 10 * time.Second

// await reads the next request. Meanwhile the gate rests.
func (s *session) await() error {
	s.conn.Patience = called.IdlePatience
	if s.gate != nil {
		s.gate.Idle()
		defer s.gate.Resume()
	}
	if _, err := s.in.Peek(1); err != nil {
		return err
	}
	s.conn.Patience = requestPatience
	return readRequest(s.in, s.request)
}

// decide drives the gate as far as the request tells enough. All waiting in it has one budget: with what rules hold back
// it stays below smtpd_policy_service_timeout (100 s).
func (s *session) decide() answer {
	step, ok := steps[s.request["protocol_state"]]
	if !ok { // VRFY, ETRN, and what comes with later versions
		return dunno
	}
	ctx, cancel := context.WithTimeout(s.conn.Base(), time.Duration(s.conn.Service.Limits.EnvelopeBudget))
	defer cancel()
	a, delay := s.advance(ctx, step)
	s.linger(delay)
	return a
}

// step is how far a request goes.
type step uint8

const (
	toConnect step = iota
	toHelo
	toMail
	toRcpt
	toData
)

// steps are the values of protocol_state.
var steps = map[string]step{
	"CONNECT": toConnect, "HELO": toHelo, "EHLO": toHelo, "MAIL": toMail, "RCPT": toRcpt, "DATA": toData, "BDAT": toData,
	"END-OF-MESSAGE": toData,
}

// advance goes through the stages, up to the first that stops.
func (s *session) advance(ctx context.Context, to step) (a answer, delay time.Duration) {
	stages := [...]func(context.Context, step) (policy.Verdict, answer){s.connect, s.helo, s.mail, s.rcpt, s.data}
	a = dunno
	for at, stage := range stages[:to+1] {
		v, standing := stage(ctx, to)
		delay += v.Delay
		if standing != "" {
			return standing, min(delay, maxDelay)
		}
		if stops(v) {
			return s.refuse(step(at), v), min(delay, maxDelay)
		}
	}
	if to >= toRcpt {
		a = s.foresee(to)
	}
	return a, min(delay, maxDelay)
}

// maxDelay bounds how long rules hold back one answer, all stages together.
const maxDelay = 60 * time.Second

func (s *session) linger(d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.conn.Base().Done():
	}
}

// Leave ends the client's session, if there is one.
func (s *session) Leave() {
	gate := s.gate
	if gate == nil {
		return
	}
	s.gate = nil
	defer func() {
		s.info, s.greeting, s.tx, s.refused, s.unheard, s.serial = nil, nil, nil, "", "", 0
	}()
	defer gate.Close(s.conn.Note)
	if s.tx != nil && s.tx.open {
		s.tx.open = false
		gate.Conclude(s.tx.ending(s.conn.Note))
	}
}
