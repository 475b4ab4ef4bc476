package proxy

import (
	"maps"
	"net/netip"
	"sync"
	"time"
)

const (
	// failureSpan is how long failures are remembered, from the first on.
	failureSpan = time.Hour
	// maxFailing bounds the networks that are remembered.
	maxFailing = 1 << 16
)

// failures counts by client network how often signing in has failed. Safe for concurrent use.
type failures struct {
	mu       sync.Mutex // guards networks
	networks map[netip.Prefix]Failures
}

// note notes a failure of the session's client.
func (f *failures) note(s *session) {
	if s.info.Trusted {
		return
	}
	now, network := s.server.clock.Now(), clientNetwork(s.info.Client.IP)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.networks == nil {
		f.networks = make(map[netip.Prefix]Failures)
	}
	n, known := f.networks[network]
	if !known && len(f.networks) >= maxFailing {
		f.makeRoom(now)
	}
	if now.Sub(n.Since) >= failureSpan {
		n = Failures{Since: now}
	}
	n.Count++
	f.networks[network] = n
}

// makeRoom forgets what is over, and where that is nothing, any sixteenth.
func (f *failures) makeRoom(now time.Time) {
	for network, n := range f.networks {
		if now.Sub(n.Since) >= failureSpan {
			delete(f.networks, network)
		}
	}
	for network := range f.networks {
		if len(f.networks) < maxFailing-maxFailing/16 {
			return
		}
		delete(f.networks, network)
	}
}

// reached tells whether the session's client has used up its failures.
func (f *failures) reached(s *session, limit int) bool {
	if limit == 0 || s.info.Trusted {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.networks[clientNetwork(s.info.Client.IP)]
	return n.Count >= limit && s.server.clock.Now().Sub(n.Since) < failureSpan
}

// copy is what is known now.
func (f *failures) copy() map[netip.Prefix]Failures {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.networks)
}

// add takes over what another process has counted.
func (f *failures) add(networks map[netip.Prefix]Failures) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.networks == nil {
		f.networks = make(map[netip.Prefix]Failures)
	}
	for network, n := range networks {
		if n.Count += f.networks[network].Count; len(f.networks) < maxFailing {
			f.networks[network] = n
		}
	}
}
