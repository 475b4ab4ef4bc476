package milter

import (
	"errors"
	"strings"
	"unicode/utf8"

	"gatepost/filters"
	"gatepost/filters/milter/wire"
)

var envelopeEdits = [...]struct{ text, needs string }{
	filters.ChangeSender:    {"sender", editSender},
	filters.AddRecipient:    {"add recipient", editRecipients},
	filters.DeleteRecipient: {"delete recipient", editRecipients},
}

// editEnvelope takes an address to add, to delete or to put in the sender's place.
func (p *play) editEnvelope(kind filters.EnvelopeEditKind, data []byte) error {
	e := &p.edits
	given, params := wire.Envelope(data)
	edit := filters.EnvelopeEdit{Kind: kind}
	address, ok := p.address(given)
	if ok = ok && (address != "" || kind == filters.ChangeSender); ok && kind == filters.AddRecipient {
		edit.Params, ok = paramsOf(params)
	}
	text := envelopeEdits[kind].text + " "
	if !ok {
		e.refused = list(e.refused, "%s", text+given)
		return nil
	}
	edit.Address = address
	text += "<" + address + ">"
	if !p.filter.config.allows(envelopeEdits[kind].needs) {
		e.refused = list(e.refused, "%s", text)
		return nil
	}
	if len(e.envelope) == maxEnvelope {
		return &fault{errors.New("the milter wants too many recipients changed")}
	}
	e.envelope = append(e.envelope, edit)
	e.done = list(e.done, "%s", text)
	return nil
}

// address is what a milter gave, without its angle brackets. It becomes a part of a command, so that nothing passes that
// could end the path in it; quoted local parts with blanks do not either. ok is false, too, for an address that this
// message's envelope cannot have (RFC 6531, 3.4).
func (p *play) address(given string) (address string, ok bool) {
	address = given
	if inner, opened := strings.CutPrefix(given, "<"); opened {
		if address, ok = strings.CutSuffix(inner, ">"); !ok {
			return "", false
		}
	}
	for i := range len(address) {
		switch b := address[i]; {
		case b <= ' ', b == 0x7f, b == '<', b == '>', b == '\\', b >= utf8.RuneSelf && !p.view.Envelope.UTF8:
			return "", false
		}
	}
	return address, len(address) <= maxAddress && utf8.ValidString(address)
}

// paramsOf reads ESMTP parameters (RFC 5321, 4.1.2). The milter may have put several in one text, with blanks between.
func paramsOf(texts []string) (params []filters.Param, ok bool) {
	for _, text := range strings.Fields(strings.Join(texts, " ")) {
		key, value, hasValue := strings.Cut(text, "=")
		if !isKeyword(key) || len(text) > maxAddress || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '=' }) {
			return nil, false
		}
		params = append(params, filters.Param{Key: key, Value: value, HasValue: hasValue})
	}
	return params, true
}

func isKeyword(key string) bool {
	return key != "" && key[0] != '-' && strings.Trim(strings.ToUpper(key), "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
}
