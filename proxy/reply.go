package proxy

import (
	"bytes"
	"strings"
	"time"

	"gatepost/policy"
	"gatepost/proxy/wire"
	"gatepost/rules"
)

// say appends a reply of ours.
func (s *session) say(code int, enhanced, text string) {
	s.b.out = wire.NewReply(code, enhanced, text).AppendTo(s.b.out)
}

// relay appends a reply of the backend's as it is. After a 421 the backend is gone, and so are we.
func (s *session) relay(r wire.Reply) {
	s.b.out = r.AppendTo(s.b.out)
	if r.Code == 421 {
		s.dropBackend()
		s.over = true
	}
}

// fault answers a command that is wrong, and counts it.
func (s *session) fault(code int, enhanced, text string) {
	if s.errors++; int(s.errors) > s.service.Limits.Errors {
		s.server.metrics.LimitErrors.Add(1)
		s.hangUp(421, "4.7.0", "Too many errors in one session")
		return
	}
	s.say(code, enhanced, text)
}

// hangUp says a last word.
func (s *session) hangUp(code int, enhanced, text string) {
	s.say(code, enhanced, text)
	if code >= 400 && s.gate != nil {
		s.gate.HungUp(rules.Reply{Code: code, Enhanced: enhanced, Text: text})
	}
	s.over = true
}

// flush writes all replies at once. False: the client is gone.
func (s *session) flush() bool {
	if len(s.b.out) == 0 {
		return !s.broken
	}
	s.b.since = time.Now()
	if s.broken {
		s.b.out = s.b.out[:0]
		return false
	}
	var err error
	if over := s.extras().tls; over != nil {
		_, err = over.Write(s.b.out)
	} else {
		_, err = s.conn.Write(s.b.out)
	}
	s.b.out = s.b.out[:0]
	s.broken = err != nil
	return err == nil
}

// flushFinal is flush for the final reply to a message. If the client's next command is here already, the reply may leave
// in one segment with the next one, which wakes the client once. The kernel has it at once all the same, and waits for no
// more than 200 ms.
func (s *session) flushFinal() bool {
	if s.extras().tls == nil && s.conn.fd >= 0 && !s.broken && len(s.b.out) > 0 && bytes.IndexByte(s.b.unread(), '\n') >= 0 {
		n := writeSoon(s.conn.fd, s.b.out)
		s.b.out = s.b.out[:copy(s.b.out, s.b.out[n:])]
	}
	return s.flush()
}

// id names the transaction, or the session, in a reply: what the postmaster finds the record by.
func (s *session) id() string {
	if s.tx != nil {
		return s.tx.envelope.ID
	}
	return s.info.ID
}

// failure is a reply of ours that is not about the client's syntax: it names the record, and whom to ask.
func (s *session) failure(code int, enhanced, text string) wire.Reply {
	r := s.service.Engine.Sign(rules.Reply{Code: code, Enhanced: enhanced, Text: text}, s.id())
	return wire.NewReply(r.Code, r.Enhanced, r.Text)
}

// stops tells whether a verdict ends what it is about. What is not known here must not let mail pass.
func stops(v policy.Verdict) bool { return v.Action != 0 && v.Action != rules.Discard }

// speak gives the client the reply of a verdict that stops, and returns it.
func (s *session) speak(v policy.Verdict) wire.Reply {
	if v.Action == rules.Drop {
		s.over = true
		return wire.Reply{}
	}
	r := s.verdictReply(v)
	s.b.out = r.AppendTo(s.b.out)
	s.over = s.over || v.Close || r.Code == 421
	return r
}

func (s *session) verdictReply(v policy.Verdict) wire.Reply {
	if class := v.Reply.Code / 100; class != 4 && class != 5 {
		return s.failure(451, "4.3.0", "Not accepted now, please try again later")
	}
	return wire.NewReply(v.Reply.Code, v.Reply.Enhanced, v.Reply.Text)
}

// record is a reply as the journal keeps it.
func record(r wire.Reply) rules.Reply {
	if r.Code == 0 {
		return rules.Reply{}
	}
	enhanced := r.Enhanced()
	if enhanced == "" {
		return rules.Reply{Code: r.Code, Text: strings.Join(r.Lines, "\n")}
	}
	lines := make([]string, len(r.Lines))
	for i, line := range r.Lines {
		rest, found := strings.CutPrefix(line, enhanced)
		if !found { // not on every line: keep the text as it was sent
			return rules.Reply{Code: r.Code, Text: strings.Join(r.Lines, "\n")}
		}
		lines[i] = strings.TrimPrefix(rest, " ")
	}
	return rules.Reply{Code: r.Code, Enhanced: enhanced, Text: strings.Join(lines, "\n")}
}
