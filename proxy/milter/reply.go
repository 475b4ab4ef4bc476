package milter

import (
	"time"

	"github.com/emersion/go-milter"

	"gatepost/filters/milter/wire"
	"gatepost/policy"
	smtp "gatepost/proxy/wire"
	"gatepost/rules"
)

// proceed lets the MTA go on.
func (s *session) proceed() { s.respond(milter.ActContinue) }

func (s *session) respond(code milter.ActionCode) { s.out = wire.Append[string](s.out, byte(code)) }

// stops tells whether a verdict ends what it is about. What is not known here must not let mail pass.
func stops(v policy.Verdict) bool { return v.Action != 0 && v.Action != rules.Discard }

// verdict answers a command, and tells whether that was a refusal; reply is what the client is told then.
func (s *session) verdict(v policy.Verdict) (reply rules.Reply, refused bool) {
	s.linger(v.Delay)
	if !stops(v) {
		s.proceed()
		return rules.Reply{}, false
	}
	reply = s.replyOf(v)
	s.refuse(reply)
	return reply, true
}

// replyOf is what a verdict that stops says to the client.
func (s *session) replyOf(v policy.Verdict) rules.Reply {
	switch class := v.Reply.Code / 100; {
	case v.Action == rules.Drop: // no milter can close the client's connection without a word; with 421 the MTA does
		return s.sign(421, "4.7.0", "Closing the connection")
	case class != 4 && class != 5:
		return s.sign(451, "4.3.0", "Not accepted now, please try again later")
	}
	return v.Reply
}

// sign makes a reply of ours that names the record, and whom to ask.
func (s *session) sign(code int, enhanced, text string) rules.Reply {
	id := s.info.ID
	if s.tx != nil {
		id = s.tx.envelope.ID
	}
	return s.service().Engine.Sign(rules.Reply{Code: code, Enhanced: enhanced, Text: text}, id)
}

// refuse says a reply to the client. It is always REPLYCODE: with REJECT and TEMPFAIL the MTA would choose the words.
func (s *session) refuse(r rules.Reply) {
	s.out = wire.AppendReply(s.out, r.Code, smtp.NewReply(r.Code, r.Enhanced, r.Text).Lines)
}

// misplaced answers a command that makes no sense where it came. The mail waits: what is wrong is not the client's.
func (s *session) misplaced(command string) {
	s.Log().Warn("an MTA's milter command came out of sequence", "milter", s.conn.Entry.Address, "command", command)
	s.respond(milter.ActTempFail)
}

const (
	// maxCommandDelay bounds how long a rule may hold back the answer to a command: MTAs wait 10 s (sendmail) or 30 s
	// (Postfix) for it. Only at the end of the message can they be told to wait on.
	maxCommandDelay = 8 * time.Second
	progressEvery   = 5 * time.Second
)

// linger holds the answer to a command back where a rule slows the client down.
func (s *session) linger(d time.Duration) {
	if d > 0 {
		s.wait(min(d, maxCommandDelay))
	}
}

// lingerAtEnd does the same at the end of the message. MTAs are told that the milter is alive.
func (s *session) lingerAtEnd(d time.Duration) {
	for ; d > 0; d -= progressEvery {
		if s.wait(min(d, progressEvery)); d > progressEvery && s.agreed.Version > oldest {
			s.respond(wire.ActProgress)
			if s.flush() != nil {
				return
			}
		}
	}
}

func (s *session) wait(d time.Duration) {
	s.endBudget() // what comes behind has its own time
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.conn.Base().Done():
	}
}
