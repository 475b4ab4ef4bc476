package proxy

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/proxy/backend"
	"gatepost/proxy/front"
	"gatepost/proxy/wire"
	"gatepost/rules"
)

// endOfData judges a message that is complete, hands it to the backend if nothing is against it, and answers.
func (s *session) endOfData() {
	s.renew() // the end of the message is the client's latest command
	s.confirm()
	s.reach(StageJudging)
	in := &s.tx.incoming
	s.server.metrics.Bytes.Add(in.size)
	if s.tx.memory.Spills() {
		s.server.metrics.Spilled.Add(1)
	}
	s.examine()
	if in.failed.Code != 0 {
		s.answer(in.failed, policy.Ending{Ours: true})
		return
	}
	in.message.Complete()
	in.sum()
	if s.checkHeader(); in.failed.Code != 0 {
		s.answer(in.failed, policy.Ending{Ours: true})
		return
	}
	v, edits := s.gate.EndOfData(s.budget(s.service.Limits.MessageBudget))
	s.linger(v.Delay)
	switch {
	case v.Action == rules.Discard:
		s.server.metrics.Discarded.Add(1)
		s.answer(wire.NewReply(250, "2.0.0", v.Reply.Text), policy.Ending{Ours: true, Note: "discarded"})
	case v.Action == rules.Quarantine:
		s.quarantine(v, edits)
	case stops(v):
		r := s.verdictReply(v)
		s.over = s.over || v.Close || r.Code == 421
		if v.Action == rules.Drop {
			r = wire.Reply{}
		}
		e := policy.Ending{Ours: true}
		if v.Keeps() {
			s.keepCopy(v, edits, &e)
		}
		s.answer(r, e)
	case !s.suppress():
		s.deliver(edits)
	}
}

// examine refuses what line_endings does not allow.
func (s *session) examine() {
	in := &s.tx.incoming
	if found := in.decoder.Found(); in.failed.Code == 0 && s.service.LineEndings.Refuses(found) {
		text := "The message has NUL in it"
		if found.NUL == 0 {
			text = "The message has bare CR or LF in it; lines end with CR LF"
		}
		s.fail(s.failure(550, "5.6.0", text))
	}
}

// checkHeader refuses header blocks that are too large, and loops (RFC 5321, 6.3).
func (s *session) checkHeader() {
	in := &s.tx.incoming
	header, err := in.message.Header(s.budget(s.service.Limits.MessageBudget))
	if err != nil {
		in.failed = s.unreadable(err)
		return
	}
	if fault, ok := front.HeaderFault(header, int(s.service.Limits.HeaderSize), s.service.Limits.Hops); ok {
		in.failed = s.failure(fault.Code, fault.Enhanced, fault.Text)
	}
}

// unreadable is the reply to a message of which the disk has lost a part.
func (s *session) unreadable(err error) wire.Reply {
	s.server.metrics.SpillErrors.Add(1)
	s.log().Error("a message cannot be read back", "transaction", s.tx.envelope.ID, "error", err)
	return s.failure(451, "4.3.0", "The message could not be kept, please try again later")
}

// linger holds the message back where a rule slows the client down. That must happen before the backend has it: a
// client that loses patience afterwards would send it again.
func (s *session) linger(d time.Duration) {
	if d <= 0 || !s.flush() {
		return
	}
	timer := time.NewTimer(min(d, s.patience()))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.server.base.Done():
	}
	s.renew()
}

// answer gives the reply to a message and ends the transaction. The reply is written at once, not with those to come:
// a client that hangs up without it sends the message again (RFC 1047).
func (s *session) answer(r wire.Reply, e policy.Ending) {
	in := &s.tx.incoming
	switch r.Class() {
	case 2:
		if !e.Ours {
			s.server.metrics.Accepted.Add(1)
		}
	case 4:
		s.server.metrics.Deferred.Add(1)
	case 5:
		s.server.metrics.Refused.Add(1)
	}
	e.Reply = record(r)
	s.tx.answered = s.tx.delivered || r.Code != 0
	if found := in.decoder.Found(); found.BareLF+found.BareCR > 0 && in.failed.Code == 0 {
		e.Normalized = fmt.Sprintf("%d bare LF, %d bare CR", found.BareLF, found.BareCR)
	}
	if s.tx.readdressed != "" {
		e.Note = strings.TrimSuffix(s.tx.readdressed+"; "+e.Note, "; ")
	}
	if r.Code != 0 {
		s.relay(r)
	}
	if !s.flushFinal() {
		e.Note = strings.TrimPrefix(e.Note+"; client left before the reply", "; ")
	}
	s.conclude(e)
}

