package arc

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"strings"

	"gatepost/filters"
)

// appendField appends a canonical field (RFC 6376, 3.4.1 and 3.4.2).
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

var isWhite = [256]bool{' ': true, '\t': true, '\r': true, '\n': true}

// appendUnsigned appends the field of a signature as it was signed: without its value, and without a line end.
func (s *signed) appendUnsigned(dst []byte, relaxed bool) []byte {
	raw := make([]byte, 0, len(s.field.Raw))
	raw = append(append(raw, s.field.Raw[:s.valueStart]...), s.field.Raw[s.valueEnd:]...)
	return bytes.TrimSuffix(appendField(dst, raw, relaxed), []byte("\r\n"))
}

// headerHash is the hash that a message signature signs (RFC 6376, 3.7): the fields that h= names, each name taking the
// next one from the bottom up, and then the signature itself, which no name can mean. Names that are left over stand for
// nothing.
func (m *messageSignature) headerHash(fields []filters.Field) [sha256.Size]byte {
	signed := make([]byte, 0, 4<<10)
	next := make([]int, len(m.names)) // by name: where the search goes on if it occurs again
	for i, name := range m.names {
		at := len(fields) - 1
		for before := i - 1; before >= 0; before-- {
			if strings.EqualFold(m.names[before], name) {
				at = next[before]
				break
			}
		}
		for at >= 0 && (name == "" || !strings.EqualFold(fields[at].Name, name) || &fields[at] == m.field) {
			at--
		}
		if at >= 0 {
			signed = appendField(signed, fields[at].Raw, m.headerRelaxed)
		}
		next[i] = at - 1
	}
	return sha256.Sum256(m.appendUnsigned(signed, m.headerRelaxed))
}

// sealHashes are the hashes that the seals sign (RFC 8617, 5.1.1): all sets up to the seal's own, relaxed. What one seal
// has in common with the next is hashed once.
func sealHashes(sets []set, seals []signed) [][sha256.Size]byte {
	sums := make([][sha256.Size]byte, len(sets))
	common := sha256.New()
	buffer := make([]byte, 0, 4<<10)
	for i := range sets {
		buffer = appendField(buffer[:0], sets[i].fields[results].Raw, true)
		buffer = appendField(buffer, sets[i].fields[signature].Raw, true)
		common.Write(buffer)
		buffer = seals[i].appendUnsigned(buffer[:0], true)
		own := clone(common)
		own.Write(buffer)
		own.Sum(sums[i][:0])
		common.Write(appendField(buffer[:0], sets[i].fields[seal].Raw, true))
	}
	return sums
}

// clone copies the state of a hash; those of the standard library can do that.
func clone(h hash.Hash) hash.Hash {
	copied, err := h.(hash.Cloner).Clone()
	if err != nil {
		panic("arc: SHA-256 cannot be cloned: " + err.Error())
	}
	return copied
}
