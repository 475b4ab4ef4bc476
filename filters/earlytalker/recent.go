package earlytalker

import (
	"sync"
	"time"
)

const (
	// rest is for how long, at least, a network is not written again; twice that at most. A store that has lost all is told
	// anew within that time.
	rest = time.Hour
	// maxRecent bounds the networks of that time, twice; 60 bytes each.
	maxRecent = 20_000
)

// recent is the networks that were written lately. A shared store cannot tell without a round trip whether a network is
// known, and every write makes the other proxies forget their copies of its mark.
type recent struct {
	mu            sync.Mutex // guards the following
	late, earlier map[string]struct{}
	turned        time.Time
}

// note makes a network one of them if it is none yet and take, which must not wait, takes it.
func (r *recent) note(key string, now time.Time, take func() bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if age := now.Sub(r.turned); age >= rest || age < 0 || len(r.late) >= maxRecent {
		if r.earlier = r.late; age >= 2*rest || age < 0 {
			r.earlier = nil
		}
		r.late, r.turned = map[string]struct{}{}, now
	}
	if _, known := r.late[key]; known {
		return
	}
	if _, known := r.earlier[key]; !known && take() {
		r.late[key] = struct{}{}
	}
}
