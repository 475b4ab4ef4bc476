package telemetry

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gatepost/policy"
	"gatepost/rules"
)

// describe is what a record's line says, whatever its format.
func describe(rec *policy.Record, to pairs) {
	to.text("id", rec.ID)
	to.bytes("client", rec.Session.Client.IP.AppendTo(to.room()))
	if rec.Greeting != nil {
		to.text("helo", rec.Greeting.Name)
	}
	if rec.Envelope != nil {
		to.bytes("from", appendPath(to.room(), rec.Envelope.ReversePath))
		to.bytes("to", appendRecipients(to.room(), rec.Recipients))
	}
	to.text("verdict", VerdictOf(rec).String())
	if len(rec.Matched) > 0 {
		describeMatches(rec.Matched, to)
	}
	describeEnding(rec, to)
	to.duration("took", rec.End.Sub(rec.Start).Round(100_000))
	to.bytes("facts", rec.Facts.AppendText(to.room()))
	nonEmpty(to, "failed", failures(rec.Filters))
}

func appendPath(dst []byte, address string) []byte {
	return append(append(append(dst, '<'), address...), '>')
}

// maxRecipientsLogged keeps a line readable; the journal has them all.
const maxRecipientsLogged = 10

func appendRecipients(dst []byte, all []policy.RecipientRecord) []byte {
	for i := range all {
		r := &all[i]
		if i == maxRecipientsLogged {
			return fmt.Appendf(dst, " and %d more", len(all)-i)
		}
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = appendPath(dst, r.Address)
		if r.Reply.Code/100 != 2 {
			dst = strconv.AppendInt(append(dst, '='), int64(r.Reply.Code), 10)
		}
	}
	return dst
}

// describeMatches names the rules that applied and those that were only watched, each once.
func describeMatches(all []policy.Match, to pairs) {
	var room [16]policy.Match
	once := room[:0]
	for _, m := range all {
		if !slices.ContainsFunc(once, func(other policy.Match) bool { return same(m.Rule, other.Rule) }) {
			once = append(once, m)
		}
	}
	for _, kind := range []struct {
		key      string
		observed bool
	}{{"rule", false}, {"observed", true}} {
		text := to.room()
		for _, m := range once {
			if m.Observed != kind.observed {
				continue
			}
			if len(text) > 0 {
				text = append(text, ' ')
			}
			text = append(append(append(append(text, m.Rule.Name...), '@'), m.Rule.Pos.File...), ':')
			text = strconv.AppendInt(text, int64(m.Rule.Pos.Line), 10)
		}
		if len(text) > 0 {
			to.bytes(kind.key, text)
		}
	}
}

// same tells whether two rules would be called the same.
func same(a, b *rules.Rule) bool {
	return a == b || a.Name == b.Name && a.Pos.File == b.Pos.File && a.Pos.Line == b.Pos.Line
}

// describeEnding tells what the client was told last: at the end of data, or else to a recipient who was refused.
func describeEnding(rec *policy.Record, to pairs) {
	e, reply := &rec.Ending, &rec.Ending.Reply
	if rec.Refused != nil && reply.Code == 0 {
		reply = &rec.Refused.Reply
	}
	for i := range rec.Recipients {
		if refused := &rec.Recipients[i].Reply; reply.Code == 0 && refused.Code/100 != 2 {
			reply = refused
		}
	}
	if reply.Code != 0 {
		to.bytes("reply", appendReply(to.room(), reply))
	}
	nonEmpty(to, "backend", e.Backend)
	nonEmpty(to, "queue_id", e.QueueID)
	if e.Size > 0 {
		to.number("size", e.Size)
	}
	nonEmpty(to, "line_endings", e.Normalized)
	nonEmpty(to, "note", e.Note)
}

func nonEmpty(to pairs, key, value string) {
	if value != "" {
		to.text(key, value)
	}
}

func appendReply(dst []byte, r *rules.Reply) []byte {
	dst = strconv.AppendInt(dst, int64(r.Code), 10)
	if r.Enhanced != "" {
		dst = append(append(dst, ' '), r.Enhanced...)
	}
	return append(append(dst, ' '), r.Text...)
}

func failures(all []policy.FilterRecord) string {
	var texts []string
	for i := range all {
		if f := &all[i]; f.Status == "timeout" || f.Status == "error" {
			texts = append(texts, fmt.Sprintf("%s: %s", f.Name, f.Error))
		}
	}
	return strings.Join(texts, "; ")
}
