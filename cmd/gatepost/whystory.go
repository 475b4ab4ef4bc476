package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/proxy/journal"
	"gatepost/proxy/telemetry"
	"gatepost/rules"
)

// tell writes the story of one entry.
func (t *teller) tell(e *journal.Entry) {
	if e.Change != nil {
		t.changeStory(e)
		return
	}
	t.title(e)
	for stage := filters.AtConnect; stage <= filters.AtMessage; stage++ {
		t.stage(e, stage)
	}
	t.end(e)
	t.decision(e)
}

func (t *teller) title(e *journal.Entry) {
	what := "Session"
	if e.Kind == policy.TransactionRecord {
		what = "Transaction"
	}
	outcome := outcomes[e.Verdict]
	if e.Kind == policy.SessionRecord && e.Verdict == telemetry.Abandon.String() {
		outcome = "ended"
	}
	t.line(0, "%s %s: %s", what, e.ID, outcome)
	t.line(0, "%s, %s", e.Start.Local().Format("Mon 2006-01-02 15:04:05.000 MST"), rounded(e.End.Sub(e.Start)))
}

// outcomes are the verdicts as people say them.
var outcomes = map[string]string{
	telemetry.Accept.String(): "accepted", telemetry.Reject.String(): "refused for good", telemetry.Defer.String(): "refused for now",
	telemetry.Discard.String(): "answered 250 and thrown away", telemetry.Quarantine.String(): "answered 250 and kept in quarantine",
	telemetry.Duplicate.String(): "answered 250, for it had been delivered before", telemetry.Abandon.String(): "given up by the client",
	telemetry.Drop.String(): "answered by closing the connection",
}

// stage tells what happened at one stage, and what was learned there.
func (t *teller) stage(e *journal.Entry, stage filters.Stage) {
	switch stage {
	case filters.AtConnect:
		t.connected(e)
	case filters.AtHelo:
		t.greeted(e)
	case filters.AtMail:
		t.mail(e)
	case filters.AtRcpt:
		t.recipients(e)
		return
	case filters.AtData:
		if e.Reached >= policy.StepData {
			t.head("DATA")
		}
	case filters.AtMessage:
		if e.Reached >= policy.StepMessage {
			t.head(fmt.Sprintf("The message: %d bytes", e.Ending.Size))
			for _, h := range e.Headers {
				if h.Known && h.Value != "" {
					t.line(1, "%s: %s", h.Name, h.Value)
				}
			}
		}
	}
	t.learned(e.Filters, stage)
	t.matched(e, stage, "")
}

func (t *teller) connected(e *journal.Entry) {
	s := e.Session
	if s == nil {
		return
	}
	text := fmt.Sprintf("%s connected to %s", s.AddrPort(), s.Local())
	if s.Peer() != s.AddrPort() {
		text += fmt.Sprintf(" (by way of %s)", s.Peer())
	}
	t.head(text)
	if s.Trusted {
		t.line(1, "It is in a network under `trusted:`, whose clients pass all rules.")
	}
	if e.Bypassed != (policy.Bypassed{}) {
		t.line(1, "A bypass was on (`gatepost bypass`): rules were only watched.")
	}
}

func (t *teller) greeted(e *journal.Entry) {
	g := e.Greeting
	if g == nil {
		return
	}
	text := "HELO "
	if g.SaidEHLO() {
		text = "EHLO "
	}
	text += g.Name
	if g.TLS != nil {
		text += ", " + g.TLS.Version
	}
	if g.AuthUser != "" {
		text += ", signed in as " + g.AuthUser
	}
	t.head(text)
}

func (t *teller) mail(e *journal.Entry) {
	if e.Envelope != nil {
		t.head("MAIL FROM:<" + e.Envelope.ReversePath + ">" + paramsText(e.Envelope.Params))
	}
}

func paramsText(params []filters.Param) string {
	var b strings.Builder
	for _, p := range params {
		b.WriteByte(' ')
		b.WriteString(journal.ParamText(p))
	}
	return b.String()
}

func (t *teller) recipients(e *journal.Entry) {
	for i := range e.Recipients {
		r := &e.Recipients[i]
		t.head("RCPT TO:<" + r.Address + ">" + paramsText(r.Params))
		t.learned(r.Filters, filters.AtRcpt)
		t.matched(e, filters.AtRcpt, r.Address)
		who := "the backend"
		if r.Ours || e.WroteReply(r.Reply) {
			who = "Gatepost"
			if r.Rule != nil {
				who += ", by rule " + r.Rule.Name
			}
		}
		if r.Action == rules.Drop.String() {
			t.line(1, "%s", closedBy(r.Rule))
			continue
		}
		if r.Reply.Code/100 == 2 && r.Reply.Text == "" {
			t.line(1, "%d from %s", r.Reply.Code, who)
			continue
		}
		t.replied(r.Reply, who)
	}
	if a := e.Attempt; a != nil && a.Recipient != policy.AttemptBehindRecipients {
		t.greylisting(a)
	}
}

func closedBy(rule *journal.Rule) string {
	text := "Gatepost closed the connection without a reply"
	if rule != nil {
		text += ", by rule " + rule.Name
	}
	return text
}

