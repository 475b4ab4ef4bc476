package milter

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/emersion/go-milter"

	"gatepost/filters"
	"gatepost/filters/milter/wire"
	"gatepost/proxy/called"
)

// connect begins the session of a client. A connection can serve several, one after the other: behind QUIT_NC, or where
// an MTA learns that its peer speaks for another client (XCLIENT) and says CONNECT again.
func (s *session) connect(data []byte) error {
	c, err := wire.ParseConnect(data)
	if err != nil {
		return err
	}
	s.conn.Note = "another client"
	s.Leave()
	s.macros.forget(withHelo)
	client := s.clientAddress(c)
	now := s.server.clock.Now()
	s.info = &filters.Session{
		ID:       s.server.ids.Next(now),
		Client:   filters.ClientAt(client),
		Accepted: now,
	}
	s.info.SetVerifiedName(s.verifiedName(c))
	s.info.Trusted, s.info.AskedByMTA = s.service().Engine.Trusts(client.Addr()), true
	// The MTA's own machine hands in mail too: cron, web applications, and what comes without SMTP (non_smtpd_milters).
	s.info.Submission = client.Addr().IsLoopback() || s.conn.Entry.takesSubmission(s.macros.get(daemonName))
	s.serial = 0
	s.begin()
	return nil
}

// begin opens the gate, and answers.
func (s *session) begin() {
	ctx := s.within(s.service().Limits.GreetingBudget)
	s.gate = s.service().Engine.NewGate(s.info, s.service().Runtime)
	s.gate.Connect(ctx)
	start := len(s.out)
	if _, refused := s.verdict(s.gate.Greet(ctx, false, 0)); refused {
		s.refused = append([]byte(nil), s.out[start:]...)
	}
}

// clientAddress is the client's, as the MTA tells it: in the command, in some spelling, or in macros. Without any it is
// on the MTA's own machine: a UNIX socket, a pipe, or no connection at all.
func (s *session) clientAddress(c wire.Connect) netip.AddrPort {
	local := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
	if c.Family == milter.FamilyUnix {
		return local
	}
	port := c.Port
	if n, err := strconv.ParseUint(s.macros[withConnect][clientPort], 10, 16); err == nil && port == 0 {
		port = uint16(n)
	}
	for _, text := range []string{c.Address, s.macros[withConnect][clientAddr]} {
		if prefix, rest, found := strings.Cut(text, ":"); found && strings.EqualFold(prefix, "IPv6") {
			text = rest
		}
		if a, err := netip.ParseAddr(text); err == nil {
			return netip.AddrPortFrom(a.Unmap().WithZone(""), port)
		}
	}
	return local
}

// verifiedName is the client's host name where the MTA says that it has confirmed it: sendmail with {client_resolve},
// Postfix by telling no other.
func (s *session) verifiedName(c wire.Connect) string {
	resolved := s.macros[withConnect][clientResolve]
	confirmed := resolved == "OK" || resolved == "" && s.fromPostfix()
	if !confirmed || strings.HasPrefix(c.Name, "[") || strings.EqualFold(c.Name, "unknown") {
		return ""
	}
	return printable(c.Name)
}

func (s *session) fromPostfix() bool {
	return strings.HasPrefix(s.macros[withConnect][product], "Postfix")
}

// hasClient tells whether there is one whose command can be obeyed; if not, it answers.
func (s *session) hasClient(command string) bool {
	switch {
	case s.gate == nil:
		s.misplaced(command)
	case s.refused != nil: // the MTA may ask on, the answer stays
		s.out = append(s.out, s.refused...)
	default:
		return true
	}
	return false
}

// helo takes the client's greeting. RFC 5321, 4.1.4: it may come again, and ends a transaction.
func (s *session) helo(data []byte) {
	if !s.hasClient("HELO") {
		return
	}
	s.abandon("HELO")
	s.macros.forget(withMail)
	name, _, _ := strings.Cut(wire.Text(data), " ")
	s.greeting = s.newGreeting(printable(name))
	s.verdict(s.gate.Helo(s.within(s.service().Limits.GreetingBudget), s.greeting))
}

// newGreeting is what is known of the client behind HELO, and what AUTH has added by MAIL.
func (s *session) newGreeting(name string) *filters.Greeting {
	g := &filters.Greeting{Name: name, AuthUser: printable(s.macros[withMail][authUser])}
	if with := s.macros.get(protocol); with != "" { // sendmail's $r: ESMTP, ESMTPS, ESMTPA, ...
		g.Extended = filters.Known(strings.HasPrefix(with, "ESMTP") || strings.HasPrefix(with, "UTF8SMTP"))
	}
	if version := s.macros.get(tlsVersion); version != "" {
		g.TLS = &filters.TLS{Version: printable(version), Cipher: printable(s.macros.get(tlsCipher))}
		// Postfix tells the subject of a verified certificate only, sendmail says in {verify} whether it is.
		if verified := s.macros.get(certVerified); verified == "OK" || verified == "" && s.fromPostfix() {
			g.TLS.PeerSubject = printable(s.macros.get(certSubject))
		}
	}
	return g
}

// sameGreeting compares by what newGreeting fills in.
func sameGreeting(a, b *filters.Greeting) bool {
	if a == nil || (a.TLS == nil) != (b.TLS == nil) || a.TLS != nil && *a.TLS != *b.TLS {
		return false
	}
	return a.Name == b.Name && a.Extended == b.Extended && a.AuthUser == b.AuthUser
}

// Bounds of what clients and macros name, in bytes.
const (
	maxName    = 255
	maxAddress = 1024
)

// printable keeps what goes into records, logs and other protocols short, and free of control characters.
func printable(text string) string { return called.Clean(text, maxName) }
