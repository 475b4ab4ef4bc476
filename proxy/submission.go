package proxy

import (
	"errors"
	"slices"
	"strings"

	"gatepost/proxy/backend"
	"gatepost/proxy/wire"
)

// On a listener with `submission` (RFC 6409) users hand in their mail. Who they are is for the backend to find out: it is
// dialled before EHLO is answered, and AUTH (RFC 4954) is passed on to it line by line. What is said there is a secret:
// neither logs nor records get any of it but the user's name, and that only of one who has signed in.

// mta is the backends behind the session's listener.
func (s *session) mta() *backend.Group {
	if s.listen.Submission {
		return s.service.Submission
	}
	return s.service.Backend
}

// protected tells whether a password may be said: on the machine itself it may without TLS.
func (s *session) protected() bool {
	return s.extras().tls != nil || s.info.Peer().Addr().IsLoopback() && s.info.Client.IP.IsLoopback()
}

// callAhead dials the backend for the answer to EHLO, which has its mechanisms. False: the session is at its end.
func (s *session) callAhead() bool {
	ctx := s.budget(s.service.Limits.EnvelopeBudget)
	s.offered = &backend.Extensions{Size: -1} // EHLO, and nothing promised yet
	err := s.dial(ctx)
	if err == nil {
		if err = s.backend.Ready(ctx); err == nil {
			return true
		}
		s.log().Error("no backend can be had", "for", s.id(), "error", err)
		s.dropBackend()
	}
	r := s.lossReply(err)
	if r.Code != 421 && !refusesClient(err) {
		r = s.failure(421, "4.4.1", "The mail server behind this one cannot be reached, please try again later")
	}
	s.relay(r)
	s.over = true
	return false
}

// signIn is an AUTH exchange that is under way.
type signIn struct {
	mechanism string
	user      string // as far as the exchange tells
	steps     int
}

const (
	// maxAuthLine is the longest line of an exchange, with CRLF (RFC 4954, 4).
	maxAuthLine = 12288
	// maxAuthSteps bounds the responses of an exchange; no mechanism needs more than a few.
	maxAuthSteps = 16
)

// lineLimit is the length of the longest line that the client may send now.
func (s *session) lineLimit() int {
	if s.listen.Submission {
		return max(maxAuthLine, s.service.Limits.LineLength)
	}
	return s.service.Limits.LineLength
}

// submitted obeys a command line; only AUTH may be longer than others.
func (s *session) submitted(line []byte) {
	c := wire.ParseCommand(line)
	if len(line)+len("\r\n") > s.service.Limits.LineLength && c.Verb != wire.AUTH {
		s.fault(500, "5.5.2", "Line too long")
		return
	}
	s.obeyCommand(c)
}

// personal tells that the backend's session belongs to a user, or is about to: nobody but its own backend knows the user,
// so it is neither given back while the client thinks, nor replaced when it is lost.
func (s *session) personal() bool { return s.extras().user != "" || s.extras().signIn != nil }

// errSignedOut says that the backend's session is lost in which the user had signed in.
var errSignedOut = errors.New("the session in which the user had signed in was lost")

// mayUse answers commands that need a user who has signed in (RFC 4954, 6), or a trusted client.
func (s *session) mayUse() bool {
	switch {
	case !s.listen.Submission:
		return true
	case !s.protected():
		s.fault(530, "5.7.0", "Must issue a STARTTLS command first")
	case s.extras().user == "" && !s.info.Trusted:
		s.fault(530, "5.7.0", "Authentication required")
	default:
		return true
	}
	return false
}