func (t *teller) greylisting(a *policy.Attempt) {
	switch {
	case a.Failed:
		t.line(1, "Greylisting could not be asked; such mail passes.")
	case a.First.IsZero():
		t.line(1, "Greylisting: the sender passes, by an operator's word.")
	default:
		t.line(1, "Greylisting: %s; the first attempt was at %s.", greylistStates[a.State], local(a.First))
	}
}

var greylistStates = map[filters.GreylistState]string{
	filters.GreylistNew: "not seen before", filters.GreylistEarly: "seen before, but the delay was not over", filters.GreylistPassed: "came back in time, or is known",
}

// learned tells how the filters of a stage did, and what they found.
func (t *teller) learned(all []journal.Filter, stage filters.Stage) {
	for i := range all {
		f := &all[i]
		if f.Stage != stage {
			continue
		}
		switch f.Status {
		case "ok":
			t.line(1, "%s, after %s: %s", f.Name, rounded(f.Duration), groupText(f.Facts))
		case "timeout":
			t.line(1, "%s did not answer within %s (%s): nothing of it is known", f.Name, rounded(f.Duration), f.Error)
		case "error":
			t.line(1, "%s failed after %s: %s; nothing of it is known", f.Name, rounded(f.Duration), f.Error)
		default:
			t.line(1, "%s: %s", f.Name, "no rule needed it any more, so it was not waited for")
		}
	}
}

func groupText(g *journal.Group) string {
	if g == nil {
		return "(not recorded)"
	}
	var b strings.Builder
	g.All(func(name string, value any) {
		if list, ok := value.([]string); ok && len(list) == 0 {
			return
		}
		if value == "" {
			return
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(strings.TrimPrefix(name, g.Shape.Name+"."))
		b.WriteByte(' ')
		b.WriteString(valueText(value))
	})
	if b.Len() == 0 {
		return "found nothing"
	}
	return b.String()
}

func valueText(value any) string {
	switch v := value.(type) {
	case nil:
		return "not known"
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case string:
		return strconv.Quote(v)
	case []string:
		quoted := make([]string, len(v))
		for i := range v {
			quoted[i] = strconv.Quote(v[i])
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	}
	return fmt.Sprint(value)
}

// matched names the rules that matched at a stage; recipient is set at RCPT.
func (t *teller) matched(e *journal.Entry, stage filters.Stage, recipient string) {
	for _, m := range e.Matched {
		if m.Rule.Stage != stage || stage == filters.AtRcpt && m.Recipient != "" && m.Recipient != recipient {
			continue
		}
		how := ""
		if m.Observed {
			how = ", which was only watched"
		}
		t.line(1, "rule %s (%s, at %s) matched%s", m.Rule.Name, m.Rule.Action, m.Rule.Place(), how)
		if a := e.Attempt; a != nil && a.Recipient == policy.AttemptBehindRecipients && m.Rule.Action == rules.Greylist.String() && !m.Observed {
			t.greylisting(a)
		}
	}
}

// replied shows a reply with all its bytes.
func (t *teller) replied(r rules.Reply, who string) {
	t.line(1, "reply of %s:", who)
	for _, line := range journal.ReplyLines(r) {
		t.line(2, "%s", line)
	}
}

// end tells how it came out.
func (t *teller) end(e *journal.Entry) {
	reply, ours := e.Ending.Reply, e.Ending.Ours
	if reply.Code == 0 && e.Refused != nil && e.Kind == policy.SessionRecord {
		reply, ours = e.Refused.Reply, true
	}
	dropped := e.Refused != nil && e.Refused.Action == rules.Drop.String()
	if reply.Code == 0 && e.Ending.Note == "" && !dropped {
		return
	}
	t.head("The end")
	if dropped {
		t.line(1, "%s", closedBy(e.Refused.Rule))
	}
	if reply.Code != 0 {
		who := "the backend"
		if ours {
			who = "Gatepost"
		}
		t.replied(reply, who)
	}
	if e.Ending.Backend != "" {
		queued := ""
		if e.Ending.QueueID != "" {
			queued = ", which queued it as " + e.Ending.QueueID
		}
		t.line(1, "backend %s%s", e.Ending.Backend, queued)
	}
	if e.Ending.Suppressed != "" {
		t.line(1, "It had been delivered before, as %s, and was not delivered again.", e.Ending.Suppressed)
	}
	if e.Ending.Note != "" {
		t.line(1, "note: %s", e.Ending.Note)
	}
	if e.Ending.Kept != "" {
		t.line(1, "`gatepost quarantine show %s` shows it, as long as it is there.", e.Ending.Kept)
	}
	if e.Ending.Normalized != "" {
		t.line(1, "line ends: %s", e.Ending.Normalized)
	}
	switch {
	case e.Ending.Reply.Code == 0 || e.Kind != policy.TransactionRecord:
	case e.Confirmed.IsZero() && e.Reached < policy.StepEnd: // it is only looked for behind a message
	case e.Confirmed.IsZero():
		t.line(1, "Whether the client has read this reply is not known: it gave no command after it.")
	default:
		t.line(1, "The client has read this reply: its next command came at %s.", e.Confirmed.Local().Format("15:04:05.000"))
	}
}

func rounded(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}
