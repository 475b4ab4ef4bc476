package backendtest

import (
	"bytes"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

func (s *Session) mail(arg string) bool {
	from, ok := cutPrefixFold(arg, "FROM:")
	address, okPath := path(from)
	switch {
	case s.Helo == "":
		return s.answer("503 5.5.1 Error: send HELO/EHLO first")
	case s.From != "":
		return s.answer("503 5.5.1 Error: nested MAIL command")
	case !ok || !okPath:
		return s.answer("501 5.5.4 Syntax: MAIL FROM:<address>")
	}
	s.From = from
	s.message = &Message{Client: s.Client, ClientName: s.ClientName, Helo: s.Helo, Extended: s.Extended, Login: s.Login, TLS: s.TLS,
		Attributes: maps.Clone(s.attributes), From: from, Sender: address}
	return s.answer("250 2.1.0 Ok")
}

func (s *Session) rcpt(arg string) bool {
	to, ok := cutPrefixFold(arg, "TO:")
	address, okPath := path(to)
	switch {
	case s.From == "":
		return s.answer("503 5.5.1 Error: need MAIL command")
	case !ok || !okPath || address == "":
		return s.answer("501 5.5.4 Syntax: RCPT TO:<address>")
	case !s.takesMailFor(address):
		return s.answer("554 5.7.1 <" + address + ">: Relay access denied")
	case len(s.server.Mailboxes) > 0 && !containsFold(s.server.Mailboxes, address):
		return s.answer("550 5.1.1 <" + address + ">: Recipient address rejected: User unknown in local recipient table")
	}
	s.To = append(s.To, to)
	s.message.To = append(s.message.To, to)
	s.message.Recipients = append(s.message.Recipients, address)
	return s.answer("250 2.1.5 Ok")
}

func (s *Session) takesMailFor(address string) bool {
	client := s.Client.Addr().Unmap()
	if slices.ContainsFunc(s.server.Relay, func(p netip.Prefix) bool { return p.Contains(client) }) {
		return true
	}
	domain := strings.ToLower(address[strings.LastIndexByte(address, '@')+1:])
	if len(s.server.Domains) == 0 {
		return !strings.HasSuffix(domain, ".invalid")
	}
	return domain == strings.ToLower(address) || containsFold(s.server.Domains, domain)
}

// data takes a message up to CRLF.CRLF and nothing else.
func (s *Session) data() bool {
	switch {
	case s.From == "":
		return s.answer("503 5.5.1 Error: need MAIL command")
	case len(s.To) == 0:
		return s.answer("554 5.5.1 Error: no valid recipients")
	case !s.answer("354 End data with <CR><LF>.<CR><LF>"):
		return false
	}
	m := s.message
	lineStart := true
	for {
		piece, err := s.r.ReadSlice('\n')
		if err != nil && len(piece) == 0 {
			return false
		}
		m.Raw = append(m.Raw, piece...)
		if lineStart && string(piece) == ".\r\n" {
			return s.finish()
		}
		if lineStart && piece[0] == '.' {
			piece = piece[1:]
		}
		m.Data = append(m.Data, piece...)
		lineStart = bytes.HasSuffix(m.Raw, []byte("\r\n"))
		if !s.interrupted(int64(len(m.Raw))) {
			return false
		}
	}
}

// bdat takes a chunk (RFC 3030).
func (s *Session) bdat(arg string) bool {
	sizeText, last, _ := strings.Cut(arg, " ")
	size, err := strconv.ParseInt(sizeText, 10, 64)
	if err != nil || size < 0 || last != "" && !strings.EqualFold(last, "LAST") {
		return s.answer("501 5.5.4 Syntax: BDAT count [LAST]")
	}
	if len(s.To) == 0 {
		if _, err := io.CopyN(io.Discard, s.r, size); err != nil {
			return false
		}
		return s.answer("554 5.5.1 Error: no valid recipients")
	}
	m := s.message
	m.BDAT = true
	for left := size; left > 0; {
		piece := make([]byte, min(left, 32<<10))
		if _, err := io.ReadFull(s.r, piece); err != nil {
			return false
		}
		left -= int64(len(piece))
		m.Raw = append(m.Raw, piece...)
		if !s.interrupted(int64(len(m.Raw))) {
			return false
		}
	}
	if last == "" {
		return s.answer("250 2.0.0 Ok: " + strconv.FormatInt(size, 10) + " bytes")
	}
	m.Data = bytes.Clone(m.Raw)
	return s.finish()
}

// interrupted lets During have its say; it is false when the session is over.
func (s *Session) interrupted(received int64) bool {
	if s.server.During == nil {
		return true
	}
	text := s.server.During(s, received)
	return text == "" || s.answer(text)
}

// finish answers the end of a message.
func (s *Session) finish() bool {
	m := s.message
	s.reset()
	s.nonMail = 0
	if limit := s.server.MaxSize; limit > 0 && int64(len(m.Data)) > limit {
		return s.answer("552 5.3.4 Error: message file too big")
	}
	if s.server.Answer != nil {
		if text := s.server.Answer(s, "."); text != "" {
			return s.answer(text)
		}
	}
	return s.answer(s.server.deliver(m))
}

// path takes the address out of "<a@b> PARAM=VALUE".
func path(s string) (address string, ok bool) {
	s = strings.TrimSpace(s)
	end := strings.IndexByte(s, '>')
	if !strings.HasPrefix(s, "<") || end < 0 {
		return "", false
	}
	return s[1:end], true
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

func containsFold(list []string, s string) bool {
	return slices.ContainsFunc(list, func(e string) bool { return strings.EqualFold(e, s) })
}
