package milter

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/emersion/go-milter"

	"gatepost/filters"
	"gatepost/filters/milter/wire"
)

// Bounds of what one milter may want changed in one message.
const (
	maxFields     = 500
	maxFieldBytes = 1 << 20 // of all fields
	maxNewBody    = 32 << 20
	maxListed     = 100 // texts of each kind among the facts
	maxShown      = 300 // bytes of each
	maxName       = 100
	maxLine       = 998 // RFC 5322, 2.1.1
	maxEnvelope   = 1000
	maxAddress    = 512
)

// edits is what a milter wants changed.
type edits struct {
	fields     []filters.FieldEdit
	size       int
	body       []byte
	replaces   bool // the body
	quarantine *string
	envelope   []filters.EnvelopeEdit

	headers, done, refused []string // facts
}

func list(texts []string, format string, args ...any) []string {
	if len(texts) == maxListed {
		return texts
	}
	return append(texts, shown(fmt.Sprintf(format, args...)))
}

// shown is a text among the facts.
func shown(text string) string {
	return strings.ToValidUTF8(printable(text[:min(len(text), maxShown)]), "?")
}

// edit takes one of the frames that come between the end of the message and the last word.
func (p *play) edit(code milter.ModifyActCode, data []byte) error {
	e := &p.edits
	switch code {
	case milter.ActAddHeader:
		name, value, ok := wire.Header(data)
		if !ok {
			return &fault{errors.New("the milter adds a field without a name")}
		}
		return p.editField(filters.FieldEdit{Kind: filters.AppendField, Name: string(name)}, wire.Text(value))
	case milter.ActInsertHeader, milter.ActChangeHeader:
		change, ok := wire.ParseHeaderEdit(data)
		if !ok {
			return &fault{errors.New("the milter changes a field without a name")}
		}
		kind := filters.InsertField
		switch {
		case code == milter.ActInsertHeader:
		case change.Value == "":
			kind = filters.DeleteField
		default:
			kind = filters.ChangeField
		}
		index := int(min(change.Index, 1<<20))
		return p.editField(filters.FieldEdit{Kind: kind, Index: index, Name: change.Name}, change.Value)
	case milter.ActReplBody:
		return p.editBody(data)
	case milter.ActQuarantine:
		reason := shown(wire.Text(data))
		e.quarantine = &reason
	case milter.ActAddRcpt, milter.ModifyActCode(wire.ActAddRcptPar):
		return p.editEnvelope(filters.AddRecipient, data)
	case milter.ActDelRcpt:
		return p.editEnvelope(filters.DeleteRecipient, data)
	case milter.ActChangeFrom:
		return p.editEnvelope(filters.ChangeSender, data)
	default:
		return &fault{fmt.Errorf("the milter says %q at the end", byte(code))}
	}
	return nil
}

var kindNames = [...]string{filters.InsertField: "insert", filters.AppendField: "add", filters.ChangeField: "change", filters.DeleteField: "delete"}

func (p *play) editField(f filters.FieldEdit, value string) error {
	e := &p.edits
	text := kindNames[f.Kind]
	if f.Kind != filters.AppendField {
		text += fmt.Sprintf(" %d", f.Index)
	}
	text += " " + f.Name
	if f.Kind != filters.DeleteField {
		text += ": " + unfolded(value)
	}
	ok := isName(f.Name)
	if ok && f.Kind != filters.DeleteField {
		f.Raw, ok = p.link.field(f.Name, value)
	}
	if !ok || !p.filter.config.allows(editHeaders) {
		e.refused = list(e.refused, "%s", text)
		return nil
	}
	if e.size += len(f.Name) + len(f.Raw); len(e.fields) == maxFields || e.size > maxFieldBytes {
		return &fault{errors.New("the milter wants too much changed")}
	}
	e.fields = append(e.fields, f)
	e.done = list(e.done, "%s", text)
	if f.Kind != filters.DeleteField {
		e.headers = list(e.headers, "%s: %s", f.Name, unfolded(value))
	}
	return nil
}

func unfolded(value string) string {
	return strings.TrimSpace(strings.NewReplacer("\r", "", "\n", "").Replace(value))
}

// isName tells whether a field can be called so (RFC 5322, 3.6.8).
func isName(name string) bool {
	if len(name) == 0 || len(name) > maxName {
		return false
	}
	for i := range len(name) {
		if name[i] <= ' ' || name[i] > '~' || name[i] == ':' {
			return false
		}
	}
	return true
}

// field is a whole field with the value that a milter gave. Line ends in it become folding: nothing in it can begin a
// field of its own, or the body. ok is false where a line is longer than any may be.
func (l *link) field(name, value string) (raw []byte, ok bool) {
	raw = append(raw, name...)
	raw = append(raw, ':')
	if !l.agrees(milter.OptHeaderLeadingSpace) {
		raw = append(raw, ' ')
	}
	start := 0 // of the line
	for i, line := range strings.Split(value, "\n") {
		line = strings.ReplaceAll(line, "\r", "")
		if i > 0 {
			if strings.Trim(line, " \t") == "" {
				continue
			}
			raw = append(raw, "\r\n"...)
			start = len(raw)
			if line[0] != ' ' && line[0] != '\t' {
				raw = append(raw, '\t')
			}
		}
		for _, b := range []byte(line) {
			if b < ' ' && b != '\t' || b == 0x7f {
				b = '?'
			}
			raw = append(raw, b)
		}
		if len(raw)-start > maxLine {
			return nil, false
		}
	}
	return append(raw, "\r\n"...), true
}

func (p *play) editBody(data []byte) error {
	e := &p.edits
	switch {
	case !p.filter.config.allows(editBody):
		if !e.replaces {
			e.refused = list(e.refused, "body")
		}
	case len(e.body)+len(data) > maxNewBody:
		return &fault{errors.New("the milter's new body is too large")}
	case e.body == nil:
		e.body = append(make([]byte, 0, len(data)), data...)
	default:
		e.body = append(e.body, data...)
	}
	e.replaces = true
	return nil
}

// wholeBody is the new body with CRLF alone as line ends, nil if there is none. A bare LF before a dot would end the
// message for some who read it.
func (e *edits) wholeBody() []byte {
	if e.body == nil {
		return nil
	}
	body := make([]byte, 0, len(e.body)+len(e.body)/64+2)
	for _, line := range bytes.SplitAfter(e.body, []byte("\n")) {
		text := bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			continue
		}
		for _, b := range text {
			switch b {
			case 0, '\r':
				b = ' '
			}
			body = append(body, b)
		}
		body = append(body, "\r\n"...)
	}
	e.done = list(e.done, "body %d bytes", len(body))
	return body
}
