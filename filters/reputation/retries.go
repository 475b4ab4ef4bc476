package reputation

import (
	"hash/maphash"
	"sync"
	"time"
)

// retries know messages again that came before, for a day at most: a message that is told to come back is still one. They
// keep hashes of the latest ones only, so a flood costs no memory; who is forgotten for it counts again.
type retries struct {
	seed maphash.Seed

	mu           sync.Mutex // guards all below
	late, before map[uint64]struct{}
	begun        time.Time // of late
}

const (
	maxRetries = 16_384
	oneDay     = 24 * time.Hour
)

func newRetries() *retries { return &retries{seed: maphash.MakeSeed(), late: map[uint64]struct{}{}} }

// isNew notes a message and tells whether it was not known.
func (r *retries) isNew(message string, now time.Time) bool {
	h := maphash.String(r.seed, message)
	r.mu.Lock()
	defer r.mu.Unlock()
	if age := now.Sub(r.begun); age > oneDay/2 || age < 0 || len(r.late) >= maxRetries {
		if r.before = r.late; age > oneDay {
			r.before = nil
		}
		r.late, r.begun = map[uint64]struct{}{}, now
	}
	_, late := r.late[h]
	_, before := r.before[h]
	r.late[h] = struct{}{}
	return !late && !before
}
