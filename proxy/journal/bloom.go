package journal

// A block's head has a Bloom filter of what its entries can be looked up by: session ids, mail addresses, client
// addresses. So a search unpacks only the blocks that are worth it.
const (
	bloomBits   = 10 // for each key: one block in a hundred is unpacked in vain
	bloomProbes = 7
	maxBloom    = 32 << 10
)

// The kinds of keys.
const (
	idKey      = 'i'
	mailKey    = 'm'
	addressKey = 'a'
	changeKey  = 'c' // of all changes alike: a network or a domain cannot be looked up
)

// hashKey is FNV-1a: it must be the same in every release.
func hashKey[T string | []byte](kind byte, key T) uint64 {
	h := (uint64(14695981039346656037) ^ uint64(kind)) * 1099511628211
	for i := range len(key) {
		c := key[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h ^ h>>29
}

func makeBloom(keys []uint64) []byte {
	if len(keys) == 0 {
		return nil
	}
	filter := make([]byte, min((len(keys)*bloomBits+7)/8, maxBloom))
	for _, key := range keys {
		bloomEach(filter, key, func(i, bit int) bool { filter[i] |= 1 << bit; return true })
	}
	return filter
}

func bloomHas(filter []byte, key uint64) bool {
	if len(filter) == 0 {
		return false
	}
	found := true
	bloomEach(filter, key, func(i, bit int) bool { found = filter[i]&(1<<bit) != 0; return found })
	return found
}

func bloomEach(filter []byte, key uint64, visit func(i, bit int) bool) {
	bits := uint64(len(filter)) * 8
	step := key>>32 | 1
	for range bloomProbes {
		bit := key % bits
		if !visit(int(bit/8), int(bit%8)) {
			return
		}
		key += step
	}
}
