package dkim

import "sync"

// Bounds of the keys that are kept ready: 2 MB at most.
const (
	maxCached = 256     // in each generation
	maxRecord = 1 << 10 // bytes of a record; one with 4096 bits has 750
)

// keyCache keeps keys of late, so that the record of a domain that sends much is not taken apart for each of its messages:
// a tenth of the allocations of a check. How long a record holds is the resolver's business: it is asked first. Safe for
// concurrent use.
type keyCache struct {
	mu           sync.Mutex // guards late, before
	late, before map[cachedRecord]cachedKey
}

type cachedRecord struct{ keyType, record string }

// cachedKey is what readKey says of a record.
type cachedKey struct {
	key    *key
	failed verdict
}

// read is readKey. The key is shared: it must not be changed.
func (c *keyCache) read(record string, s *signature) (*key, verdict) {
	if c == nil || len(record) > maxRecord {
		return readKey(record, s)
	}
	name := cachedRecord{s.keyType, record}
	c.mu.Lock()
	found, ok := c.late[name]
	if !ok {
		found, ok = c.before[name]
	}
	c.mu.Unlock()
	if ok {
		return found.key, found.failed
	}
	k, failed := readKey(record, s)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.late) >= maxCached || c.late == nil {
		c.late, c.before = make(map[cachedRecord]cachedKey), c.late
	}
	c.late[name] = cachedKey{k, failed}
	return k, failed
}
