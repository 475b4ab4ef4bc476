package calledtest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gatepost/filters"
	"gatepost/filters/all"
	"gatepost/policy"
	"gatepost/rules"
)

// Sees is what a front end is shown of mail.
type Sees struct {
	Messages bool // and not the envelope alone
	Rejected bool // recipients that the MTA refuses itself
	// Absent are facts that it may not have, each with the reason.
	Absent map[string]string
}

// Compare looks for what two ways of holding a dialogue have come to: by SMTP, and by the front end under test.
func (v Sees) Compare(t *testing.T, bySMTP, byMTA Outcome) {
	t.Helper()
	v.compareReplies(t, bySMTP.Exchanges, byMTA.Exchanges)
	v.compareRecords(t, bySMTP.Records, byMTA.Records)
	if v.Messages && !slices.Equal(bySMTP.Messages, byMTA.Messages) {
		t.Errorf("delivered\n by SMTP:   %q\n by an MTA: %q", bySMTP.Messages, byMTA.Messages)
	}
}

func (v Sees) compareReplies(t *testing.T, bySMTP, byMTA []Exchange) {
	t.Helper()
	for i, a := range bySMTP {
		if i >= len(byMTA) {
			t.Fatalf("by an MTA there are %d exchanges, by SMTP %d", len(byMTA), len(bySMTP))
		}
		for k, reply := range a.Replies {
			if !v.Messages && (a.Final && k == 0 || strings.Contains(a.Sent, "BDAT ")) {
				continue
			}
			other := ""
			if k < len(byMTA[i].Replies) {
				other = byMTA[i].Replies[k]
			}
			if ours := a.Sent != "" && strings.Contains(reply, "(id "); status(reply, ours) != status(other, ours) {
				t.Errorf("%.200q\n by SMTP:   %q\n by an MTA: %q", a.Sent, reply, other)
			}
		}
	}
}

// status is what of a reply has to be the same: the code and, where it is a refusal of ours, the enhanced code. Where an
// MTA asks there is only 421 to close a connection with; the refusal of a connection, and of commands that are out of
// place, is in the MTA's words.
func status(reply string, ours bool) string {
	code, rest, _ := strings.Cut(strings.ReplaceAll(reply, "-", " "), " ")
	enhanced, _, _ := strings.Cut(rest, " ")
	switch {
	case reply == "EOF" || code == "421":
		return "closed"
	case ours:
		return code + " " + enhanced
	}
	return class(code)
}

// class is all that is left of the code of a final refusal that is not ours.
func class(code string) string {
	if strings.HasPrefix(code, "5") {
		return "5"
	}
	return code
}

func (v Sees) compareRecords(t *testing.T, bySMTP, byMTA []*policy.Record) {
	t.Helper()
	bySMTP, byMTA = v.told(bySMTP), v.told(byMTA)
	if len(bySMTP) != len(byMTA) {
		t.Fatalf("%d transactions by SMTP, %d by an MTA", len(bySMTP), len(byMTA))
	}
	for i := range bySMTP {
		if x, y := v.decided(bySMTP[i]), v.decided(byMTA[i]); x != y {
			t.Errorf("transaction %d\n by SMTP:   %s\n by an MTA: %s", i+1, x, y)
		}
		groups := v.comparable(bySMTP[i], byMTA[i])
		x, y := factsOf(bySMTP[i], groups), factsOf(byMTA[i], groups)
		for _, name := range slices.Sorted(maps.Keys(x)) {
			other, known := y[name]
			if name == "message.size" && other == plusEmptyLine(x[name]) {
				other = x[name]
			}
			if other != x[name] && (known || v.Absent[name] == "") {
				t.Errorf("transaction %d: %s is %q by SMTP, %q by an MTA", i+1, name, x[name], other)
			}
			delete(y, name)
		}
		if len(y) > 0 {
			t.Errorf("transaction %d: known by an MTA only: %v", i+1, y)
		}
	}
}

