package proxy

import (
	"strings"
	"time"
)

// traceField is a Received field (RFC 5321, 4.4) for backends that do not learn the client's address in another way.
// What the client said about itself stands in it only as far as it cannot be taken for something else.
func (s *session) traceField() []byte {
	g := s.greeting
	var b []byte
	b = append(b, "Received: from "...)
	b = append(b, traceName(g.Name)...)
	b = append(b, " ("...)
	if name := s.info.VerifiedName(); name != "" {
		b = append(append(b, traceName(name)...), ' ')
	}
	b = append(b, '[')
	if a := s.info.Client.IP; a.Is6() {
		b = append(b, "IPv6:"...)
		b = a.AppendTo(b)
	} else {
		b = a.AppendTo(b)
	}
	b = append(b, "])\r\n\tby "...)
	b = append(b, s.service.Hostname...)
	b = append(b, " (Gatepost) with "...)
	b = append(b, s.protocol()...)
	b = append(b, " id "...)
	b = append(b, s.tx.envelope.ID...)
	b = append(b, ";\r\n\t"...)
	b = s.server.clock.Now().AppendFormat(b, time.RFC1123Z)
	return append(b, "\r\n"...)
}

// protocol is the "with" value (RFC 3848, RFC 6531).
func (s *session) protocol() string {
	if !s.greeting.SaidEHLO() {
		return "SMTP"
	}
	name := "ESMTP"
	if s.tx.envelope.UTF8 {
		name = "UTF8SMTP"
	}
	if s.greeting.TLS != nil {
		name += "S"
	}
	if s.greeting.AuthUser != "" {
		name += "A"
	}
	return name
}

// traceName keeps what can stand in a domain or an address literal. Everything else, comments and separators above all,
// becomes a question mark.
func traceName(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune(".-_:[]", r):
			return r
		}
		return '?'
	}, name)
}
