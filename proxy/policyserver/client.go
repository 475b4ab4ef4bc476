package policyserver

import (
	"context"
	"net/netip"
	"strconv"

	"gatepost/filters"
	"gatepost/policy"
)

// connect begins the session of a client, unless the request is about the one that is there. An address and a port are a
// connection; before Postfix 3.0 there is no port, and a client that connects again counts as the same.
func (s *session) connect(ctx context.Context, _ step) (v policy.Verdict, standing answer) {
	client, submission := s.client(), s.submission()
	if s.gate != nil && s.info.AddrPort() == client && s.info.Submission == submission {
		return v, s.refused
	}
	note := s.conn.Note
	s.conn.Note = "another client"
	s.Leave()
	s.conn.Note = note
	now := s.server.clock.Now()
	s.info = &filters.Session{
		ID:       s.server.ids.Next(now),
		Client:   filters.ClientAt(client),
		Accepted: now,
	}
	s.info.SetVerifiedName(s.verifiedName())
	s.info.Trusted, s.info.Submission, s.info.AskedByMTA = s.conn.Service.Engine.Trusts(client.Addr()), submission, true
	s.gate = s.conn.Service.Engine.NewGate(s.info, s.conn.Service.Runtime)
	s.gate.Connect(ctx)
	return s.gate.Greet(ctx, false, 0), ""
}

// client is the client's address as Postfix writes it. Without one, it is on Postfix's own machine.
func (s *session) client() netip.AddrPort {
	port, err := strconv.ParseUint(s.request["client_port"], 10, 16)
	if err != nil {
		port = 0
	}
	address, err := netip.ParseAddr(s.request["client_address"])
	if err != nil {
		address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.AddrPortFrom(address.Unmap().WithZone(""), uint16(port))
}

// submission tells whether a user hands in mail of his own: who has signed in, who comes to a port that is for that
// (RFC 8314, 3), and Postfix's own machine.
func (s *session) submission() bool {
	port := s.request["server_port"]
	return s.request["sasl_username"] != "" || port == "587" || port == "465" || s.client().Addr().IsLoopback()
}

// verifiedName is the client's host name. Postfix tells none that it has not confirmed.
func (s *session) verifiedName() string {
	if name := s.request["client_name"]; name != "unknown" {
		return name
	}
	return ""
}

// helo publishes the client's greeting where it is another than before. RFC 5321, 4.1.4: that ends a transaction.
func (s *session) helo(ctx context.Context, _ step) (v policy.Verdict, standing answer) {
	g := s.newGreeting()
	if s.greeting != nil && sameGreeting(s.greeting, g) {
		return v, s.unheard
	}
	s.conclude("HELO")
	s.tx, s.greeting, s.unheard = nil, g, ""
	return s.gate.Helo(ctx, g), ""
}

func (s *session) newGreeting() *filters.Greeting {
	a := s.request
	g := &filters.Greeting{Name: a["helo_name"], Extended: filters.Known(a["protocol_name"] == "ESMTP"), AuthUser: a["sasl_username"]}
	if version := a["encryption_protocol"]; version != "" {
		// Postfix tells the subject of a verified certificate only.
		g.TLS = &filters.TLS{Version: version, Cipher: a["encryption_cipher"], PeerSubject: a["ccert_subject"]}
	}
	return g
}

func sameGreeting(a, b *filters.Greeting) bool {
	if (a.TLS == nil) != (b.TLS == nil) || a.TLS != nil && *a.TLS != *b.TLS {
		return false
	}
	return a.Name == b.Name && a.Extended == b.Extended && a.AuthUser == b.AuthUser
}