// deliver hands the message to the backend, whose final reply is the client's. There is no other way to a 250.
func (s *session) deliver(edits policy.Edits) {
	const attempts = 3
	if err := s.readdress(edits.Envelope); err != nil {
		s.unaddressed(err)
		return
	}
	s.reach(StageBackend)
	note := ""
	for n := range attempts {
		r, refused, err := s.reattach(n > 0)
		switch {
		case err != nil:
			s.answer(s.lossReply(err), policy.Ending{Ours: true, Note: note})
			return
		case refused && s.tx.readdressed != "":
			s.log().Error("the backend does not take a message as filters have readdressed it", "transaction", s.tx.envelope.ID, "reply", r.String())
			s.answer(s.failure(451, "4.4.0", "The mail server behind this one does not take the message as it is readdressed here, please try again later"),
				policy.Ending{Ours: true, Note: "refused: " + r.String()})
			return
		case refused:
			s.log().Warn("the backend takes the transaction no more", "transaction", s.tx.envelope.ID, "reply", r.String())
			s.answer(s.failure(451, "4.4.0", "The mail server behind this one has changed its mind, please try again later"),
				policy.Ending{Ours: true, Note: "refused when said again: " + r.String()})
			return
		}
		r, dotSent, err := s.send(edits)
		switch {
		case err == nil:
			s.delivered(r)
			return
		case errors.Is(err, filters.ErrSpillRead):
			s.dropBackend() // it has half a message
			s.answer(s.unreadable(err), policy.Ending{Ours: true})
			return
		case dotSent:
			// It may have the message or not. Sending it again could deliver it twice; the client's own retry may, too,
			// but only the client can know that it has to.
			s.server.metrics.LostAfter.Add(1)
			s.log().Error("the backend was lost after the end of the message", "transaction", s.tx.envelope.ID, "error", err)
			s.answer(s.failure(451, "4.4.2", "The mail server behind this one was lost, please try again later"),
				policy.Ending{Ours: true, Note: "backend lost after the end of the message"})
			return
		}
		note = "backend lost in the message"
		s.log().Warn("the backend was lost before the end of the message", "transaction", s.tx.envelope.ID, "error", err)
	}
	s.answer(s.failure(451, "4.4.2", "The mail server behind this one was lost, please try again later"),
		policy.Ending{Ours: true, Note: note})
}

// reattach makes a backend ready for the message: one that knows the transaction, and nothing but it. That has a time of
// its own.
func (s *session) reattach(lost bool) (r wire.Reply, refused bool, err error) {
	if !lost && s.backend != nil && s.link == linkOpen {
		return r, false, nil
	}
	s.renew()
	ctx := s.budget(s.service.Limits.EnvelopeBudget)
	if lost {
		if err := s.redial(ctx); err != nil {
			return r, false, err
		}
	}
	s.server.metrics.Replays.Add(1)
	said, err := s.exchange(ctx, nil)
	return said.refusal, said.refused, err
}

// send transfers the message. Its time is the backend's own: block_timeout and final_timeout, also if the client leaves.
func (s *session) send(edits policy.Edits) (r wire.Reply, dotSent bool, err error) {
	m := s.tx.incoming.message
	prepend := s.onTop(edits)
	body := excerpt{m, edits}
	s.link = linkStale
	return s.backend.SendMessage(s.server.base, backend.Parts{
		Prepend: prepend,
		Body:    body,
		Size:    body.size() + int64(len(prepend)),
		Binary:  s.tx.binary,
		Next:    s.foresee(),
	}, 0)
}

// onTop is the fields that we put on top of the message.
func (s *session) onTop(edits policy.Edits) []byte {
	if s.service.TraceField {
		return append(s.traceField(), edits.Prepend...)
	}
	return edits.Prepend
}

// delivered relays the backend's final reply.
func (s *session) delivered(r wire.Reply) {
	e := policy.Ending{}
	switch r.Class() {
	case 2:
		s.link = linkIdle
		e.QueueID = queueID(r)
		s.tx.delivered, s.tx.queueID = true, e.QueueID
		s.server.deliveries.add(s.tx.copies, s.tx.envelope.ID) // before the client can send it again
	case 4, 5:
	default:
		r, e.Ours = s.unexpected(r), true
	}
	s.answer(r, e)
}

// queueID finds the name under which the backend keeps the message, in the words of Postfix ("queued as ID"), Exim
// ("OK id=ID"), and sendmail or OpenSMTPD ("ID Message accepted for delivery").
func queueID(r wire.Reply) string {
	text := r.Lines[len(r.Lines)-1]
	if enhanced := r.Enhanced(); enhanced != "" {
		text = strings.TrimPrefix(strings.TrimPrefix(text, enhanced), " ")
	}
	id := ""
	if _, after, found := strings.Cut(text, "queued as "); found {
		id = after
	} else if _, after, found := strings.Cut(text, "id="); found {
		id = after
	} else if before, _, found := strings.Cut(text, " Message accepted for delivery"); found {
		id = before
	}
	id, _, _ = strings.Cut(strings.TrimSpace(id), " ")
	return id[:min(len(id), 64)]
}
