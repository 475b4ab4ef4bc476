package authres

import (
	"errors"
	"strings"

	"gatepost/filters"
)

// Bounds of what [Parse] reads. What is beyond them is not there.
const (
	maxBody       = 64 << 10 // bytes
	maxResults    = 64
	maxProperties = 32 // of one result
)

// Field is what an Authentication-Results field says.
type Field struct {
	// AuthservID names who says it, as written but without quotes. Empty where the field does not tell.
	AuthservID string
	// Version is the version behind the authserv-id, empty where there is none (which means 1).
	Version string
	// Results holds the results in the field's order. Methods, results, property types and names are in lower case. A
	// property without a type ("action=none", which is common) has an empty Type.
	Results []filters.AuthResult
}

var (
	errTooLong  = errors.New("authentication results: the field is longer than 64 KiB")
	errAuthserv = errors.New("authentication results: unreadable in front of the first semicolon")
)

// Parse reads the body of an Authentication-Results field: what follows the colon, folded or not. It also reads what
// follows "i=N;" in an ARC-Authentication-Results field (RFC 8617, 4.1.1).
//
// Results that are malformed are skipped, and so are words where there should be a property. An error says that it
// cannot be told whose field it is; nothing in it is worth reading then.
func Parse(body string) (Field, error) {
	if len(body) > maxBody {
		return Field{}, errTooLong
	}
	p := parser{scanner{text: body}}
	var f Field
	if err := p.authserv(&f); err != nil {
		return Field{}, err
	}
	for !p.done() && len(f.Results) < maxResults {
		if r, ok := p.result(); ok {
			f.Results = append(f.Results, r)
		}
		p.nextSegment()
	}
	return f, nil
}

type parser struct{ scanner }

// authserv reads up to behind the first semicolon. Fields that begin with a result at once are common; there the
// authserv-id stays empty, and nothing is consumed.
func (p *parser) authserv(f *Field) error {
	p.skip()
	if p.broken {
		return errAuthserv
	}
	start := p.pos
	if _, ok := p.method(); ok {
		p.pos = start
		return nil
	}
	p.pos, p.broken = start, false
	f.AuthservID = p.word("=,")
	p.skip()
	f.Version = p.digits()
	p.nextSegment()
	if p.broken && f.AuthservID == "" {
		return errAuthserv
	}
	return nil
}

func (p *parser) digits() string {
	start := p.pos
	for !p.done() && p.text[p.pos] >= '0' && p.text[p.pos] <= '9' {
		p.pos++
	}
	return p.text[start:p.pos]
}

// method reads `method [/ version] =`, and tells whether that was there.
func (p *parser) method() (string, bool) {
	p.skip()
	method := p.name()
	p.skip()
	if p.accept('/') {
		p.skip()
		p.digits()
		p.skip()
	}
	return strings.ToLower(method), method != "" && p.accept('=')
}

// result reads one result with its reason and properties. It stops at the semicolon, or where it cannot go on.
func (p *parser) result() (r filters.AuthResult, ok bool) {
	if r.Method, ok = p.method(); !ok {
		return r, false
	}
	p.skip()
	r.Result = strings.ToLower(p.name())
	if r.Result == "" || !p.separated() {
		return r, false
	}
	for {
		p.skip()
		if p.done() || p.at(';') {
			return r, !p.broken
		}
		p.property(&r)
		if p.broken {
			return r, false
		}
	}
}

// separated tells whether a word ends here.
func (p *parser) separated() bool {
	return p.done() || isBlank(p.text[p.pos]) || p.at('(') || p.at(';')
}

// property reads `reason=value` or `type.name=value` into r, or steps over a word that is neither.
func (p *parser) property(r *filters.AuthResult) {
	start := p.pos
	kind := p.name()
	p.skip()
	name := ""
	if p.accept('.') {
		p.skip()
		name = p.name()
		p.skip()
	}
	if kind == "" || !p.accept('=') {
		p.pos = start
		p.word("")
		return
	}
	if name == "" {
		kind, name = "", kind
	}
	kind, name = strings.ToLower(kind), strings.ToLower(name)
	value := p.value()
	switch {
	case kind == "" && name == "reason":
		r.Reason = value
	case len(r.Properties) < maxProperties:
		r.Properties = append(r.Properties, filters.AuthProperty{Type: kind, Name: name, Value: value})
	}
}

// value reads a pvalue. An address may have comments and white space around its "@".
func (p *parser) value() string {
	p.skip()
	value := p.word("")
	for range 2 { // "@", and what follows it
		end := p.pos
		p.skip()
		if value == "" || p.done() || p.at(';') || !p.at('@') && p.text[end-1] != '@' {
			p.pos = end
			return value
		}
		value += p.word("")
	}
	return value
}
