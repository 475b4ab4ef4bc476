package proxy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"gatepost/filters"
	"gatepost/proxy/wire"
)

// xclientAttributes are the attributes of XCLIENT that we take, as announced.
const xclientAttributes = "NAME ADDR PORT PROTO HELO"

// claims is what a listed peer said about its client with XCLIENT (postfix.org/XCLIENT_README.html).
type claims struct {
	name string // verified; empty: unknown
	addr netip.Addr
	port uint16
	helo string // what the client said to the peer; empty: our peer's EHLO counts
	smtp bool   // the client said HELO to the peer
}

// apply puts what the peer said in the place of what it does itself.
func (c *claims) apply(g *filters.Greeting) {
	if c != nil && c.helo != "" {
		g.Name, g.Extended = c.helo, filters.Known(!c.smtp)
	}
}

// xclient begins the session anew, with another client.
func (s *session) xclient(c wire.Command) {
	switch {
	case !s.vouches:
		s.fault(550, "5.7.0", "XCLIENT is not available to you")
		return
	case s.tx != nil:
		s.fault(503, "5.5.1", "A mail transaction is in progress")
		return
	}
	claims, err := parseXClient(c.Arg, s.extras().claims, s.info)
	if err != nil {
		s.fault(501, "5.5.4", err.Error())
		return
	}
	s.gate.Close("XCLIENT")
	s.gate = nil
	s.releaseBackend()
	s.signOut()
	s.server.leaveClient(s)
	s.greeting, s.offered, s.refused, s.extend().claims = nil, nil, false, claims
	peer := s.info.Peer()
	info := &filters.Session{Client: filters.ClientAt(netip.AddrPortFrom(claims.addr, claims.port)), Through: &peer, To: s.info.To}
	info.SetVerifiedName(claims.name)
	s.introduce(info)
	s.phase = phaseConnect
}

// parseXClient reads NAME=value pairs. What is not given stays as it was.
func parseXClient(arg string, before *claims, info *filters.Session) (*claims, error) {
	c := &claims{name: info.VerifiedName(), addr: info.Client.IP, port: uint16(info.Client.Port)}
	if before != nil {
		c.helo, c.smtp = before.helo, before.smtp
	}
	pairs := strings.Fields(arg)
	if len(pairs) == 0 {
		return nil, fmt.Errorf("XCLIENT needs attributes")
	}
	for _, pair := range pairs {
		key, value, found := strings.Cut(pair, "=")
		if !found {
			return nil, fmt.Errorf("an attribute without a value")
		}
		value, err := wire.ParseXtext(value)
		if err != nil {
			return nil, fmt.Errorf("a value that is not xtext")
		}
		if err := c.set(strings.ToUpper(key), value); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *claims) set(key, value string) error {
	unknown := strings.EqualFold(value, "[UNAVAILABLE]") || strings.EqualFold(value, "[TEMPUNAVAIL]")
	if unknown {
		value = ""
	}
	switch key {
	case "NAME":
		name, ok := heloName(value)
		if !ok && !unknown {
			return fmt.Errorf("bad NAME")
		}
		c.name = name
	case "ADDR":
		// The prefix is required for IPv6 and, by some, sent for IPv4.
		text := value
		if len(text) > 5 && strings.EqualFold(text[:5], "IPV6:") {
			text = text[5:]
		}
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return fmt.Errorf("bad ADDR")
		}
		c.addr = addr.Unmap()
	case "PORT":
		port, err := strconv.ParseUint(value, 10, 16)
		if err != nil && !unknown {
			return fmt.Errorf("bad PORT")
		}
		c.port = uint16(port)
	case "PROTO":
		if !unknown && !strings.EqualFold(value, "SMTP") && !strings.EqualFold(value, "ESMTP") {
			return fmt.Errorf("bad PROTO")
		}
		c.smtp = strings.EqualFold(value, "SMTP")
	case "HELO":
		helo, ok := heloName(value)
		if !ok && !unknown {
			return fmt.Errorf("bad HELO")
		}
		c.helo = helo
	case "LOGIN": // we know nothing of the peer's users
	default:
		return fmt.Errorf("unknown attribute; known are %s", xclientAttributes)
	}
	return nil
}
