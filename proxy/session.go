package proxy

import (
	"context"
	"crypto/tls"
	"log/slog"
	"sync/atomic"
	"time"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/policy/deadline"
	"gatepost/policy/grow"
	"gatepost/proxy/backend"
)

// phase says what a session does when it runs next.
type phase uint8

const (
	phaseAccepted phase = iota // nothing was done yet
	phaseHeader                // the peer's PROXY header is awaited
	phaseTLS                   // the handshake comes first
	phaseConnect               // the client's address is known
	phasePause                 // the greeting is held back
	phaseCommands
	phaseProbe // no client: the proxy tries itself
)

// session is one client's connection. It belongs to the goroutine that runs it, or to the parker while it waits.
//
// It is kept small: there are thousands, and most of them wait.
type session struct {
	server  *Server
	service *service
	listen  *listenConfig
	conn    conn
	extra   *extras // nil: none; see extras and extend

	gate     *policy.Gate // nil until the client's address is known
	info     *filters.Session
	greeting *filters.Greeting   // nil until HELO or EHLO; forgotten at STARTTLS and XCLIENT
	offered  *backend.Extensions // what our reply to EHLO announced; nil after HELO
	tx       *transaction        // from MAIL to its end
	backend  *backend.Conn       // nil: none, or given back
	idle     moment              // since when the backend has nothing to do
	unread   *transaction        // those whose final reply the client may not have read, the latest first

	link      linkState // what the backend's session has seen of the transaction
	phase     phase
	vouches   bool // the peer may use XCLIENT
	forgiving bool // MAIL or DATA was refused: what the client had sent behind it is no mistake of its own
	refused   bool // the greeting was a refusal: only QUIT is left (RFC 5321, 3.1)
	skipping  bool // the rest of an overlong line is thrown away
	over      bool // the session ends when the replies are written
	broken    bool // the client cannot be written to
	holding   bool // it waits with replies that are held back
	counted   bool // in limits.connections_per_client
	note      ending
	commands  int32
	errors    int32
	fruitless int32  // transactions in a row that brought no message
	serial    int32  // of the latest transaction
	written   uint32 // conn.received when the latest of the replies to unread was written
	since     moment // since when the client is expected to give a command
	kept      *kept  // while it waits; nil: nothing

	b *buffers // while it runs

	timer timer // guarded by the parker
	place place // guarded by the parker
	due   ticks // when the session's time has come, guarded by the parker; 0: not set
	slot  int32 // in Server.sessions, guarded by Server.mu

	shown atomic.Pointer[shown] // to who looks from outside while it runs; nil: it waits
}

// kept is what a waiting session has to keep of its buffers. Most have nothing.
type kept struct {
	input []byte // not yet dealt with
	held  []byte // replies that are held back
}

// extras is what few clients have. Kept apart, it takes 32 bytes less of each that waits.
type extras struct {
	tls    *tls.Conn // over conn; nil before STARTTLS
	claims *claims   // what a listed peer said with XCLIENT; nil: nothing
	user   string    // who has signed in with AUTH; empty: nobody
	signIn *signIn   // an AUTH exchange that is under way; nil: none
}

// extras is what there is of them, to be read.
func (s *session) extras() extras {
	if s.extra == nil {
		return extras{}
	}
	return *s.extra
}

// extend returns the extras to be changed.
func (s *session) extend() *extras {
	if s.extra == nil {
		s.extra = new(extras)
	}
	return s.extra
}

// drive runs the session until it waits in the parker, or ends.
func (s *session) drive(why wake) {
	grow.Stack()
	for {
		w := s.run(why)
		if w.over {
			s.end()
			return
		}
		var here bool
		if why, here = s.server.lot.park(s, w); !here {
			return
		}
	}
}

