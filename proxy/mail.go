package proxy

import (
	"bytes"
	"strconv"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/proxy/wire"
	"gatepost/rules"
)

// mail starts a mail transaction (RFC 5321, 4.1.1.2).
func (s *session) mail(c wire.Command) {
	s.forgiving = false
	if !s.inSequence() || !s.mayUse() {
		return
	}
	if s.tx != nil {
		s.fault(503, "5.5.1", "A mail transaction is in progress; RSET ends it")
		return
	}
	if limit := s.service.Limits.Abandoned; limit > 0 && int(s.fruitless) >= limit && !s.info.Trusted {
		s.server.metrics.LimitAbandoned.Add(1)
		s.hangUp(421, "4.7.0", "Too many transactions without a message in one session")
		return
	}
	path, params, err := wire.ParseMail(c.Arg)
	if err != nil {
		s.syntax(err)
		return
	}
	size, problem := s.checkMail(path, params)
	if problem != nil && problem.Code != tooLarge {
		s.syntax(problem)
		return
	}
	s.serial++
	s.tx = &transaction{
		envelope: &filters.Envelope{
			ID:          s.info.ID + "." + strconv.Itoa(int(s.serial)),
			ReversePath: path.Address,
			Params:      params,
			Size:        size,
			UTF8:        hasParam(params, "SMTPUTF8"),
			Started:     s.server.clock.Now(),
		},
		mail:   mailLine(path, params),
		binary: isBinary(params),
	}
	s.reach(StageMail)
	budget := s.budget(s.service.Limits.EnvelopeBudget)
	v := s.gate.Mail(budget, s.tx.envelope)
	s.b.delay += v.Delay
	switch {
	case stops(v):
		s.mailRefused(s.speak(v), true)
	case problem != nil: // on record like any refusal: it is one that senders ask about
		r := s.failure(problem.Code, problem.Enhanced, problem.Text)
		s.relay(r)
		s.mailRefused(r, true)
	case s.mta().Eager() && !s.nextIsRcpt(): // it goes to the backend with RCPT, and a refusal is told there
		s.say(250, "2.1.0", "Sender ok")
	case !s.gate.NeedsBackend(budget), s.mta().Ready() != nil: // RCPT is going to be refused, and why is said there
		s.say(250, "2.1.0", "Sender ok")
	default:
		// With RCPT at hand both go to the backend at once, and the client waits for two replies instead of one.
		if s.tx.due = true; !s.nextIsRcpt() {
			s.settle()
		}
	}
}

// tooLarge is the answer to a message whose declared size is above the limit (RFC 1870, 6.1).
const tooLarge = 552

// nextIsRcpt looks at the input without using it up.
func (s *session) nextIsRcpt() bool {
	next := s.b.unread()
	return startsRcpt(next) && bytes.Contains(next, []byte("\r\n"))
}

// settle gets the replies from the backend that the client still waits for: to MAIL, and to recipients.
func (s *session) settle() {
	if s.tx != nil && (s.tx.due || len(s.tx.pending) > 0) {
		s.relayEnvelope()
	}
}

// settled gives the client the backend's reply to MAIL. False: that ended the transaction.
func (s *session) settled(err error) bool {
	tx := s.tx
	tx.due = false
	r, ours := tx.mailReply, false
	switch {
	case err != nil:
		r, ours = s.lossReply(err), !refusesClient(err)
	case r.Class() == 2:
		tx.told = true
		s.relay(r)
		return true
	case r.Class() == 3:
		r, ours = s.unexpected(r), true
	}
	s.relay(r)
	s.mailRefused(r, ours)
	return false
}

// mailRefused ends the transaction. What the client has sent behind MAIL was no mistake when it did: its 503s are not
// counted.
func (s *session) mailRefused(r wire.Reply, ours bool) {
	s.forgiving = true
	s.conclude(policy.Ending{Reply: record(r), Ours: ours})
}

// outOfSequence answers a command that needs a transaction.
func (s *session) outOfSequence(text string) {
	switch {
	case s.over: // the last word was said
	case s.forgiving:
		s.say(503, "5.5.1", text)
	default:
		s.fault(503, "5.5.1", text)
	}
}

