package proxy

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"gatepost/filters"
	"gatepost/proxy/backend"
	"gatepost/proxy/wire"
)

// traceRoom is what the backend's limit leaves for the fields that we add on top of a message.
const traceRoom = 4 << 10

// offer is what the reply to EHLO announces: what the proxy can carry and every backend takes. A keyword of ours that
// a backend lacks would mean converting or dropping mail that was promised to pass.
func (s *session) offer() *backend.Extensions {
	e, _ := s.mta().Extensions()
	e.Auth = nil
	if s.listen.Submission && s.backend != nil {
		e = s.backend.Extensions()
	}
	e.SMTPUTF8 = e.SMTPUTF8 && e.EightBit // RFC 6531, 3.1: one needs the other
	e.BinaryMIME = e.BinaryMIME && s.service.LineEndings != wire.Strict
	e.RequireTLS = e.RequireTLS && s.extras().tls != nil && s.mta().Verifies() // RFC 8689, 2 and 4.2.1
	if e.Limits.Offered {
		e.Limits = e.Limits.WithRecipients(s.service.Limits.Recipients)
	}
	return s.service.share(e)
}

// sizeLimit is the smaller of our limit and the backend's.
func (s *session) sizeLimit() int64 {
	limit := int64(s.service.Limits.MessageSize)
	if s.offered != nil && s.offered.Size > 0 {
		limit = min(limit, max(s.offered.Size-traceRoom, 1))
	}
	return limit
}

func (s *session) helo(c wire.Command) { s.hello(c, false) }

func (s *session) ehlo(c wire.Command) { s.hello(c, true) }

// hello takes the client's name. RFC 5321, 4.1.4: it may come again, and is a RSET then.
func (s *session) hello(c wire.Command, extended bool) {
	name, ok := heloName(c.Arg)
	if !ok {
		s.fault(501, "5.5.4", c.Name+" needs the name of your host")
		return
	}
	s.abandonUser(c.Name)
	g := &filters.Greeting{Name: name, Extended: filters.Known(extended), TLS: s.tlsInfo(), AuthUser: s.extras().user}
	s.extras().claims.apply(g)
	s.b.shown.greeting.Store(g)
	s.reach(StageHelo)
	defer s.reach(StageCommands)
	v := s.gate.Helo(s.budget(s.service.Limits.GreetingBudget), g)
	s.b.delay += v.Delay
	if stops(v) {
		s.greeting = nil
		s.speak(v)
		return
	}
	s.greeting, s.offered = g, nil
	if extended {
		if s.listen.Submission && s.protected() && s.backend == nil && !s.callAhead() {
			return
		}
		s.offered = s.offer()
	}
	var room [24]string // more keywords than there are
	s.b.out = s.helloReply(room[:0]).AppendTo(s.b.out)
}

// heloName is the first word: some senders add more, and none is refused for it. What is in it goes to backends,
// trace fields and logs, so it has no control characters.
func heloName(arg string) (string, bool) {
	name, _, _ := strings.Cut(arg, " ")
	if name == "" || len(name) > 255 || !utf8.ValidString(name) {
		return "", false
	}
	for i := range len(name) {
		if name[i] <= ' ' || name[i] == 0x7f {
			return "", false
		}
	}
	return name, true
}

// helloReply has its lines in room, as far as they fit.
func (s *session) helloReply(room []string) wire.Reply {
	lines := append(room, s.service.Hostname)
	add := func(offered bool, keyword string) {
		if offered {
			lines = append(lines, keyword)
		}
	}
	if e := s.offered; e != nil {
		add(e.Pipelining, "PIPELINING")
		add(e.Size >= 0, "SIZE "+strconv.FormatInt(s.sizeLimit(), 10))
		add(s.listen.tls != nil && s.extras().tls == nil, "STARTTLS")
		add(e.EnhancedCodes, "ENHANCEDSTATUSCODES")
		add(e.EightBit, "8BITMIME")
		add(e.SMTPUTF8, "SMTPUTF8")
		add(e.DSN, "DSN")
		add(e.Chunking, "CHUNKING")
		add(e.BinaryMIME, "BINARYMIME")
		add(e.RequireTLS, "REQUIRETLS")
		if len(e.Auth) > 0 {
			add(true, "AUTH "+strings.Join(e.Auth, " "))
		}
		if e.Limits.Offered {
			add(true, e.Limits.String())
		}
		add(e.VRFY, "VRFY")
		add(e.EXPN, "EXPN")
		add(e.ETRN, "ETRN")
		for _, k := range e.Passed {
			add(true, k.String())
		}
		add(s.vouches, "XCLIENT "+xclientAttributes)
		add(e.Help, "HELP")
	}
	return wire.Reply{Code: 250, Lines: lines}
}
