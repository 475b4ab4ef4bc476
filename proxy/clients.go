package proxy

import (
	"cmp"
	"net/netip"
	"slices"
)

// enterClient counts the session for its client's network; false if that has too many.
func (s *Server) enterClient(e *session) bool {
	limit := e.service.Limits.ConnectionsPerClient
	if limit == 0 || e.info.Trusted {
		return true
	}
	network := clientNetwork(e.info.Client.IP)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients[network] >= limit {
		return false
	}
	s.countClient(network, 1)
	e.counted = true
	return true
}

// leaveClient takes the session back out of the count.
func (s *Server) leaveClient(e *session) {
	if !e.counted {
		return
	}
	e.counted = false
	network := clientNetwork(e.info.Client.IP)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.countClient(network, -1)
}

// clientNetwork is what counts as one client: an IPv4 address, or an IPv6 /64, of which a customer has all.
func clientNetwork(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	network, _ := a.Prefix(bits)
	return network
}

// originNetwork is where hosts of one sender are near to each other: a resend often comes from the neighbour.
func originNetwork(a netip.Addr) netip.Prefix {
	bits := 24
	if a.Is6() {
		bits = 64
	}
	network, _ := a.Prefix(bits)
	return network
}

// ClientSessions is how many sessions a client's network has now.
type ClientSessions struct {
	Network  netip.Prefix // an IPv4 address, or an IPv6 /64
	Sessions int
}

// Busiest returns the networks with the most sessions now, at most limit, the busiest first. Trusted clients are not
// among them, and nobody is without limits.connections_per_client.
func (s *Server) Busiest(limit int) []ClientSessions {
	s.mu.Lock()
	list := make([]ClientSessions, 0, len(s.clients))
	for network, n := range s.clients {
		list = append(list, ClientSessions{network, n})
	}
	s.mu.Unlock()
	slices.SortFunc(list, func(a, b ClientSessions) int {
		return cmp.Or(cmp.Compare(b.Sessions, a.Sessions), a.Network.Compare(b.Network))
	})
	return list[:min(len(list), limit)]
}