func (s *session) auth(c wire.Command) {
	mechanism, initial, _ := strings.Cut(c.Arg, " ")
	mechanism = strings.ToUpper(mechanism)
	switch {
	case !s.listen.Submission:
		s.unsupported(c)
	case !s.inSequence():
	case !s.protected():
		s.fault(530, "5.7.0", "Must issue a STARTTLS command first")
	case s.extras().user != "":
		s.fault(503, "5.5.1", "You have signed in already")
	case s.tx != nil:
		s.fault(503, "5.5.1", "A mail transaction is in progress")
	case s.offered == nil || len(s.offered.Auth) == 0:
		s.unsupported(c)
	case !slices.Contains(s.offered.Auth, mechanism):
		s.fault(504, "5.5.4", "This mechanism is not offered")
	case s.server.failures.reached(s, s.service.Limits.AuthFailures):
		s.hangUp(421, "4.7.0", "Too many failed attempts to sign in from your network, please try again later")
	default:
		s.beginSignIn(mechanism, initial, c.Arg)
	}
}

func (s *session) beginSignIn(mechanism, initial, arg string) {
	if err := s.dial(s.budget(s.service.Limits.EnvelopeBudget)); err != nil {
		s.relay(s.lossReply(err))
		return
	}
	s.extend().signIn = &signIn{mechanism: mechanism}
	if initial != "" {
		s.extra.signIn.user = userOf(mechanism, initial)
	}
	s.converse([]byte("AUTH " + arg))
}

// respond passes a response on. Everything is one until the exchange ends, also what looks like a command.
func (s *session) respond(line []byte) {
	if s.extra.signIn.steps++; s.extra.signIn.steps > maxAuthSteps {
		s.cancelSignIn()
		s.hangUp(421, "4.7.0", "This exchange does not end")
		return
	}
	if s.extra.signIn.user == "" && string(line) != "*" {
		s.extra.signIn.user = userOf(s.extra.signIn.mechanism, string(line))
	}
	s.converse(line)
}

// converse relays a line of the exchange and the reply to it.
func (s *session) converse(line []byte) {
	r, err := s.backend.Converse(s.budget(s.service.Limits.EnvelopeBudget), line)
	switch {
	case err != nil:
		s.log().Warn("the backend was lost in AUTH", "error", err)
		s.dropBackend()
		s.extra.signIn = nil
		s.relay(s.failure(454, "4.7.0", "The mail server behind this one was lost, please try again later"))
	case r.Code == 334:
		s.relay(r)
	case r.Code == 235:
		s.signedIn(r)
	case r.Class() < 4:
		s.extra.signIn = nil
		s.relay(s.unexpected(r))
	default:
		s.notSignedIn(r, string(line) == "*")
	}
}

// signedIn makes the user known to the rules.
func (s *session) signedIn(r wire.Reply) {
	x := s.extra
	if x.user = x.signIn.user; x.user == "" {
		x.user = unknownUser
	}
	s.log().Info("signed in", "mechanism", x.signIn.mechanism, "user", x.user)
	x.signIn = nil
	g := *s.greeting
	g.AuthUser = x.user
	v := s.gate.Helo(s.budget(s.service.Limits.GreetingBudget), &g)
	s.greeting = &g
	s.b.delay += v.Delay
	if stops(v) {
		s.speak(v)
		s.over = true
		return
	}
	s.relay(r)
}

// notSignedIn counts what did not work, but not what the client has cancelled, nor the backend's own troubles.
func (s *session) notSignedIn(r wire.Reply, cancelled bool) {
	s.log().Info("sign-in failed", "mechanism", s.extra.signIn.mechanism, "code", r.Code)
	s.extra.signIn = nil
	if r.Class() == 5 && !cancelled {
		s.server.metrics.AuthFailures.Add(1)
		s.server.failures.note(s)
	}
	s.relay(r)
}

// cancelSignIn ends an exchange with the backend that the client's line has spoilt.
func (s *session) cancelSignIn() {
	s.extra.signIn = nil
	if _, err := s.backend.Converse(s.budget(s.service.Limits.EnvelopeBudget), []byte("*")); err != nil {
		s.dropBackend()
	}
}

// signOut forgets the user.
func (s *session) signOut() {
	if s.extra != nil {
		s.extra.user, s.extra.signIn = "", nil
	}
}

// abandonUser is for EHLO: a transaction ends, a user stays (RFC 4954, 4).
func (s *session) abandonUser(verb string) {
	s.abandon(verb)
	if s.extras().user == "" {
		s.releaseBackend() // it was told another name
	}
}
