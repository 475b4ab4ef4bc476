package policy

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"gatepost/rules"
)

// Verdict is what the front end shall do. With a zero Action it goes on.
type Verdict struct {
	Action rules.Action  // 0, Reject, Defer, Greylist, Discard, Quarantine, Drop
	Reply  rules.Reply   // complete: with id and contact
	Rule   *rules.Rule   // nil when no rule decided
	Close  bool          // close the connection after the reply (421, 521, Drop); Drop closes without one
	Delay  time.Duration // tarpit: wait before replying (also with a zero Action); at most 60 s
}

// Keeps tells that the message goes to quarantine: in place of a delivery, or, where it is rejected, as a copy.
func (v *Verdict) Keeps() bool {
	return v.Action == rules.Quarantine || v.Action == rules.Reject && v.Rule != nil && v.Rule.Keep
}

// defaultReplies answer for rules without `reply:`.
var defaultReplies = map[rules.Action]rules.Reply{
	rules.Reject: {Code: 550, Enhanced: "5.7.1", Text: "Refused by the policy of this site"},
	rules.Defer:  {Code: 451, Enhanced: "4.7.1", Text: "Please try again later"},
}

// undecided answers where a filter failed on whose facts a rule with `on_error: defer` depends.
var undecided = rules.Reply{Code: 451, Enhanced: "4.4.3", Text: "A check could not be completed, please try again later"}

// verdict turns a ruling into what the front end shall do. Greylisting has been dealt with before.
func (g *Gate) verdict(r ruling, facts *rules.Facts) Verdict {
	v := Verdict{Delay: min(r.delay, maxDelay)}
	switch {
	case r.rule == nil:
		return v
	case r.failed:
		v = g.refusal(rules.Defer, undecided, r.rule.Rule)
	case r.rule.Action == rules.Drop:
		v = Verdict{Action: rules.Drop, Rule: r.rule.Rule, Close: true}
	default:
		v = g.refusal(r.rule.Action, replyOf(r.rule.Rule, facts, defaultReplies[r.rule.Action]), r.rule.Rule)
	}
	v.Delay = min(r.delay, maxDelay)
	return v
}

func replyOf(r *rules.Rule, facts *rules.Facts, other rules.Reply) rules.Reply {
	if reply, ok := r.Reply(facts); ok {
		return reply
	}
	return other
}

func (g *Gate) greylistVerdict(r *rules.Rule, facts *rules.Facts) Verdict {
	text := "Greylisted, please try again in a few minutes"
	if d, ok := g.engine.greylister.(interface{ Delay() time.Duration }); ok {
		minutes := max(1, int((d.Delay()+time.Minute-1)/time.Minute))
		text = fmt.Sprintf("Greylisted, please try again in %d minutes", minutes)
	}
	return g.refusal(rules.Greylist, replyOf(r, facts, rules.Reply{Code: 451, Enhanced: "4.7.1", Text: text}), r)
}

// separateVerdict sends a recipient into a transaction of its own (RFC 5321, 4.5.3.1.10: 452 means that the others
// stand and this one is to be tried again).
func (g *Gate) separateVerdict(r *rules.Rule) Verdict {
	return g.refusal(rules.Defer, rules.Reply{Code: 452, Enhanced: "4.5.3", Text: "Send this recipient in a separate transaction"}, r)
}

// insteadVerdict is that of a rule which neither refuses nor delivers.
func (g *Gate) insteadVerdict(r *rules.Rule) Verdict {
	return g.refusal(r.Action, replyOf(r, g.judged(), rules.Reply{Code: 250, Enhanced: "2.0.0", Text: "Message received"}), r)
}

func (g *Gate) refusal(a rules.Action, reply rules.Reply, r *rules.Rule) Verdict {
	return Verdict{Action: a, Reply: g.sign(reply), Rule: r, Close: reply.Code == 421 || reply.Code == 521}
}

// id names the record that the reply belongs to.
func (g *Gate) id() string {
	if g.tx != nil {
		return g.tx.envelope.ID
	}
	return g.session.ID
}

const (
	maxLine  = 512 - len("\r\n") // RFC 5321, 4.5.3.1.5: a reply line's 512 octets count code and CRLF
	maxLines = 10
)

func (g *Gate) sign(r rules.Reply) rules.Reply { return g.engine.Sign(r, g.id()) }

// Sign adds the id of the record and the operator's contact to a reply of ours, and keeps every line within its limit.
func (e *Engine) Sign(r rules.Reply, id string) rules.Reply {
	suffix := " (id " + id + ")"
	if e.contact != "" {
		suffix += "; see " + e.contact
	}
	room := maxLine - len("550 ") - len(r.Enhanced) - 1
	lines := strings.Split(r.Text, "\n")
	if len(lines) > maxLines {
		lines = lines[:maxLines]
	}
	for i, line := range lines {
		if i == len(lines)-1 {
			lines[i] = cut(line, max(0, room-len(suffix))) + suffix
		} else {
			lines[i] = cut(line, room)
		}
	}
	r.Text = strings.Join(lines, "\n")
	return r
}

// cut shortens s to at most n bytes without cutting a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// printable shows a foreign domain in a reply: what is no printable ASCII becomes a question mark.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f {
			return '?'
		}
		return r
	}, cut(s, 255))
}
