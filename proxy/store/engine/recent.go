package engine

import "sync"

// recent is a bounded set of addresses: those of one generation and of the one before it. Its zero value is empty. It is safe
// for concurrent use.
type recent struct {
	mu          sync.Mutex // guards latest, old
	latest, old map[string]struct{}
}

const maxRecent = 32_768 // in a generation

func (r *recent) add(a address) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.latest) >= maxRecent {
		r.latest, r.old = nil, r.latest
	}
	if r.latest == nil {
		r.latest = map[string]struct{}{}
	}
	r.latest[a.id()] = struct{}{}
}

func (r *recent) hasAny(addresses []address) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range addresses {
		id := a.id()
		if _, ok := r.latest[id]; ok {
			return true
		}
		if _, ok := r.old[id]; ok {
			return true
		}
	}
	return false
}

func (r *recent) remove(addresses []address) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range addresses {
		delete(r.latest, a.id())
		delete(r.old, a.id())
	}
}
