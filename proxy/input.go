package proxy

import (
	"bytes"
	"errors"
	"io"
	"time"

	"gatepost/proxy/wire"
)

// obey reads commands and obeys them.
func (s *session) obey(why wake) (w wait, waits bool) {
	if w, waits := s.resume(why); waits {
		return w, true
	}
	for s.phase == phaseCommands {
		if s.commands == 0 && s.extras().tls == nil && s.b.w > s.b.r && s.b.input[s.b.r] == clientHello {
			s.note = endNotSMTP
			s.hangUp(554, "5.5.1", "TLS starts with STARTTLS here")
			return s.finish(), true
		}
		again, w, waits := s.step()
		if waits {
			return w, true
		}
		if again {
			continue
		}
		switch {
		case s.b.delay > 0:
			return s.holdReplies(), true
		case s.over:
			return s.finish(), true
		case s.b.due() && !s.flush():
			return s.left(endLeft), true
		}
	}
	return wait{}, false
}

// step obeys the next line, or reads on.
func (s *session) step() (again bool, w wait, waits bool) {
	if s.skipping {
		switch s.skip(); {
		case !s.skipping:
			return false, wait{}, false
		case s.since.since() >= s.patience(): // a line without an end never lets the session wait
			return false, s.timeOut(), true
		}
		w, waits = s.refill()
		return true, w, waits
	}
	line, n, err := wire.NextLine(s.b.unread(), s.lineLimit())
	switch {
	case err == nil:
		s.b.r += n
		s.line(line)
	case errors.Is(err, wire.ErrIncomplete):
		w, waits = s.refill()
		return true, w, waits
	default:
		s.badLine(n, err)
	}
	return false, wait{}, false
}

// resume deals with the reason why a session that waited for a command runs again.
func (s *session) resume(why wake) (w wait, done bool) {
	if s.broken {
		return wait{over: true}, true
	}
	if s.mustNotWait() {
		s.release()
		s.say(421, "4.3.2", s.service.Hostname+" is shutting down, please try again")
		s.note = endShutdown
		return s.finish(), true
	}
	if s.holding {
		if why == wakeShutdown {
			return wait{limit: time.Second}, true // the transaction goes on in a moment
		}
		s.release()
		s.since = now()
		switch {
		case s.over:
			return s.finish(), true
		case !s.flush():
			return s.left(endLeft), true
		}
		return wait{}, false
	}
	if why == wakeTime {
		if s.since.since() >= s.patience() {
			return s.timeOut(), true
		}
		if !s.personal() {
			s.releaseBackend() // it has waited for backend.hold
		}
		return s.waitForCommand(), true
	}
	return wait{}, false
}

// timeOut ends the session of a client that has not given a command in time.
func (s *session) timeOut() wait {
	s.server.metrics.Timeouts.Add(1)
	s.say(421, "4.4.2", "Timeout, closing the connection")
	s.note = endTimeout
	return s.finish()
}

// patience is how long the client may take for a command.
func (s *session) patience() time.Duration { return time.Duration(s.service.Limits.CommandTimeout) }

// refill is called when there is no whole line. It writes the replies, as RFC 2920, 3.2 demands before waiting, and
// reads. wait tells that the session must wait for its client.
func (s *session) refill() (w wait, waits bool) {
	n, err := 0, errAgain
	if !s.b.dry {
		n, err = s.read()
	}
	switch {
	case n > 0:
		return wait{}, false
	case !s.flush():
		return s.left(endLeft), true
	case errors.Is(err, errAgain):
		return s.waitForCommand(), true
	case errors.Is(err, io.EOF):
		return s.left(endLeft), true
	default:
		s.log().Debug("client lost", "error", err)
		return s.left(endLost), true
	}
}

// waitForCommand waits for a whole command, however many pieces it comes in; a backend is not kept waiting that long.
func (s *session) waitForCommand() wait {
	s.gate.Idle()
	limit := s.patience() - s.since.since()
	if s.backend != nil && !s.personal() {
		limit = min(limit, s.hold()-s.idle.since())
	}
	return wait{input: true, again: true, limit: max(limit, 0)}
}

// read takes input that is at hand, or the next that comes if the connection is patient.
func (s *session) read() (n int, err error) {
	space := s.b.space()
	if over := s.extras().tls; over != nil {
		n, err = over.Read(space) // may hold more records: only errAgain means dry
	} else {
		n, err = s.conn.Read(space)
		s.b.dry = n < len(space)
	}
	s.b.w += n
	return n, err
}

// line obeys one command line.
func (s *session) line(line []byte) {
	s.b.began = time.Now()
	s.confirm()
	s.commands++
	if int(s.commands) > s.service.Limits.Commands {
		s.server.metrics.LimitCommands.Add(1)
		if s.settle(); !s.over {
			s.hangUp(421, "4.7.0", "Too many commands in one session")
		}
		return
	}
	switch {
	case s.extras().signIn != nil:
		s.respond(line)
	case s.listen.Submission:
		s.submitted(line)
	default:
		s.obeyCommand(wire.ParseCommand(line))
	}
	s.since = now()
	s.idle = s.since
}

// badLine answers a line that cannot be a command. n is its length, 0 if its end is not known: then what there is of
// it is thrown away until the end comes (RFC 5321, 4.5.3.1.4).
func (s *session) badLine(n int, err error) {
	s.b.began = time.Now()
	s.settle()
	s.since = now()
	if s.over {
		return
	}
	if startsBDAT(s.b.unread()) {
		// Where its chunk ends is unknown, so all that follows may be a part of it.
		s.hangUp(501, "5.5.4", "Not a BDAT command: "+err.Error())
		return
	}
	if errors.Is(err, wire.ErrLineTooLong) {
		s.skipping = true
		return
	}
	s.b.r += n
	s.commands++
	if s.extras().signIn != nil {
		s.cancelSignIn()
	}
	s.fault(500, "5.5.2", "Not a command line: "+err.Error())
}

// startsBDAT tells whether what is no line that can be read would be a BDAT command.
func startsBDAT(input []byte) bool {
	return len(input) >= 4 && bytes.EqualFold(input[:4], []byte("BDAT"))
}

// skip throws away an overlong line, and answers it at its end.
func (s *session) skip() {
	n, done := wire.DiscardLine(s.b.unread())
	s.b.r += n
	if done {
		s.skipping = false
		s.commands++
		if s.extras().signIn != nil { // RFC 4954, 4: the exchange has failed
			s.cancelSignIn()
			s.fault(500, "5.5.6", "Authentication exchange line is too long")
			return
		}
		s.fault(500, "5.5.2", "Line too long")
	}
}

// holdReplies makes the client wait for its reply. Its further commands stay where they are.
func (s *session) holdReplies() wait {
	s.holding = true
	s.kept = &kept{held: append([]byte(nil), s.b.out...)}
	s.b.out = s.b.out[:0]
	limit := min(s.b.delay, s.patience())
	s.b.delay = 0
	return wait{limit: limit}
}

// release lets go of replies that were held back.
func (s *session) release() {
	if s.kept != nil {
		s.b.out = append(s.b.out, s.kept.held...)
		s.kept.held = nil
	}
	s.holding = false
}