// told leaves out transactions that a front end may never hear of: those whose MAIL the backend has refused, for an MTA in
// its place asks nobody about that; and those without a recipient, where it does not hear of the MTA's own refusals.
func (v Sees) told(records []*policy.Record) []*policy.Record {
	return slices.DeleteFunc(slices.Clone(records), func(r *policy.Record) bool {
		refused := !slices.ContainsFunc(r.Recipients, taken) && !r.Ending.Ours && r.Ending.Reply.Code >= 400
		return refused || !v.Rejected && !slices.ContainsFunc(r.Recipients, v.toldOf)
	})
}

// toldOf tells whether a front end hears of a recipient.
func (v Sees) toldOf(r policy.RecipientRecord) bool {
	return v.Rejected || r.Rule != nil || r.Reply.Code/100 != 5
}

// plusEmptyLine is the size of a message that begins with its body: MTAs put in the empty line that ends the header.
func plusEmptyLine(size string) string {
	n, _ := strconv.Atoi(size)
	return strconv.Itoa(n + len("\r\n"))
}

// decided is what a record says of the verdicts.
func (v Sees) decided(r *policy.Record) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<%s>", r.Envelope.ReversePath)
	hidden := map[string]bool{}
	for _, rcpt := range r.Recipients {
		if hidden[rcpt.Address] = !v.toldOf(rcpt); hidden[rcpt.Address] {
			continue
		}
		code, name := strconv.Itoa(rcpt.Reply.Code), ""
		if rcpt.Rule != nil {
			name = rcpt.Rule.Name
		} else { // an MTA does not tell the code of its own refusal
			code = class(code)
		}
		fmt.Fprintf(&b, " <%s> %s %s", rcpt.Address, code, name)
	}
	for _, m := range r.Matched {
		if !hidden[m.Recipient] && (v.Messages || filters.Stage(m.Rule.Stage) < filters.AtMessage) {
			fmt.Fprintf(&b, " %s/%s", m.Rule.Name, m.Recipient)
		}
	}
	if v.Messages {
		switch code := r.Ending.Reply.Code; {
		case code == 0 || code == 421: // drop
			b.WriteString(" broken off")
		case !r.Ending.Ours:
			b.WriteString(" left to the MTA") // whose final reply is not told
		default:
			fmt.Fprintf(&b, " ends %d", code)
		}
	}
	return b.String()
}

// comparable are the groups of facts that both records must have alike.
func (v Sees) comparable(records ...*policy.Record) []rules.Group {
	groups := policy.Groups(all.Specs())
	own := len(policy.Groups(nil))
	byLuck := func(g rules.Group) bool {
		return slices.ContainsFunc(records, func(r *policy.Record) bool { return v.byLuck(g, r) })
	}
	gates := slices.DeleteFunc(groups[:own:own], func(g rules.Group) bool { return !v.Messages && filters.Stage(g.Stage) == filters.AtMessage })
	return append(gates, slices.DeleteFunc(groups[own:], byLuck)...)
}

// byLuck tells whether it is a matter of luck what of a filter is in a record: where nothing has waited for it, where it
// was reading a message that broke off, and where facts are those of a recipient who was refused, perhaps before it was
// done.
func (v Sees) byLuck(g rules.Group, r *policy.Record) bool {
	unfinished := slices.ContainsFunc(r.Filters, func(f policy.FilterRecord) bool {
		return f.Name == g.Name && int(f.Stage) == g.Stage && f.Status == "unfinished"
	})
	torn := filters.Stage(g.Stage) == filters.AtMessage && (!v.Messages || r.Reached == policy.StepMessage)
	return unfinished || torn || !slices.ContainsFunc(r.Recipients, taken)
}

func taken(r policy.RecipientRecord) bool { return r.Reply.Code/100 == 2 }

// factsOf is all facts of the groups that are known.
func factsOf(r *policy.Record, groups []rules.Group) map[string]string {
	list := map[string]string{}
	for _, g := range groups {
		for i := range g.Type.NumField() {
			name := g.Type.Field(i).Tag.Get("fact")
			if name == "" || name == "header" {
				continue
			}
			name = g.Name + "." + name
			if value, known := r.Facts.Lookup(name); known {
				list[name] = fmt.Sprint(value)
			}
		}
	}
	return list
}
