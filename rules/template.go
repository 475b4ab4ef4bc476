package rules

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of what is rendered, in bytes.
const (
	// maxReplyLine leaves room for code, enhanced code and what the caller adds: a line has at most 512 bytes
	// (RFC 5321, 4.5.3.1.5).
	maxReplyLine  = 400
	maxReplyLines = 10
	// maxHeaderLine stays below the 998 of RFC 5322, 2.1.1.
	maxHeaderLine = 900
	// maxShown is how much of a fact is shown: it may be as long as a stranger likes.
	maxShown = 200
)

// absentFact is shown where a fact is not there.
const absentFact = "unknown"

// template is text with facts in it: "{client.ip} is listed". `{{` and `}}` stand for braces.
type template []piece

// piece is either literal text, or a fact, or the score.
type piece struct {
	literal string
	fact    *field
	score   bool
}

// parseTemplate reads the text of src from offset from on. Facts must be known at stage.
func (c *ruleCompiler) parseTemplate(src Source, from, stage int) (t template, reads []*field) {
	literal := strings.Builder{}
	flush := func() {
		if literal.Len() > 0 {
			t = append(t, piece{literal: literal.String()})
			literal.Reset()
		}
	}
	for i := from; i < len(src.Text); {
		r, size := utf8.DecodeRuneInString(src.Text[i:])
		rest := src.Text[i:]
		switch {
		case strings.HasPrefix(rest, "{{"), strings.HasPrefix(rest, "}}"):
			literal.WriteRune(r)
			size = 2
		case r == '}':
			c.fail(src.at(i), "a } without {; write }} for the character itself")
			return nil, nil
		case r == '{':
			end := strings.IndexByte(rest, '}')
			if end < 0 {
				c.fail(src.at(i), "the { is never closed; write {{ for the character itself")
				return nil, nil
			}
			flush()
			name := rest[1:end]
			if p, ok := c.templateFact(src.at(i+1), name, stage); ok {
				t = append(t, p)
				if p.fact != nil && !slices.Contains(reads, p.fact) {
					reads = append(reads, p.fact)
				}
			}
			size = end + 1
		case r != '\n' && (r < ' ' || r > '~'):
			c.fail(src.at(i), "the character %U cannot be sent here: printable ASCII only", r)
			return nil, nil
		default:
			literal.WriteRune(r)
		}
		i += size
	}
	flush()
	return t, reads
}

func (c *ruleCompiler) templateFact(at Pos, name string, stage int) (piece, bool) {
	if name == "score" {
		return piece{score: true}, true
	}
	x := c.schema.byName[name]
	switch {
	case x == nil:
		c.fail(at, "there is no fact %s%s", quote(name), suggest(name, c.schema.names()))
		return piece{}, false
	case x.Stage > stage:
		c.fail(at, "%s is not known before %s, and the rule acts at %s", name, c.schema.stages[x.Stage], c.schema.stages[stage])
		return piece{}, false
	}
	return piece{fact: x}, true
}

// render fills in the facts and cuts every line to longest bytes.
func (t template) render(f *Facts, longest int) string {
	var line []byte
	for _, p := range t {
		switch {
		case p.fact != nil:
			line = p.fact.show(line, f)
		case p.score:
			line = strconv.AppendFloat(line, f.score, 'g', -1, 64)
		default:
			line = append(line, p.literal...)
		}
	}
	if len(line) <= longest {
		return string(line)
	}
	lines := strings.Split(string(line), "\n")
	for i := range lines {
		lines[i] = lines[i][:min(len(lines[i]), longest)]
	}
	return strings.Join(lines, "\n")
}

// show appends the fact as text that is safe in a reply, a header field and a terminal.
func (x *field) show(dst []byte, f *Facts) []byte {
	if !x.present(f) {
		return append(dst, absentFact...)
	}
	start := len(dst)
	switch x.Kind {
	case Bool:
		value, _ := x.boolean(f)
		dst = strconv.AppendBool(dst, value)
	case Number:
		value, _ := x.number(f)
		dst = strconv.AppendFloat(dst, value, 'f', -1, 64)
	case Text:
		value, _ := x.text(f)
		dst = appendPrintable(dst, value, maxShown)
	case List:
		value, _ := x.list(f)
		for i, entry := range value {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = appendPrintable(dst, entry, maxShown)
			if len(dst)-start >= maxShown {
				break
			}
		}
	case Address:
		value, _ := x.address(f)
		dst = value.AppendTo(dst)
	}
	return dst[:min(len(dst), start+maxShown)]
}

// appendPrintable replaces whatever is not printable ASCII by question marks, one for each character.
func appendPrintable(dst []byte, s string, limit int) []byte {
	for _, r := range s {
		if limit == 0 {
			break
		}
		limit--
		if r < ' ' || r > '~' {
			r = '?'
		}
		dst = append(dst, byte(r))
	}
	return dst
}
