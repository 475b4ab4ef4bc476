package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/proxy/journal"
	"gatepost/rules"
)

// decision tells which rule decided, by what, and what would have to be different. A transaction can have several
// refusals: one for each recipient and one for all.
func (t *teller) decision(e *journal.Entry) {
	told := map[string]bool{}
	for i := range e.Recipients {
		r := &e.Recipients[i]
		switch {
		case r.Reply.Code/100 == 2:
		case r.Ours:
			t.refusal(e, r, r.Rule, r.Action, r.Reply, told)
		case !told[r.Address]:
			told[r.Address] = true
			t.head("Why <" + r.Address + "> was refused")
			t.unruled(e, e.WroteReply(r.Reply))
		}
	}
	if e.Refused != nil {
		t.refusal(e, nil, e.Refused.Rule, e.Refused.Action, e.Refused.Reply, told)
	} else if reply := e.Ending.Reply; reply.Code >= 400 {
		t.head("Why")
		t.unruled(e, e.Ending.Ours)
	} else if e.Verdict == "accept" {
		t.passed(e)
	}
}

// unruled explains a refusal that no rule decided.
func (t *teller) unruled(e *journal.Entry, ours bool) {
	if ours {
		t.line(1, "No rule decided this: Gatepost itself could not go on (see the reply%s).", noteHint(e))
	} else {
		t.line(1, "The backend refused; no rule of Gatepost did.")
	}
}

func noteHint(e *journal.Entry) string {
	if e.Ending.Note != "" {
		return " and the note"
	}
	return ""
}

func (t *teller) passed(e *journal.Entry) {
	t.head("Why")
	for _, m := range e.Matched {
		if m.Rule.Action == "accept" && !m.Observed {
			t.line(1, "Rule %s at %s accepted it: when %s", m.Rule.Name, m.Rule.Place(), m.Rule.When)
			return
		}
	}
	t.line(1, "No rule that is enforced had anything against it, and the backend took it.")
}

// refusal explains one refusal; of those that are alike, the first.
func (t *teller) refusal(e *journal.Entry, r *journal.Recipient, rule *journal.Rule, action string, reply rules.Reply, told map[string]bool) {
	key := fmt.Sprint(action, reply.Code, reply.Enhanced)
	if rule != nil {
		key += rule.Name
	}
	if told[key] {
		return
	}
	told[key] = true
	title := "Why"
	if r != nil {
		title = "Why <" + r.Address + "> was refused"
	}
	t.head(title)
	switch {
	case rule == nil && strings.HasPrefix(reply.Text, "we do not relay"):
		t.line(1, "The recipient's domain is not one of `domains:`, and the client is neither trusted nor signed in. No rule decides that.")
	case rule == nil && reply.Code == 452:
		t.line(1, "The rules still to come may answer differently for this recipient than for the first one, and one reply ends the message of both. The client is to send it again in a transaction of its own.")
	case rule == nil && action == rules.Greylist.String():
		t.line(1, "A transaction is greylisted as a whole.")
		t.comeBack(e)
	case rule == nil:
		t.line(1, "No rule decided this; see the reply.")
	default:
		t.ruled(e, r, rule, action, reply)
	}
}

func (t *teller) ruled(e *journal.Entry, r *journal.Recipient, rule *journal.Rule, action string, reply rules.Reply) {
	t.line(1, "Rule %s at %s decided: %s", rule.Name, rule.Place(), action)
	t.line(2, "when: %s", strings.Join(strings.Fields(rule.When), " "))
	reason, problems := rules.Explain(t.schema, rule.When, t.facts(e, r), t.lists)
	if reason == nil {
		t.line(2, "This release cannot read the condition any more: %v", problems)
		return
	}
	disguised := false
	for _, leaf := range reason.Leaves() {
		if readsDisguise(leaf) {
			leaf.Opaque, disguised = true, true
		}
		t.line(2, "%s: %s%s", truthText(leaf), readingsText(leaf.Facts), listNote(leaf))
	}
	switch {
	case rule.DeferOnError && action == rules.Defer.String() && reply.Enhanced == "4.4.3":
		t.line(1, "It says on_error: defer, and what it needs was not known. It passes when the filters above answer.")
	case action == rules.Defer.String() && rule.Action == rules.Greylist.String() && reply.Code == 452:
		t.line(1, "Another recipient was accepted already, and a transaction is greylisted as a whole or not at all: this one is to be sent again in a transaction of its own, which counts as its first attempt.")
		t.comeBack(e)
	case action == rules.Greylist.String():
		t.comeBack(e)
		t.line(1, "It would not have been greylisted if")
		t.change(reason.To(false), 2)
	case reason.Truth != rules.True && disguised:
		t.line(1, "The journal does not have local parts of addresses as they were (journal.addresses): what the condition found in them cannot be shown.")
	case reason.Truth != rules.True:
		t.line(1, "With what is recorded, and list files as they are now, the condition does not come out true: a list has changed, or the journal does not hold what was read.")
	default:
		t.line(1, "The rule would not have matched if")
		t.change(reason.To(false), 2)
	}
}

