package rules

import (
	"net/textproto"
	"regexp"
	"slices"
	"strings"
)

// replies tells whether the action answers the client with a text of the operator's. Drop answers nothing.
func (r *Rule) replies() bool {
	switch r.Action {
	case Reject, Defer, Greylist, Discard, Quarantine:
		return true
	default:
		return false
	}
}

// class is the first digit of the codes that fit the action: it refuses for good, for now, or says that all is well.
func (a Action) class() byte {
	switch a {
	case Reject:
		return '5'
	case Defer, Greylist:
		return '4'
	default:
		return '2'
	}
}

// replyStart is "CODE X.Y.Z " (RFC 5321, 4.2; RFC 3463, 2).
var replyStart = regexp.MustCompile(`^([245][0-5][0-9]) ([245])\.([0-9]{1,3})\.([0-9]{1,3}) `)

// reply reads "CODE X.Y.Z text {fact} …".
func (c *ruleCompiler) reply(src Source, r *Rule) {
	src.Text = strings.TrimRight(src.Text, "\r\n ")
	if c.foreignReply(src, r) {
		return
	}
	start := replyStart.FindString(src.Text)
	if start == "" {
		c.fail(src.at(0), "a reply looks like this: %c50 %c.7.1 Text for the sender", r.Action.class(), r.Action.class())
		return
	}
	code, enhanced, _ := strings.Cut(strings.TrimSuffix(start, " "), " ")
	switch {
	case code[0] != r.Action.class():
		c.fail(src.at(0), "the code of %s is %cxx, not %s", r.Action, r.Action.class(), code)
	case enhanced[0] != code[0]:
		c.fail(src.at(4), "the enhanced code must be of the class of %s: %c%s", code, code[0], enhanced[1:])
	case code == "421" && r.Action == Greylist:
		// A closed connection would cost the other transactions of the session.
		c.fail(src.at(0), "421 closes the connection; greylist with 451")
	}
	if c.boundedLines(src, len(start)) {
		var reads []*field
		r.code = codeOf(code)
		r.enhanced = enhanced
		r.reply, reads = c.parseTemplate(src, len(start), r.Stage)
		r.addReplyGroups(reads)
	}
}

// foreignReply reads "{fact}" where the fact is a whole reply, such as a milter's.
func (c *ruleCompiler) foreignReply(src Source, r *Rule) bool {
	name, found := strings.CutPrefix(src.Text, "{")
	name, closed := strings.CutSuffix(name, "}")
	x := c.schema.byName[name]
	if !found || !closed || x == nil || !x.isReply {
		return false
	}
	if p, ok := c.templateFact(src.at(1), name, r.Stage); ok {
		r.foreign = p.fact
		r.addReplyGroups([]*field{p.fact})
	}
	return true
}

// foreignReply is the reply that a fact holds. What it says was not known when the rule was loaded, so that it is
// checked here: ok is false where it is absent, is no reply, or is not of the class of the rule's action.
func (r *Rule) foreignReply(f *Facts) (reply Reply, ok bool) {
	if !r.foreign.present(f) {
		return Reply{}, false
	}
	text, _ := r.foreign.text(f)
	lines := strings.SplitN(text, "\n", maxReplyLines+1)
	start := replyStart.FindString(lines[0])
	class := r.Action.class()
	if start == "" || start[0] != class || start[4] != class || r.Action == Greylist && start[:3] == "421" {
		return Reply{}, false
	}
	lines[0] = lines[0][len(start):]
	lines = lines[:min(len(lines), maxReplyLines)]
	for i, line := range lines {
		lines[i] = string(appendPrintable(nil, line, maxReplyLine))
	}
	code, enhanced, _ := strings.Cut(strings.TrimSuffix(start, " "), " ")
	return Reply{Code: codeOf(code), Enhanced: enhanced, Text: strings.Join(lines, "\n")}, true
}

func codeOf(digits string) int {
	return int(digits[0]-'0')*100 + int(digits[1]-'0')*10 + int(digits[2]-'0')
}

func (c *ruleCompiler) boundedLines(src Source, from int) bool {
	lines := strings.Split(src.Text[from:], "\n")
	if len(lines) > maxReplyLines {
		c.fail(src.at(0), "a reply has at most %d lines", maxReplyLines)
		return false
	}
	for _, line := range lines {
		if len(line) > maxReplyLine {
			c.fail(src.at(from+maxReplyLine), "a line of a reply has at most %d bytes", maxReplyLine)
			return false
		}
		from += len(line) + 1
	}
	return true
}

// singleFields may be in a message once only (RFC 5322, 3.6), say what was done to it, or how to read it: a second one
// would be a forgery of our own.
var singleFields = []string{
	"Authentication-Results", "Bcc", "Cc", "Content-Disposition", "Content-Transfer-Encoding", "Content-Type", "Date",
	"Dkim-Signature", "From", "In-Reply-To", "Message-Id", "Mime-Version", "Received", "References", "Reply-To",
	"Return-Path", "Sender", "Subject", "To",
}

// header reads "Name: value {fact} …".
func (c *ruleCompiler) header(src Source, r *Rule) {
	src.Text = strings.TrimRight(src.Text, "\r\n ")
	name, value, ok := strings.Cut(src.Text, ":")
	switch {
	case !ok || strings.TrimSpace(value) == "":
		c.fail(src.at(0), "a header field looks like this: X-Spam-Reason: listed by {…}")
		return
	case !isFieldName(name) || strings.ContainsAny(name, "{}"):
		c.fail(src.at(0), "%s is not the name of a header field", quote(name))
		return
	case slices.Contains(singleFields, textproto.CanonicalMIMEHeaderKey(name)):
		c.fail(src.at(0), "a rule cannot add a %s field, it would break the message; take a name of your own", name)
		return
	case strings.Contains(value, "\n"):
		c.fail(src.at(strings.IndexByte(src.Text, '\n')), "a header field must be one line")
		return
	case len(src.Text) > maxHeaderLine:
		c.fail(src.at(maxHeaderLine), "a header field has at most %d bytes", maxHeaderLine)
		return
	}
	value = strings.TrimLeft(value, " ")
	t, reads := c.parseTemplate(src, len(src.Text)-len(value), r.Stage)
	r.header = append(template{{literal: name + ": "}}, t...)
	r.addReplyGroups(reads)
}

func (r *Rule) addReplyGroups(reads []*field) {
	for _, x := range reads {
		if !slices.Contains(r.ReplyGroups, x.Group) {
			r.ReplyGroups = append(r.ReplyGroups, x.Group)
		}
	}
}
