package proxy

import "net/netip"

// enterClient counts the session for its client's network; false if that has too many.
func (s *Server) enterClient(e *session) bool {
	limit := e.service.Limits.ConnectionsPerClient
	if limit == 0 || e.info.Trusted {
		return true
	}
	network := clientNetwork(e.info.Client.Addr())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients[network] >= limit {
		return false
	}
	s.clients[network]++
	e.network = network
	return true
}

// leaveClient takes the session back out of the count.
func (s *Server) leaveClient(e *session) {
	if !e.network.IsValid() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients[e.network]--; s.clients[e.network] <= 0 {
		delete(s.clients, e.network)
	}
	e.network = netip.Prefix{}
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
