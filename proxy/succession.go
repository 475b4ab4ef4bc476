package proxy

import (
	"maps"
	"net/netip"
	"sync"
	"time"
)

// A successor accepts clients while this server's last sessions go on (`gatepost upgrade`). What both have to count or to
// know together is the successor's: it inherits what there is, as guests, and hears the news.

// Heritage is what sessions that are open leave to the server that accepts the next. It goes from one process to another,
// of another release perhaps: fields are added.
type Heritage struct {
	Open       int64 // sessions
	Clients    map[netip.Prefix]int
	Deliveries map[string][]string // fingerprints by ID, of those that were not confirmed yet
	Failures   map[netip.Prefix]Failures
}

// Failures is how often a client network has failed to sign in, since when.
type Failures struct {
	Count int
	Since time.Time
}

// News is what happens to a heritage later. Of each field the zero value says nothing but of Open.
type News struct {
	Open         int64 // sessions now
	Client       netip.Prefix
	Change       int    // of the client's sessions
	ID           string // of a delivery
	Fingerprints []string
	Forgotten    bool // the delivery; else it has been made
}

// Bequeath returns what the sessions have, and lets tell know of all that happens to it from then on, in order. tell must
// not wait, and holds up sessions. find asks the heir for a delivery by its fingerprints. With two nil functions this
// server is its own heir again.
func (s *Server) Bequeath(tell func(News), find func(fingerprints []string) (id string)) Heritage {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := &s.deliveries
	d.mu.Lock()
	defer d.mu.Unlock()
	s.tell, d.tell, d.elsewhere = tell, nil, find
	if tell != nil {
		d.tell = func(n News) { n.Open = s.sessionsNow(); tell(n) }
	}
	return Heritage{Open: s.sessionsNow(), Clients: maps.Clone(s.clients), Deliveries: maps.Clone(d.open), Failures: s.failures.copy()}
}

// sessionsNow is how many count for limits.connections: guests do.
func (s *Server) sessionsNow() int64 { return s.metrics.Open.Load() + s.guests.Load() }

// countClient changes how many sessions a client has. The caller holds the mutex.
func (s *Server) countClient(network netip.Prefix, change int) {
	if s.clients[network] += change; s.clients[network] <= 0 {
		delete(s.clients, network)
	}
	if s.tell != nil {
		s.tell(News{Open: s.sessionsNow(), Client: network, Change: change})
	}
}

// Guests are sessions of a predecessor that count here. They are safe for concurrent use.
type Guests struct {
	server *Server

	mu      sync.Mutex // guards all below
	open    int64
	clients map[netip.Prefix]int
	ids     map[string]struct{}
}

// Inherit takes over what a predecessor's sessions have.
func (s *Server) Inherit(h Heritage) *Guests {
	g := &Guests{server: s, clients: map[netip.Prefix]int{}, ids: map[string]struct{}{}}
	for network, n := range h.Clients {
		g.Hear(News{Open: h.Open, Client: network, Change: n})
	}
	for id, fingerprints := range h.Deliveries {
		g.Hear(News{Open: h.Open, ID: id, Fingerprints: fingerprints})
	}
	g.Hear(News{Open: h.Open})
	s.failures.add(h.Failures)
	return g
}

// Hear takes note of news.
func (g *Guests) Hear(n News) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.server.guests.Add(n.Open - g.open)
	g.open = n.Open
	if n.Change != 0 {
		if g.clients[n.Client] += n.Change; g.clients[n.Client] == 0 {
			delete(g.clients, n.Client)
		}
		g.server.mu.Lock()
		g.server.countClient(n.Client, n.Change)
		g.server.mu.Unlock()
	}
	switch {
	case n.ID == "":
	case n.Forgotten:
		delete(g.ids, n.ID)
		g.server.deliveries.remove(n.ID)
	default:
		g.ids[n.ID] = struct{}{}
		g.server.deliveries.add(n.Fingerprints, n.ID)
	}
}

// Leave forgets all of them: the predecessor has ended.
func (g *Guests) Leave() {
	g.mu.Lock()
	clients, ids := maps.Clone(g.clients), maps.Clone(g.ids)
	g.mu.Unlock()
	for network, n := range clients {
		g.Hear(News{Client: network, Change: -n})
	}
	for id := range ids {
		g.Hear(News{ID: id, Forgotten: true})
	}
	g.Hear(News{})
}

// FindDelivery returns the ID of a delivery that was not confirmed yet, for a predecessor.
func (s *Server) FindDelivery(fingerprints []string) (id string) {
	return s.deliveries.find(fingerprints)
}

// StopAccepting closes the sockets and returns when nobody is admitted any more. Sessions go on.
func (s *Server) StopAccepting() { s.doors.Close() }

// Drained is closed when the last session has ended. Call it once, after StopAccepting.
func (s *Server) Drained() <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		s.running.Wait()
		close(ended)
	}()
	return ended
}
