package arc

import (
	"crypto/sha256"
	"hash"

	"gatepost/filters"
	"gatepost/filters/canonical"
)

// headerHash is the hash that a message signature signs.
func (m *messageSignature) headerHash(fields []filters.Field) [sha256.Size]byte {
	text := m.header.AppendSigned(make([]byte, 0, 4<<10), fields, m.names, m.field)
	return sha256.Sum256(m.appendUnsigned(text, m.header))
}

func (s *signed) appendUnsigned(dst []byte, a canonical.Algorithm) []byte {
	return a.AppendUnsigned(dst, s.field.Raw, s.valueStart, s.valueEnd)
}

// sealHashes are the hashes that the seals sign (RFC 8617, 5.1.1): all sets up to the seal's own, relaxed. What one seal
// has in common with the next is hashed once.
func sealHashes(sets []set, seals []signed) [][sha256.Size]byte {
	sums := make([][sha256.Size]byte, len(sets))
	common := sha256.New()
	buffer := make([]byte, 0, 4<<10)
	for i := range sets {
		buffer = canonical.Relaxed.AppendField(buffer[:0], sets[i].fields[results].Raw)
		buffer = canonical.Relaxed.AppendField(buffer, sets[i].fields[signature].Raw)
		common.Write(buffer)
		buffer = seals[i].appendUnsigned(buffer[:0], canonical.Relaxed)
		own := clone(common)
		own.Write(buffer)
		own.Sum(sums[i][:0])
		common.Write(canonical.Relaxed.AppendField(buffer[:0], sets[i].fields[seal].Raw))
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
