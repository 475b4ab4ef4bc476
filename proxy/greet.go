package proxy

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"gatepost/filters"
	"gatepost/rules"
)

// accepted is the first run of a session: is the peer the client?
func (s *session) accepted() (w wait, waits bool) {
	s.b.began = time.Now()
	s.introduce(s.info)
	if networks(s.listen.ProxyFrom).contain(s.info.Peer().Addr()) {
		s.phase, s.since = phaseHeader, momentOf(s.b.began)
		return wait{}, false
	}
	s.phase = s.firstPhase()
	return wait{}, false
}

// firstPhase is what comes when the client's address is known.
func (s *session) firstPhase() phase {
	if s.listen.ImplicitTLS {
		return phaseTLS
	}
	return phaseConnect
}

// introduce completes the description of the client that filters get, and publishes it. info has the ends of the
// connection, and what a peer has told of the client.
func (s *session) introduce(info *filters.Session) {
	now := s.server.clock.Now()
	s.server.watchClock(now)
	info.ID = s.server.ids.Next(now)
	info.Trusted, info.Submission = s.service.Engine.Trusts(info.Client.IP), s.listen.Submission
	info.Accepted = now
	s.info = info
	s.b.shown.info.Store(s.info)
	s.b.shown.greeting.Store(nil)
	s.reach(StageConnect)
}

// connect starts the session proper, now that the client's address is known: after accept, a PROXY header, or XCLIENT.
func (s *session) connect() (w wait, waits bool) {
	if s.extras().claims == nil {
		s.vouches = networks(s.listen.XClientFrom).contain(s.info.Client.IP)
	}
	switch {
	case !s.server.enterClient(s):
		s.server.metrics.RefusedPerClient.Add(1)
		return s.turnAway("4.7.0", "Too many connections from your network, please try again later"), true
	case s.server.closing.Load():
		return s.turnAway("4.3.2", "Shutting down, please try again"), true
	case s.listen.Submission && s.server.failures.reached(s, s.service.Limits.AuthFailures):
		return s.turnAway("4.7.0", "Too many failed attempts to sign in from your network, please try again later"), true
	case s.mta() == nil || !s.mta().Seen():
		s.server.metrics.RefusedNoBackend.Add(1)
		return s.turnAway("4.3.2", "The mail server behind this one has not been reached yet, please try again later"), true
	}
	s.reach(StageGreeting)
	s.gate = s.service.Engine.NewGate(s.info, s.service.Runtime)
	pause := s.gate.Connect(s.budget(s.service.Limits.GreetingBudget))
	s.phase, s.since = phasePause, now()
	// Behind XCLIENT the client has been greeted long ago.
	if pause > 0 && s.extras().claims == nil && len(s.b.unread()) == 0 {
		return wait{input: true, limit: pause}, true
	}
	return wait{}, false
}

// turnAway sends a client away before it is greeted. It has a gate all the same, for the record: its reply has an id.
func (s *session) turnAway(enhanced, text string) wait {
	if s.gate == nil {
		s.gate = s.service.Engine.NewGate(s.info, s.service.Runtime)
	}
	s.gate.HungUp(rules.Reply{Code: 421, Enhanced: enhanced, Text: text})
	s.b.out = s.failure(421, enhanced, text).AppendTo(s.b.out)
	s.note = endTurnedAway
	return s.finish()
}

// greet ends the pause before the greeting. A client that has spoken by then did not wait for it.
func (s *session) greet(why wake) (w wait, waits bool) {
	waited := s.since.since()
	s.renew()
	switch {
	case why == wakeShutdown || s.mustNotWait():
		return s.turnAway("4.3.2", "Shutting down, please try again"), true
	case why == wakeInput:
		if n, err := s.read(); n == 0 && !errors.Is(err, errAgain) {
			return s.left(endLeftBeforeGreeting), true
		}
	}
	talked := s.extras().claims == nil && len(s.b.unread()) > 0
	v := s.gate.Greet(s.budget(s.service.Limits.GreetingBudget), talked, waited)
	s.b.delay += v.Delay
	if stops(v) {
		s.speak(v)
		// RFC 5321, 3.1: after a 554 greeting the client may say QUIT, everything else is 503.
		s.refused = true
	} else {
		s.sayGreeting()
	}
	s.phase, s.since = phaseCommands, now()
	s.reach(StageCommands)
	switch {
	case s.b.delay > 0:
		return s.holdReplies(), true
	case s.over:
		return s.finish(), true
	}
	s.b.dry = s.extras().tls == nil && len(s.b.unread()) == 0 // it waits for the greeting: a read would find nothing
	return wait{}, false
}

// sayGreeting has no enhanced code: RFC 2034, 4 exempts it.
func (s *session) sayGreeting() {
	s.b.out = append(append(append(s.b.out, "220 "...), s.service.Hostname...), " ESMTP\r\n"...)
}

// addrPort is an address of a TCP connection, IPv4 as such; zones mean nothing to others.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}