// rcpt adds a recipient (RFC 5321, 4.1.1.3). Rules may refuse it without asking anyone; else the backend's word counts,
// save that a 2xx may be taken back.
func (s *session) rcpt(c wire.Command) {
	path, params, err := wire.ParseRcpt(c.Arg)
	if err == nil && s.tx != nil {
		if problem := s.checkRcpt(path, params); problem != nil {
			err = problem
		}
	}
	limits := &s.service.Limits
	if s.tx != nil && len(s.tx.rcpts)+len(s.tx.pending) >= limits.Recipients {
		s.settle() // some of them may be refused
	}
	if err != nil || s.greeting == nil || s.tx == nil || s.tx.incoming.message != nil || len(s.tx.rcpts) >= limits.Recipients {
		s.settle() // earlier replies come first
		s.badRcpt(err)
		return
	}
	s.tx.tried++
	s.reach(StageRcpt)
	v := s.gate.Rcpt(s.budget(limits.EnvelopeBudget), &filters.Recipient{ForwardPath: path.Address, Params: params})
	s.b.delay += v.Delay
	reason := s.mta().Ready()
	switch {
	case stops(v):
		if s.settle(); s.tx != nil {
			s.speak(v)
		} else {
			s.outOfSequence("MAIL was refused")
		}
	case reason != nil: // the relay check; the group has told the operator what to do
		s.log().Debug("a recipient is put off", "reason", reason)
		r := s.failure(451, "4.3.0", "Not ready to take mail yet, please try again later")
		s.gate.Refused(record(r))
		if s.settle(); s.tx != nil {
			s.relay(r)
		} else {
			s.outOfSequence("MAIL was refused")
		}
	default:
		s.relayRcpt(rcptLine(path, params))
	}
}

// mailLine is MAIL as the backend hears it.
func mailLine(path wire.Path, params []filters.Param) []byte {
	const verb = "MAIL FROM:"
	line := append(make([]byte, 0, len(verb)+len(path.Raw)+paramsRoom(params)), verb...)
	return wire.AppendParams(append(line, path.Raw...), params)
}

// rcptLine is RCPT as the backend hears it, without its source route: RFC 5321, 3.3 wants it ignored, and a backend that
// trusts us would go by it.
func rcptLine(path wire.Path, params []filters.Param) []byte {
	const verb = "RCPT TO:<"
	line := append(make([]byte, 0, len(verb)+len(path.Address)+len(">")+paramsRoom(params)), verb...)
	return wire.AppendParams(append(append(line, path.Address...), '>'), params)
}

// paramsRoom is how long parameters are, so that a line is allocated once.
func paramsRoom(params []filters.Param) (n int) {
	for _, p := range params {
		n += len(" ") + len(p.Key) + len("=") + len(p.Value)
	}
	return n
}

// badRcpt answers an RCPT that neither gate nor backend is asked about.
func (s *session) badRcpt(err error) {
	switch {
	case s.over:
	case s.greeting == nil:
		s.inSequence()
	case s.tx == nil:
		s.outOfSequence("MAIL comes first")
	case err != nil:
		s.tx.tried++ // DATA may be on its way behind it
		s.syntax(err)
	case s.tx.incoming.message != nil: // RFC 3030, 2: after BDAT there are only BDAT and RSET
		s.fault(503, "5.5.1", "The message has begun")
	default:
		s.say(452, "4.5.3", "Too many recipients; send the others in another transaction")
	}
}

// relayRcpt asks the backend, together with the next recipients if they are at hand.
func (s *session) relayRcpt(line []byte) {
	s.tx.pending = append(s.tx.pending, line)
	more := s.nextIsRcpt() && len(s.tx.pending) < batch
	if (more || len(s.tx.pending) > 1) && s.gate.Aside() && more {
		return
	}
	s.relayEnvelope()
}

// relayEnvelope asks the backend about MAIL and recipients, and answers the client in their order.
func (s *session) relayEnvelope() {
	tx := s.tx
	lines := tx.pending
	tx.pending = nil
	said, err := s.exchange(s.budget(s.service.Limits.EnvelopeBudget), lines)
	if tx.due && (err != nil || tx.mailReply.Class() != 2) {
		for range lines {
			s.gate.Refused(rules.Reply{Code: 503})
		}
		s.settled(err)
		for range lines {
			s.outOfSequence("MAIL was refused")
		}
		return
	}
	if tx.due {
		s.settled(nil)
	}
	for i, line := range lines {
		var r wire.Reply
		switch {
		case s.over || err == nil && !said.refused && i >= len(said.replies): // behind the last word
			s.gate.Refused(rules.Reply{Code: 421})
			continue
		case err != nil:
			r = s.lossReply(err)
		case said.refused && tx.told: // it took MAIL, and the recipients so far, before
			r = s.failure(451, "4.4.0", "The mail server behind this one has changed its mind, please try again later")
		case said.refused:
			r = said.refusal
		default:
			r = said.replies[i]
		}
		s.rcptAnswered(r, line)
	}
}

// rcptAnswered tells the gate and the client about a recipient.
func (s *session) rcptAnswered(r wire.Reply, line []byte) {
	switch r.Class() {
	case 2:
		s.rcptAccepted(r, line)
		return
	case 3:
		r = s.unexpected(r)
	}
	s.gate.Refused(record(r))
	s.relay(r)
}

// rcptAccepted asks the gate about a recipient that the backend takes.
func (s *session) rcptAccepted(r wire.Reply, line []byte) {
	v := s.gate.Accepted(s.budget(s.service.Limits.EnvelopeBudget))
	s.b.delay += v.Delay
	if stops(v) {
		// The backend has a recipient now who must not get the message.
		s.link = linkStale
		s.speak(v)
		return
	}
	s.tx.rcpts = append(s.tx.rcpts, line)
	s.relay(r)
}
