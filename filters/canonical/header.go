package canonical

import (
	"bytes"
	"strings"

	"gatepost/filters"
)

// AppendField appends a field in canonical form. Where it ends the message without a line end, it gets one.
func (a Algorithm) AppendField(dst, raw []byte) []byte {
	if a == Relaxed {
		return appendRelaxed(dst, raw)
	}
	dst = append(dst, raw...)
	if !bytes.HasSuffix(raw, []byte(crlf)) {
		dst = append(dst, crlf...)
	}
	return dst
}

func appendRelaxed(dst, raw []byte) []byte {
	name, value, _ := bytes.Cut(raw, []byte{':'})
	for _, c := range bytes.TrimRight(name, " \t") {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	dst = append(dst, ':')
	for start := len(dst); ; {
		white := 0
		for white < len(value) && isWhite[value[white]] {
			white++
		}
		value = value[white:]
		if len(value) == 0 {
			return append(dst, crlf...)
		}
		if white > 0 && len(dst) > start {
			dst = append(dst, ' ')
		}
		word := 0
		for word < len(value) && !isWhite[value[word]] {
			word++
		}
		dst = append(dst, value[:word]...)
		value = value[word:]
	}
}

var isWhite = [256]bool{' ': true, '\t': true, '\r': true, '\n': true}

// AppendUnsigned appends the field of a signature as it was signed (RFC 6376, 3.7): without its value, which is what
// stands from start to end, and without a line end.
func (a Algorithm) AppendUnsigned(dst, raw []byte, start, end int) []byte {
	unsigned := make([]byte, 0, 1<<10)
	unsigned = append(append(unsigned, raw[:start]...), raw[end:]...)
	return bytes.TrimSuffix(a.AppendField(dst, unsigned), []byte(crlf))
}

// AppendSigned appends the fields that a signature signs, in the order of the names in its h= (RFC 6376, 5.4.2): each name
// takes the next one from the bottom up. Names that are left over stand for nothing, and so does an empty one. None can
// mean the field of the signature itself.
func (a Algorithm) AppendSigned(dst []byte, fields []filters.Field, names []string, signature *filters.Field) []byte {
	next := make([]int, 0, 32) // by name: where the search goes on if it occurs again
	for i, name := range names {
		at := len(fields) - 1
		for before := i - 1; before >= 0; before-- {
			if strings.EqualFold(names[before], name) {
				at = next[before]
				break
			}
		}
		for at >= 0 && (name == "" || !strings.EqualFold(fields[at].Name, name) || &fields[at] == signature) {
			at--
		}
		if at >= 0 {
			dst = a.AppendField(dst, fields[at].Raw)
		}
		next = append(next, at-1)
	}
	return dst
}
