package resolver

import (
	"net/netip"
	"sync"
)

// maxSpare is how many sockets of a server wait for the next question.
const maxSpare = 64

// spare is UDP sockets that are connected to a server on this machine, and free. Each serves one question at a time.
//
// A server elsewhere gets a socket for each question, so that strangers have to guess its port (RFC 5452, 4.5). To a
// socket that is connected to a loopback address no stranger can send: the kernel takes such datagrams from this machine
// alone. There, eight of the twelve system calls of a question were for the socket.
type spare struct {
	mu     sync.Mutex // guards conns, closed
	conns  []*socket
	closed bool
}

// isNear tells whether a server is on this machine.
func isNear(address string) bool {
	to, err := netip.ParseAddrPort(address)
	return err == nil && to.Addr().Unmap().IsLoopback()
}

// take returns the socket that was used last, or nil.
func (s *spare) take() *socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.conns) - 1
	if last < 0 {
		return nil
	}
	conn := s.conns[last]
	s.conns = s.conns[:last]
	return conn
}

// keep takes a socket whose question was answered.
func (s *spare) keep(conn *socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.conns) == maxSpare {
		conn.Close()
		return
	}
	s.conns = append(s.conns, conn)
}

// count is how many wait.
func (s *spare) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// close closes them, and those that come later.
func (s *spare) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, conn := range s.conns {
		conn.Close()
	}
	s.conns = nil
}
