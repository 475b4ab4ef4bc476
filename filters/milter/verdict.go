package milter

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/emersion/go-milter"

	"gatepost/filters"
	"gatepost/filters/milter/wire"
)

// What a milter can want done with the message, as the fact names it.
const (
	actionContinue = "continue"
	actionAccept   = "accept"
	actionReject   = "reject"
	actionDefer    = "defer"
	actionDiscard  = "discard"
)

// verdict is a milter's word on a message or a recipient.
type verdict struct {
	action string
	stage  string
	code   int    // of its own reply; 0 if it gave none
	reply  string // "550 5.7.1 text"
}

func (v *verdict) refuses() bool { return v.action == actionReject || v.action == actionDefer }

// answer reads the reply to one command.
func (p *play) answer(to pending) error {
	for {
		code, data, err := p.link.next(p.ctx)
		if err != nil {
			return err
		}
		switch milter.ActionCode(code) {
		case wire.ActProgress: // the time that it may say nothing begins anew
			continue
		case milter.ActContinue:
			p.goOn(to)
			return nil
		case milter.ActSkip:
			p.skip = true
			p.goOn(to)
			return nil
		}
		if v, ok := final(code, data); ok {
			v.stage = to.stage
			p.decide(to, v)
			return nil
		}
		if to.stage != stageEnd {
			return &fault{fmt.Errorf("the milter says %q at %s", code, to.stage)}
		}
		if err := p.edit(milter.ModifyActCode(code), data); err != nil {
			return err
		}
	}
}

func (p *play) goOn(to pending) {
	if to.stage == stageEnd {
		p.verdict = verdict{action: actionContinue, stage: stageEnd}
	}
}

// decide takes a last word: on a recipient, if it refuses one and others are left, or on the message.
func (p *play) decide(to pending, v verdict) {
	if to.recipient != nil && v.refuses() {
		p.refused, p.last = append(p.refused, to.recipient.ForwardPath), v
		if len(p.refused) < len(p.view.Recipients) {
			return
		}
	}
	p.verdict = v
	p.decided = to.stage != stageEnd
}

// final reads what ends the milter's part.
func final(code byte, data []byte) (v verdict, ok bool) {
	switch milter.ActionCode(code) {
	case milter.ActAccept:
		v.action = actionAccept
	case milter.ActReject:
		v.action = actionReject
	case milter.ActTempFail, wire.ActShutdown, wire.ActConnFail:
		v.action = actionDefer
	case milter.ActDiscard:
		v.action = actionDiscard
	case milter.ActReplyCode:
		v = ownReply(data)
	default:
		return verdict{}, false
	}
	return v, true
}

// enhancedStart is an enhanced status code (RFC 3463, 2) before the text of a line.
var enhancedStart = regexp.MustCompile(`^([245])\.[0-9]{1,3}\.[0-9]{1,3}( |$)`)

const (
	maxReplyLines = 10
	maxReplyLine  = 512 // bytes (RFC 5321, 4.5.3.1.5)
)

// ownReply reads a reply in the milter's words. What is no reply of class 4 or 5 is taken for a refusal for now without
// a reply: sendmail does so too.
func ownReply(data []byte) verdict {
	code, lines, ok := wire.ParseReply(data)
	if !ok || code < 400 || code > 599 || code/10%10 > 5 {
		return verdict{action: actionDefer}
	}
	v := verdict{action: actionReject, code: code}
	class := "5"
	if code < 500 {
		v.action, class = actionDefer, "4"
	}
	enhanced := class + ".7.1"
	if found := strings.TrimSpace(enhancedStart.FindString(lines[0])); strings.HasPrefix(found, class) {
		enhanced = found
	}
	lines = lines[:min(len(lines), maxReplyLines)]
	for i, line := range lines {
		line = line[len(enhancedStart.FindString(line)):]
		lines[i] = strings.ToValidUTF8(printable(line[:min(len(line), maxReplyLine)]), "?")
	}
	v.reply = strconv.Itoa(code) + " " + enhanced + " " + strings.Join(lines, "\n")
	return v
}

// printable makes control characters question marks.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// facts is what became of the message.
func (p *play) facts() *Facts {
	v := p.verdict
	changes := &filters.Changes{After: p.before(), Fields: p.edits.fields, Body: p.edits.wholeBody(), Envelope: p.edits.envelope}
	if p.filter.config.Mode == modeObserve {
		changes = &filters.Changes{After: changes.After}
	}
	f := &Facts{
		Action:            v.action,
		Rejects:           v.action == actionReject,
		Defers:            v.action == actionDefer,
		Discards:          v.action == actionDiscard,
		Stage:             v.stage,
		RefusedRecipients: p.refused,
		Quarantine:        p.edits.quarantine,
		Headers:           p.edits.headers,
		Edits:             p.edits.done,
		RefusedEdits:      p.edits.refused,
	}
	if v.code != 0 {
		f.Code, f.Reply = &v.code, &v.reply
	}
	if !changes.Empty() || changes.After != nil {
		f.changes = changes
	}
	return f
}
