package rules

import (
	"encoding/binary"
	"math"
	"net/netip"
	"net/textproto"
	"strings"
)

// expression is a compiled value. It may be absent.
type expression[T any] interface {
	value(f *Facts) (v T, ok bool)
	pending(v view) bool
	residual(dst []byte, v view) []byte
}

// The facts as values.
type (
	numberFact  struct{ *field }
	textFact    struct{ *field }
	listFact    struct{ *field }
	addressFact struct{ *field }
)

func (x numberFact) value(f *Facts) (float64, bool)     { return x.number(f) }
func (x textFact) value(f *Facts) (string, bool)        { return x.text(f) }
func (x listFact) value(f *Facts) ([]string, bool)      { return x.list(f) }
func (x addressFact) value(f *Facts) (netip.Addr, bool) { return x.address(f) }

func (x numberFact) pending(v view) bool  { return v.pending(x.field) }
func (x textFact) pending(v view) bool    { return v.pending(x.field) }
func (x listFact) pending(v view) bool    { return v.pending(x.field) }
func (x addressFact) pending(v view) bool { return v.pending(x.field) }

func (x numberFact) residual(dst []byte, v view) []byte {
	return residualOfValue(x, dst, v, appendNumber)
}
func (x textFact) residual(dst []byte, v view) []byte { return residualOfValue(x, dst, v, appendText) }
func (x listFact) residual(dst []byte, v view) []byte { return residualOfValue(x, dst, v, appendList) }
func (x addressFact) residual(dst []byte, v view) []byte {
	return residualOfValue(x, dst, v, appendAddress)
}

// number is a literal.
type number float64

func (x number) value(*Facts) (float64, bool)       { return float64(x), true }
func (x number) pending(view) bool                  { return false }
func (x number) residual(dst []byte, _ view) []byte { return dst }

// text is a literal.
type text string

func (x text) value(*Facts) (string, bool)        { return string(x), true }
func (x text) pending(view) bool                  { return false }
func (x text) residual(dst []byte, _ view) []byte { return dst }

// arithmetic combines two numbers. What is no number (infinity minus infinity) is absent.
type arithmetic struct {
	left, right expression[float64]
	apply       func(a, b float64) float64
}

func (x arithmetic) value(f *Facts) (float64, bool) {
	left, ok := x.left.value(f)
	if !ok {
		return 0, false
	}
	right, ok := x.right.value(f)
	if !ok {
		return 0, false
	}
	result := x.apply(left, right)
	return result, result == result
}

func (x arithmetic) pending(v view) bool { return x.left.pending(v) || x.right.pending(v) }

func (x arithmetic) residual(dst []byte, v view) []byte {
	if !x.pending(v) {
		return residualOfValue(x, dst, v, appendNumber)
	}
	dst = x.left.residual(append(dst, '('), v)
	return append(x.right.residual(dst, v), ')')
}

// lowered is lower(text). Comparisons with literals look through it and fold instead; else upper-case input costs a copy.
type lowered struct{ operand expression[string] }

func (x lowered) value(f *Facts) (string, bool) {
	value, ok := x.operand.value(f)
	return lowerASCII(value), ok
}

func (x lowered) pending(v view) bool { return x.operand.pending(v) }

func (x lowered) residual(dst []byte, v view) []byte { return residualOfValue(x, dst, v, appendText) }

// textLength is len(text), in bytes.
type textLength struct{ operand expression[string] }

func (x textLength) value(f *Facts) (float64, bool) {
	value, ok := x.operand.value(f)
	return float64(len(value)), ok
}

func (x textLength) pending(v view) bool { return x.operand.pending(v) }

func (x textLength) residual(dst []byte, v view) []byte {
	return residualOfValue(x, dst, v, appendNumber)
}

// listLength is len(list).
type listLength struct{ operand expression[[]string] }

func (x listLength) value(f *Facts) (float64, bool) {
	value, ok := x.operand.value(f)
	return float64(len(value)), ok
}

func (x listLength) pending(v view) bool { return x.operand.pending(v) }

func (x listLength) residual(dst []byte, v view) []byte {
	return residualOfValue(x, dst, v, appendNumber)
}

// headerField is header("Name").
type headerField struct {
	*field
	name string // canonical
}

func (x headerField) value(f *Facts) (string, bool) {
	if row := f.row(x.Group); row != nil {
		value, recorded := row.headers[x.name]
		return value, recorded
	}
	source := x.source(f)
	if source == nil {
		return "", false
	}
	value, ok := source.Header(x.name)
	if partial, isPartial := source.(PartialHeader); !ok && isPartial && !partial.Holds(x.name) {
		return "", false
	}
	return value, true
}

// source is nil before the message is there, and where the header was recorded in a row.
func (x headerField) source(f *Facts) HeaderSource {
	p := x.read(f)
	if p == nil || f.rows.has(x.Group) {
		return nil
	}
	return *(*HeaderSource)(p)
}

// pending is also a field that was not recorded: where it could decide, nothing can be told.
func (x headerField) pending(v view) bool {
	if v.pending(x.field) {
		return true
	}
	partial, ok := x.source(v.facts).(PartialHeader)
	return ok && !partial.Holds(x.name)
}

func (x headerField) residual(dst []byte, v view) []byte {
	return residualOfValue(x, dst, v, appendText)
}

// factOfHeader names a header field among the facts that a rule reads.
func factOfHeader(name string) string { return `header("` + name + `")` }

func headerOfFact(fact string) (name string, ok bool) {
	name, ok = strings.CutPrefix(fact, `header("`)
	if !ok {
		return "", false
	}
	name, ok = strings.CutSuffix(name, `")`)
	return textproto.CanonicalMIMEHeaderKey(name), ok
}

// scoreSum is `score`. It is pending while rules that add to it are to come.
type scoreSum struct{ rules []*Rule }

func (x *scoreSum) value(f *Facts) (float64, bool) { return f.score, true }

func (x *scoreSum) pending(v view) bool {
	for _, r := range x.rules {
		if r.Stage > v.now {
			return true
		}
	}
	return false
}

// residual holds what is left of every rule that may still add points, for the sum depends on them.
func (x *scoreSum) residual(dst []byte, v view) []byte {
	if !x.pending(v) {
		return residualOfValue(x, dst, v, appendNumber)
	}
	if v.inScore {
		return append(dst, 'S')
	}
	v.inScore = true
	dst = appendNumber(append(dst, '('), v.facts.score)
	for _, r := range x.rules {
		if r.Stage > v.now {
			dst = r.condition.residual(dst, v)
		}
	}
	return append(dst, ')')
}

// residualOfValue writes P for a pending value, U for an absent one, else V and the value so that its end can be told.
func residualOfValue[T any](x expression[T], dst []byte, v view, encode func([]byte, T) []byte) []byte {
	if x.pending(v) {
		return append(dst, 'P')
	}
	value, ok := x.value(v.facts)
	if !ok {
		return append(dst, 'U')
	}
	return encode(append(dst, 'V'), value)
}

func appendNumber(dst []byte, value float64) []byte {
	return binary.BigEndian.AppendUint64(dst, math.Float64bits(value))
}

func appendText(dst []byte, value string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(value))), value...)
}

func appendList(dst []byte, value []string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(value)))
	for _, entry := range value {
		dst = appendText(dst, entry)
	}
	return dst
}

func appendAddress(dst []byte, value netip.Addr) []byte {
	return appendText(dst, string(value.AsSlice()))
}