// run lends the session its buffers. A panic ends this session and no other.
func (s *session) run(why wake) (w wait) {
	var rest []byte
	if s.kept != nil {
		rest, s.kept.input = s.kept.input, nil
	}
	s.b = takeBuffers(rest)
	s.show()
	if s.gate != nil {
		s.gate.Resume()
	}
	defer func() {
		if p := recover(); p != nil {
			s.server.metrics.Panics.Add(1)
			s.log().Error("panic in a session; please report it", "panic", p, "stack", stack())
			s.note = endInternalError
			s.dropBackend() // half a message may be on it, and a next client's commands would become the rest
			s.b.out = s.b.out[:0]
			s.say(421, "4.3.0", "Internal error, please try again later")
			s.flush()
			w = wait{over: true}
		}
		s.shown.Store(nil)
		s.keepInput(s.b.giveBack())
		s.b = nil
	}()
	return s.serve(why)
}

// serve runs while input is at hand, and says what the session waits for then.
func (s *session) serve(why wake) wait {
	for {
		var w wait
		var waits bool
		switch s.phase {
		case phaseAccepted:
			w, waits = s.accepted()
		case phaseHeader:
			w, waits = s.readHeader(why)
		case phaseTLS:
			w, waits = s.beginTLS(why)
		case phaseConnect:
			w, waits = s.connect()
		case phasePause:
			w, waits = s.greet(why)
		case phaseCommands:
			w, waits = s.obey(why)
		case phaseProbe:
			w, waits = s.echo(why), true
		}
		if waits {
			return w
		}
		why = wakeStart
	}
}

// keepInput keeps unread input for the next run.
func (s *session) keepInput(rest []byte) {
	switch {
	case s.kept != nil && s.kept.held == nil && rest == nil:
		s.kept = nil
	case s.kept != nil:
		s.kept.input = rest
	case rest != nil:
		s.kept = &kept{input: rest}
	}
}

// mustNotWait tells that the session has to end now instead of waiting for its client.
func (s *session) mustNotWait() bool {
	return s.server.killed.Load() || s.server.closing.Load() && s.tx == nil
}

// finish writes the last replies and ends the session.
func (s *session) finish() wait {
	s.flush()
	if s.note == notEnding {
		s.note = endClosed
	}
	return wait{over: true}
}

// left ends the session of a client that is gone.
func (s *session) left(note ending) wait {
	s.broken = true
	s.note = note
	return wait{over: true}
}

// end gives everything back. A panic on the way must not keep the rest from being given back.
func (s *session) end() {
	guard := func(f func()) {
		defer func() {
			if p := recover(); p != nil {
				s.server.metrics.Panics.Add(1)
				s.log().Error("panic at the end of a session; please report it", "panic", p, "stack", stack())
			}
		}()
		f()
	}
	guard(func() { s.abandon(s.note.String()) })
	guard(s.leaveUnread)
	guard(s.releaseBackend)
	if s.gate != nil {
		guard(func() { s.gate.Close(s.note.String()) })
	}
	if over := s.extras().tls; over != nil && !s.broken {
		over.CloseWrite() // close_notify: the end is no truncation
	}
	s.server.lot.forget(s)
	if s.broken || s.note == endQuit {
		s.conn.Close()
	} else {
		s.conn.hangUp()
	}
	s.server.retire(s)
}

// budget returns the context for what the client's command makes us wait for. Commands that come in one batch share one
// as long as they are obeyed quickly: none loses more than an eighth of its time.
func (s *session) budget(limit filters.Duration) context.Context {
	b := s.b
	if b.ctx != nil {
		if b.limit == limit && b.began.Sub(b.start) < time.Duration(limit)/8 {
			return b.ctx
		}
		b.ctx.Cancel()
	}
	b.limit, b.start = limit, b.began
	b.ctx = deadline.New(s.server.base, b.began.Add(time.Duration(limit))).Tell(&s.b.shown.waits)
	return b.ctx
}

// renew makes the next budget start now: what came before has had its own.
func (s *session) renew() {
	s.b.began = time.Now()
	s.b.endBudget()
}

func (s *session) log() *slog.Logger {
	if s.info == nil {
		return s.server.log
	}
	return s.server.log.With("session", s.info.ID, "client", s.info.Client.IP)
}
