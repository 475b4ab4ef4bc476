package proxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"gatepost/proxy/front"
	"gatepost/proxy/sockets"
)

// Bound is an entry of `listen:` with its socket.
type Bound struct {
	Listen
	net.Listener
}

// Socket describes the socket.
func (l Listen) Socket() sockets.Want {
	// Keep-alive probes cost every connection three system calls; silent clients meet our own time-outs.
	return sockets.Want{Use: sockets.SMTP, Name: l.Address, Network: "tcp", Address: l.Address, Config: net.ListenConfig{KeepAlive: -1}}
}

// Bind opens the socket, unless it was given to the process.
func (l Listen) Bind(ctx context.Context, given *sockets.Set) (Bound, error) {
	socket, _, err := given.Listen(ctx, l.Socket())
	if err != nil {
		return Bound{}, fmt.Errorf("listen on %s: %w", l.Address, err)
	}
	bound, err := bare(socket)
	if err != nil {
		socket.Close()
		return Bound{}, fmt.Errorf("listen on %s: %w", l.Address, err)
	}
	return Bound{l, bound}, nil
}

// door is a Bound while it is served.
type door = front.Door[listenConfig]

// listenConfig is the part of a door that a reload can change.
type listenConfig struct {
	Listen
	tls *certificates // nil: there is no TLS
	// latest is what the latest client has connected to: mostly the next one does, too, and sessions share it.
	latest atomic.Pointer[netip.AddrPort]
}

// at returns local, in one place for all sessions that come to it.
func (c *listenConfig) at(local netip.AddrPort) *netip.AddrPort {
	if latest := c.latest.Load(); latest != nil && *latest == local {
		return latest
	}
	c.latest.Store(&local)
	return &local
}

func (s *Server) newListenConfig(l Listen) (*listenConfig, error) {
	c := &listenConfig{Listen: l}
	var err error
	if c.tls, err = newCertificates(&c.Listen, s.log, s.clock); err != nil {
		return nil, fmt.Errorf("listen %s: %w", l.Address, err)
	}
	return c, nil
}

// newDoors reads the files of sockets.
func (s *Server) newDoors(sockets []Bound) (doors []*door, err error) {
	for _, b := range sockets {
		config, err := s.newListenConfig(b.Listen)
		if err != nil {
			return nil, err
		}
		doors = append(doors, front.NewDoor(b.Listener, config))
	}
	return doors, nil
}

// Serve accepts clients, also at sockets that Reload adds, until ctx ends, or StopAccepting or Shutdown is called; then it
// closes the sockets. Sessions go on until Shutdown. An error means that nothing was served.
func (s *Server) Serve(ctx context.Context, sockets ...Bound) error {
	doors, err := s.newDoors(sockets)
	if err == nil {
		s.doors.Serve(ctx, doors...)
	}
	return err
}

// accept lets clients in at a door until it is closed.
func (s *Server) accept(d *door) {
	front.AcceptAll(s.doors, d, s.accepter(d.Socket()), func(a arrival) { s.admit(d, a) }, func(err error, pause time.Duration) {
		s.metrics.AcceptErrors.Add(1)
		s.log.Warn("cannot accept connections; is the limit of open files too low?", "listen", d.Socket().Addr(), "error", err, "pause", pause)
	})
}

// acceptConn takes connections as Go's net package makes them.
func acceptConn(l net.Listener) func() (arrival, error) {
	return func() (arrival, error) {
		c, err := l.Accept()
		if err != nil {
			return arrival{}, err
		}
		return arrived(c), nil
	}
}

// admit makes a session of an accepted connection, or turns it away.
func (s *Server) admit(d *door, a arrival) {
	service, _ := s.service.Acquire() // it ends behind the doors
	session := s.newSession(service, d.Config(), a)
	if s.metrics.Open.Add(1)+s.guests.Load() > int64(service.Limits.Connections) {
		s.metrics.Open.Add(-1)
		s.metrics.RefusedFull.Add(1)
		service.Release()
		// The reply fits into an empty socket buffer: this does not wait.
		fmt.Fprintf(&session.conn, "421 4.3.2 Too many connections, please try again later\r\n")
		session.conn.hangUp()
		s.mu.Lock()
		s.recycle(session)
		s.mu.Unlock()
		return
	}
	s.metrics.Sessions.Add(1)
	s.enlist(session)
	go session.drive(wakeStart)
}

// enlist takes a session that begins to run into the list.
func (s *Server) enlist(session *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(session)
}

// add is called with the mutex held.
func (s *Server) add(session *session) {
	session.slot = int32(len(s.sessions))
	s.sessions = append(s.sessions, session)
	s.running.Add(1)
}
