package proxy

import (
	"errors"
	"slices"

	"gatepost/policy"
	"gatepost/proxy/wire"
)

// verbs has a method a verb. A verb that is not here is unknown.
var verbs = [...]func(*session, wire.Command){
	wire.HELO: (*session).helo, wire.EHLO: (*session).ehlo,
	wire.MAIL: (*session).mail, wire.RCPT: (*session).rcpt,
	wire.DATA: (*session).data, wire.BDAT: (*session).bdat,
	wire.RSET: (*session).rset, wire.NOOP: (*session).noop, wire.QUIT: (*session).quit,
	wire.VRFY: (*session).vrfy, wire.EXPN: (*session).expn, wire.HELP: (*session).help,
	wire.STARTTLS: (*session).starttls, wire.XCLIENT: (*session).xclient,
	wire.AUTH: (*session).auth, wire.ETRN: (*session).etrn, wire.ATRN: (*session).unsupported,
	wire.TURN: (*session).unsupported, wire.SEND: (*session).unsupported, wire.SOML: (*session).unsupported,
	wire.SAML: (*session).unsupported,
}

// obeyCommand obeys one command. BDAT is never dismissed here: its chunk has to be read off first.
func (s *session) obeyCommand(c wire.Command) {
	if c.Verb != wire.RCPT {
		s.settle()
	}
	switch {
	case c.Verb == wire.BDAT && !s.refused:
		s.bdat(c)
	case s.over: // settling told the client that the backend is gone
	case s.greeting == nil && foreign(c):
		s.log().Info("not an SMTP client", "command", c.Name)
		s.note = endNotSMTP
		s.hangUp(554, "5.5.1", "This is an SMTP server; closing the connection")
	case s.refused && c.Verb != wire.QUIT:
		s.fault(503, "5.5.1", "This connection was refused; only QUIT is left")
	case int(c.Verb) < len(verbs) && verbs[c.Verb] != nil:
		verbs[c.Verb](s, c)
	default:
		s.fault(500, "5.5.1", "Command not recognized")
	}
}

// foreign tells whether a first command is another protocol's. A browser can be made to send mail in the body of a
// POST; so the connection is closed and the rest never read as commands.
func foreign(c wire.Command) bool {
	return c.Verb == wire.Unknown && slices.Contains(foreignNames, c.Name)
}

var foreignNames = []string{"GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "TRACE", "CONNECT", "PRI", "PROXY"}

// clientHello is the first byte of a TLS record with a handshake message: no command starts with it.
const clientHello = 0x16

// inSequence answers commands that need a greeting first.
func (s *session) inSequence() bool {
	if s.greeting == nil {
		s.fault(503, "5.5.1", "Send HELO or EHLO first")
		return false
	}
	return true
}

// syntax answers a command whose arguments are wrong.
func (s *session) syntax(err error) {
	if e, ok := errors.AsType[*wire.SyntaxError](err); ok && e.Code != 0 {
		s.fault(e.Code, e.Enhanced, e.Text)
		return
	}
	s.fault(501, "5.5.4", err.Error())
}

func (s *session) rset(c wire.Command) {
	if c.Arg != "" {
		s.fault(501, "5.5.4", "RSET takes no argument")
		return
	}
	s.abandon("RSET")
	s.forgiving = false
	s.say(250, "2.0.0", "Ok")
}

func (s *session) noop(wire.Command) { s.say(250, "2.0.0", "Ok") }

func (s *session) quit(c wire.Command) {
	if c.Arg != "" {
		s.fault(501, "5.5.4", "QUIT takes no argument")
		return
	}
	s.abandon("QUIT")
	s.note = endQuit
	s.hangUp(221, "2.0.0", s.service.Hostname+" closing connection")
}

func (s *session) help(wire.Command) {
	s.say(214, "2.0.0", "RFC 5321 is spoken here: HELO EHLO MAIL RCPT DATA BDAT RSET NOOP VRFY QUIT STARTTLS")
}

// vrfy asks the backend where the operator lists VRFY. Else none is dialled for it: RFC 5321, 3.5.3 allows 252 at any
// time, and address harvesters would cost connections.
func (s *session) vrfy(c wire.Command) {
	e, _ := s.mta().Extensions()
	switch {
	case c.Arg == "":
		s.fault(501, "5.5.4", "VRFY needs an address")
	case e.VRFY && s.greeting != nil:
		s.ask("VRFY " + c.Arg)
	default:
		s.say(252, "2.5.0", "Cannot verify, but will take a message for it and try to deliver")
	}
}

func (s *session) expn(c wire.Command) {
	e, _ := s.mta().Extensions()
	s.askIf(e.EXPN, c)
}

func (s *session) etrn(c wire.Command) {
	e, _ := s.mta().Extensions()
	s.askIf(e.ETRN, c)
}

// askIf relays a command that is offered only where the operator lists it.
func (s *session) askIf(offered bool, c wire.Command) {
	switch {
	case !offered:
		s.unsupported(c)
	case !s.inSequence():
	case c.Arg == "":
		s.fault(501, "5.5.4", c.Name+" needs an argument")
	default:
		s.ask(c.Name + " " + c.Arg)
	}
}

// ask relays a command that has nothing to do with the transaction, and its reply.
func (s *session) ask(line string) {
	if !s.mayUse() {
		return
	}
	for i := range len(line) {
		if line[i] < ' ' || line[i] == 0x7f {
			s.fault(501, "5.5.4", "Control characters in the argument")
			return
		}
	}
	ctx := s.budget(s.service.Limits.EnvelopeBudget)
	s.dropForetold(nil)
	if err := s.dial(ctx); err != nil {
		s.relay(s.lossReply(err))
		return
	}
	if s.backend.Disclaim() {
		s.link = linkStale
	}
	r, err := s.backend.Command(ctx, []byte(line))
	switch {
	case err != nil:
		s.log().Warn("the backend was lost", "error", err)
		s.dropBackend()
		r = s.lossReply(err)
	case r.Class() == 3:
		r = s.unexpected(r)
	}
	s.relay(r)
}

func (s *session) unsupported(c wire.Command) {
	s.fault(502, "5.5.1", c.Name+" is not available here")
}

// abandon ends the transaction before its message was answered.
func (s *session) abandon(note string) {
	if s.tx == nil {
		return
	}
	s.conclude(policy.Ending{Note: note})
}