// comeBack tells when a greylisted sender passes. The journal knows when it came first, and not how long the delay was; but
// it tells whether that was another one than now.
func (t *teller) comeBack(e *journal.Entry) {
	if e.Attempt == nil || e.Attempt.First.IsZero() {
		return
	}
	if c, first := t.greylist, e.Attempt.First; c != nil {
		note := ""
		if e.Settings == nil || !e.Settings.GreylistIs(c) {
			note = "; greylisting was configured in another way then"
		}
		t.line(1, "Who tries again between %s and %s passes (delay %s and window %s from the first attempt%s).", local(first.Add(time.Duration(c.Delay))),
			local(first.Add(time.Duration(c.Window))), c.Delay, c.Window, note)
	} else {
		t.line(1, "The wait counts from %s.", local(first))
	}
	t.line(1, "`gatepost greylist show` tells where the sender stands now, `gatepost greylist pass` lets it pass.")
}

// facts are those by which a recipient was judged, or with nil all of them.
func (t *teller) facts(e *journal.Entry, r *journal.Recipient) *rules.Facts {
	f := t.schema.NewFacts()
	t.binder.Reset()
	t.binder.Entry(f, e)
	if r == nil {
		return f
	}
	f.SetScore(r.Score)
	for i, group := range t.schema.Groups() {
		if group.Stage > int(filters.AtRcpt) {
			f.Clear(i)
		}
		if group.Name == "rcpt" && group.Stage == int(filters.AtRcpt) {
			f.Set(i, policy.RcptFactsOf(r.Address, place(e, r)))
		}
	}
	for i := range r.Filters {
		if r.Filters[i].Facts != nil {
			t.binder.Group(f, r.Filters[i].Facts)
		}
	}
	return f
}

// place is which one of the accepted recipients r was, or would have been.
func place(e *journal.Entry, r *journal.Recipient) int {
	count := 1
	for i := range e.Recipients {
		if &e.Recipients[i] == r {
			break
		}
		if e.Recipients[i].Reply.Code/100 == 2 {
			count++
		}
	}
	return count
}

func listNote(r *rules.Reason) string {
	if r.Listed && !r.Opaque {
		return " (the list file as it is now)"
	}
	return ""
}

// readsDisguise tells whether a comparison reads what the journal has in place of a local part.
func readsDisguise(leaf *rules.Reason) bool {
	return slices.ContainsFunc(leaf.Facts, func(r rules.Reading) bool {
		text, is := r.Value.(string)
		return is && journal.IsDisguise(text)
	})
}

func truthText(r *rules.Reason) string {
	if r.Opaque {
		return "cannot be told any more    " + r.Text
	}
	return fmt.Sprintf("%-8s %s", [...]string{rules.Unknown: "unknown", rules.False: "false", rules.True: "true"}[r.Truth], r.Text)
}

func readingsText(all []rules.Reading) string {
	texts := make([]string, len(all))
	for i, r := range all {
		texts[i] = r.Name + " is " + valueText(r.Value)
		if r.Value == nil {
			texts[i] = r.Name + " is not known"
		}
	}
	return strings.Join(texts, ", ")
}

// change writes what would have to be different.
func (t *teller) change(c rules.Change, indent int) {
	if c.Reason != nil {
		t.line(indent, "- %s", wish(c.Reason, c.Want))
		return
	}
	if c.Any {
		t.line(indent, "- one of these were so:")
	} else {
		t.line(indent, "- all of these were so:")
	}
	for _, part := range c.Parts {
		t.change(part, indent+1)
	}
}

var opposite = map[string]string{">=": "less than", ">": "at most", "<=": "more than", "<": "at least", "==": "not", "!=": ""}
var spoken = map[string]string{">=": "at least", ">": "more than", "<=": "at most", "<": "less than", "==": "", "!=": "not"}

// wish says what a comparison would have to be like, in words where it is a plain one.
func wish(r *rules.Reason, want bool) string {
	words := spoken
	if !want {
		words = opposite
	}
	if word, ok := words[r.Comparison]; ok && r.Left != "" {
		now := "not known"
		if len(r.Facts) == 1 && r.Facts[0].Value != nil && r.Facts[0].Name == r.Left {
			now = valueText(r.Facts[0].Value)
		}
		return strings.Join(strings.Fields(fmt.Sprintf("%s were %s %s", r.Left, word, r.Right)), " ") + " (it is " + now + ")"
	}
	state := "false"
	if want {
		state = "true"
	}
	return fmt.Sprintf("%s were %s (%s)", r.Text, state, readingsText(r.Facts))
}
