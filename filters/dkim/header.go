package dkim

import (
	"bytes"
	"strings"

	"gatepost/filters"
)

// fieldIndex finds the fields of a header by name, from the bottom up, in constant time each.
type fieldIndex struct {
	fields []filters.Field
	last   map[string]int // by name in lower case: the lowest field
	above  []int          // by field: the next one of the same name further up, or -1
}

func newFieldIndex(fields []filters.Field) *fieldIndex {
	x := &fieldIndex{fields: fields, last: make(map[string]int, len(fields)), above: make([]int, len(fields))}
	for i := range fields {
		name := strings.ToLower(fields[i].Name)
		if name == "" {
			continue
		}
		x.above[i] = -1
		if before, found := x.last[name]; found {
			x.above[i] = before
		}
		x.last[name] = i
	}
	return x
}

func (x *fieldIndex) has(name string) bool {
	_, found := x.last[name]
	return found
}

// appendSigned appends what a signature signs of the header (RFC 6376, 3.7): the fields that h= names, each name taking
// the next one from the bottom up, and at last the signature itself without its value. Names that are left over stand
// for nothing. The signature is not among the fields that h= can mean.
func (x *fieldIndex) appendSigned(dst []byte, s *signature) []byte {
	next := make(map[string]int, len(s.signed))
	for _, name := range s.signed {
		i, seen := next[name]
		if !seen {
			last, found := x.last[name]
			if !found {
				continue
			}
			i = last
		}
		if i >= 0 && &x.fields[i] == s.field {
			i = x.above[i]
		}
		if i < 0 {
			next[name] = i
			continue
		}
		dst = appendField(dst, x.fields[i].Raw, s.headerRelaxed)
		next[name] = x.above[i]
	}
	raw := s.field.Raw
	unsigned := make([]byte, 0, len(raw))
	unsigned = append(append(unsigned, raw[:s.valueStart]...), raw[s.valueEnd:]...)
	return bytes.TrimRight(appendField(dst, unsigned, s.headerRelaxed), "\r\n")
}

// appendField appends a canonical field (RFC 6376, 3.4.1 and 3.4.2). raw has a name.
func appendField(dst, raw []byte, relaxed bool) []byte {
	if !relaxed {
		return append(dst, raw...)
	}
	name, value, _ := bytes.Cut(raw, []byte{':'})
	for _, c := range bytes.TrimRight(name, " \t") {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	dst = append(dst, ':')
	start, space := len(dst), false
	for _, c := range value {
		if isWhite[c] {
			space = true
			continue
		}
		if space && len(dst) > start {
			dst = append(dst, ' ')
		}
		space = false
		dst = append(dst, c)
	}
	return append(dst, "\r\n"...)
}
