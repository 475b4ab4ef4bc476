package proxy

import (
	"crypto/tls"
	"fmt"
	"strings"
	"time"

	"gatepost/filters"
	"gatepost/proxy/wire"
)

// loadTLS reads a certificate and its key; without a file for the key it is looked for in that of the certificate.
func loadTLS(certificate, key string) (*tls.Config, error) {
	if key == "" {
		key = certificate
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", certificate, err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{pair},
		// A ticket is a secret that outlives the session, for a client that rarely comes back.
		SessionTicketsDisabled: true,
	}, nil
}

func (s *session) starttls(c wire.Command) {
	switch {
	case s.listen.tls == nil:
		s.unsupported(c)
	case !s.inSequence():
	case s.tls != nil:
		s.fault(503, "5.5.1", "TLS is active already")
	case c.Arg != "":
		s.fault(501, "5.5.4", "STARTTLS takes no argument")
	default:
		s.handshake()
	}
}

// handshake keeps its goroutine: a handshake that was interrupted cannot be resumed.
func (s *session) handshake() {
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

	over := tls.Server(s.conn, s.listen.tls)
	err := s.patiently(time.Now().Add(time.Duration(s.service.Limits.HandshakeTimeout)), over.Handshake)
	if err != nil {
		s.log().Info("TLS handshake failed", "error", err)
		s.broken, s.over, s.note = true, true, "TLS handshake failed"
		return
	}
	s.tls = over
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

// tlsInfo is what filters and trace fields know of the protection.
func tlsInfo(c *tls.Conn) *filters.TLS {
	if c == nil {
		return nil
	}
	state := c.ConnectionState()
	return &filters.TLS{
		Version:    strings.Replace(tls.VersionName(state.Version), " ", "v", 1),
		Cipher:     tls.CipherSuiteName(state.CipherSuite),
		ServerName: state.ServerName,
	}
}
