package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"time"

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

// listener is a Bound while it is served.
type listener struct {
	socket net.Listener
	config atomic.Pointer[listenConfig]
}

// listenConfig is the part of a listener that a reload can change.
type listenConfig struct {
	Listen
	tls *certificates // nil: there is no TLS
}

func (s *Server) newListenConfig(l Listen) (*listenConfig, error) {
	c := &listenConfig{Listen: l}
	var err error
	if c.tls, err = newCertificates(&c.Listen, s.log, s.clock); err != nil {
		return nil, fmt.Errorf("listen %s: %w", l.Address, err)
	}
	return c, nil
}

// newListener reads the files of a Bound.
func (s *Server) newListener(b Bound) (*listener, error) {
	config, err := s.newListenConfig(b.Listen)
	if err != nil {
		return nil, err
	}
	l := &listener{socket: b.Listener}
	l.config.Store(config)
	return l, nil
}

// Serve accepts clients, also at sockets that Reload adds, until ctx ends, or StopAccepting or Shutdown is called; then it
// closes the sockets. Sessions go on until Shutdown. An error means that nothing was served.
func (s *Server) Serve(ctx context.Context, sockets ...Bound) error {
	var served []*listener
	for _, b := range sockets {
		l, err := s.newListener(b)
		if err != nil {
			return err
		}
		served = append(served, l)
	}
	if !s.open(served) {
		return nil
	}
	defer context.AfterFunc(ctx, s.closeListeners)()
	<-s.listening.Done()
	s.accepting.Wait()
	return nil
}

// open accepts at listeners; false if nobody is admitted any more, which closes them.
func (s *Server) open(ls []*listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listening.Err() != nil {
		for _, l := range ls {
			l.socket.Close()
		}
		return false
	}
	s.begin(ls)
	return true
}

// begin accepts at listeners. The caller holds the mutex, and has looked whether anybody is admitted.
func (s *Server) begin(ls []*listener) {
	for _, l := range ls {
		s.listeners[l] = struct{}{}
		s.accepting.Go(func() { s.accept(l) })
	}
}

// closeListeners lets nobody in any more.
func (s *Server) closeListeners() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopListening()
	for l := range s.listeners {
		l.socket.Close()
	}
	clear(s.listeners)
}

// accept never gives up while the socket is open: out of descriptors or memory, it waits for sessions to end.
func (s *Server) accept(l *listener) {
	const longest = time.Second
	pause := 5 * time.Millisecond
	next := s.accepter(l.socket)
	for {
		a, err := next()
		switch {
		case err == nil:
			pause = 5 * time.Millisecond
			s.admit(l, a)
		case errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, syscall.ECONNABORTED): // the client left while it was queued
		default:
			s.metrics.AcceptErrors.Add(1)
			s.log.Warn("cannot accept connections; is the limit of open files too low?", "listen", l.socket.Addr(), "error", err, "pause", pause)
			select {
			case <-s.listening.Done():
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, longest)
		}
	}
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
func (s *Server) admit(l *listener, a arrival) {
	service := s.current()
	session := s.newSession(service, l.config.Load(), a)
	if s.metrics.Open.Add(1)+s.guests.Load() > int64(service.Limits.Connections) {
		s.metrics.Open.Add(-1)
		s.metrics.RefusedFull.Add(1)
		service.release()
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
	session.slot = int32(len(s.sessions))
	s.sessions = append(s.sessions, session)
	s.running.Add(1)
}
