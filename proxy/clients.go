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
	e.counted = true
	return true
}

// leaveClient takes the session back out of the count.
func (s *Server) leaveClient(e *session) {
	if !e.counted {
		return
	}
	e.counted = false
	network := clientNetwork(e.info.Client.Addr())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients[network]--; s.clients[network] <= 0 {
		delete(s.clients, network)
	}
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
