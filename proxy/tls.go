package proxy

import (
	"crypto/tls"
	"strings"
	"time"

	"gatepost/filters"
	"gatepost/proxy/wire"
)

func (s *session) starttls(c wire.Command) {
	switch {
	case s.extras().tls != nil:
		s.fault(503, "5.5.1", "TLS is active already")
	case s.listen.tls == nil:
		s.unsupported(c)
	case !s.inSequence():
	case c.Arg != "":
		s.fault(501, "5.5.4", "STARTTLS takes no argument")
	default:
		s.secure()
	}
}

// secure goes over to TLS.
func (s *session) secure() {
	s.abandon("STARTTLS")
	s.releaseBackend()
	s.say(220, "2.0.0", "Ready to start TLS")
	if !s.flush() {
		s.over = true
		return
	}
	// RFC 3207, 4.2: forget all that was said in the clear. What the client (or somebody between) has sent behind
	// STARTTLS must not be taken for a part of the protected session.
	s.b.drop()
	s.greeting, s.offered = nil, nil
	s.signOut()
	s.handshake()
}

// beginTLS is the start of a connection that is TLS from its first byte (RFC 8314, 3.3).
func (s *session) beginTLS(why wake) (w wait, waits bool) {
	switch {
	case why == wakeTime || why == wakeShutdown:
		return s.left(endNoHandshake), true
	case why != wakeInput && len(s.b.unread()) == 0:
		return wait{input: true, limit: time.Duration(s.service.Limits.HandshakeTimeout)}, true
	}
	if rest := s.b.unread(); len(rest) > 0 { // it came with the PROXY header
		s.conn.putBack(rest)
		s.b.drop()
	}
	if s.handshake(); s.over {
		return s.finish(), true
	}
	s.phase = phaseConnect
	return wait{}, false
}

// handshake keeps its goroutine: a handshake that was interrupted cannot be resumed.
func (s *session) handshake() {
	over := tls.Server(&s.conn, s.listen.tls.current().config)
	err := s.patiently(time.Now().Add(time.Duration(s.service.Limits.HandshakeTimeout)), over.Handshake)
	if err != nil {
		s.log().Info("TLS handshake failed", "error", err)
		s.broken, s.over, s.note = true, true, endHandshakeFailed
		return
	}
	s.extend().tls = over
	s.b.dry = false
	s.server.metrics.TLS.Add(1)
}

// patiently calls f with reads that wait until the deadline.
func (s *session) patiently(deadline time.Time, f func() error) error {
	s.conn.patient = true
	defer s.impatient()
	if err := s.conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	if s.server.killed.Load() { // its interruption may have come before our deadline
		return errKilled
	}
	return f()
}

// tlsInfo is what filters and trace fields know of the protection; nil: there is none.
func (s *session) tlsInfo() *filters.TLS {
	over := s.extras().tls
	if over == nil {
		return nil
	}
	state := over.ConnectionState()
	return &filters.TLS{
		Version:     strings.Replace(tls.VersionName(state.Version), " ", "v", 1),
		Cipher:      tls.CipherSuiteName(state.CipherSuite),
		ServerName:  state.ServerName,
		PeerSubject: s.listen.tls.loaded.Load().subject(state),
	}
}
