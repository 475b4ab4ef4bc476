package policyserver

import (
	"fmt"
	"strings"

	"gatepost/policy"
	"gatepost/proxy/called"
	smtp "gatepost/proxy/wire"
	"gatepost/rules"
)

// answer is an action of access(5).
type answer string

// dunno lets Postfix go on with its restrictions. OK is never said: it would skip those behind us, and with them, in the
// wrong place, the one that keeps Postfix from being an open relay.
const dunno answer = "DUNNO"

// stops tells whether a verdict ends what it is about. What is not known here must not let mail pass.
func stops(v policy.Verdict) bool { return v.Action != 0 }

// refuse renders a verdict that stops, and remembers for how long it holds.
func (s *session) refuse(at step, v policy.Verdict) answer {
	reply := s.replyOf(v)
	a := render(reply)
	if v.Action == rules.Greylist && at <= toRcpt && reply.Code/10 == 45 {
		// So that who is refused by a restriction behind us hears that instead. It does not reach the check for unknown users
		// that Postfix makes by itself at the end (measured with 3.7): reject_unlisted_recipient has to stand before us. The
		// code becomes Postfix's 450. At DATA all restrictions have had their say.
		a = "DEFER_IF_PERMIT " + answer(textOf(reply))
	}
	switch at {
	case toConnect:
		s.refused = a
	case toHelo:
		s.unheard = a
	case toRcpt:
		s.tx.again = a
	default:
		s.tx.standing, s.tx.refusal, s.tx.over = a, reply, true
	}
	return a
}

// foresee is the answer where nothing is against a recipient, or against all: what Postfix must know before the message
// comes. It takes one field with an answer, so each gives one that was not given yet.
func (s *session) foresee(to step) answer {
	tx := s.tx
	v, tags := s.gate.Foreseen()
	switch {
	case v.Action == rules.Discard: // of all recipients; those that are not to be discarded were sent away with 452
		tx.instead = "discarded"
		return "DISCARD " + byRule(v.Rule)
	case v.Action == rules.Quarantine && tx.instead == "":
		tx.instead = heldByMTA
		return "HOLD " + byRule(v.Rule)
	case tx.tags < len(tags) && s.request["protocol_state"] != "END-OF-MESSAGE": // too late for fields there
		tx.tags++
		return "PREPEND " + answer(oneLine(tags[tx.tags-1]))
	}
	return dunno
}

// replyOf is what a verdict that stops says to the client.
func (s *session) replyOf(v policy.Verdict) rules.Reply {
	switch class := v.Reply.Code / 100; {
	case v.Action == rules.Drop: // with 421 Postfix closes the connection
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
	return s.conn.Service.Engine.Sign(rules.Reply{Code: code, Enhanced: enhanced, Text: text}, id)
}

func render(r rules.Reply) answer { return answer(fmt.Sprintf("%d %s", r.Code, textOf(r))) }

// textOf is the enhanced code, once, and the text. The protocol has no second line: what is on several becomes one.
func textOf(r rules.Reply) string {
	return smtp.NewReply(r.Code, r.Enhanced, oneLine(r.Text)).Lines[0]
}

// oneLine keeps an answer from becoming two, or another attribute.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}

// reply writes an answer, and counts it.
func (s *session) reply(a answer) error {
	m := &s.server.metrics
	switch {
	case a[0] == '5':
		m.Refused.Add(1)
	case a[0] == '4' || strings.HasPrefix(string(a), "DEFER"):
		m.Deferred.Add(1)
	case strings.HasPrefix(string(a), "DISCARD"):
		m.Discarded.Add(1)
	case strings.HasPrefix(string(a), "HOLD"):
		m.Held.Add(1)
	default:
		m.Passed.Add(1)
	}
	_, err := s.conn.Write([]byte("action=" + string(a) + "\n\n"))
	return err
}

// byRule is what Postfix logs as the reason.
func byRule(r *rules.Rule) answer { return answer("gatepost: rule " + called.Clean(r.Name, maxName)) }
