package milter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/proxy"
	"gatepost/proxy/front"
)

// Service is what sessions work with. It is never written after it was handed over; a reload hands over another, and
// running sessions finish on the one that they began with.
type Service struct {
	Hostname string
	Engine   *policy.Engine
	Runtime  *policy.Runtime
	// Limits of the whole process. What a milter has no say in (commands, errors, recipients, line_length, ...) is the
	// MTA's own affair.
	Limits proxy.Limits
	// Retired is called once, when the service was replaced and its last session has ended. May be nil.
	Retired func()
}

// service counts who uses a Service: its sessions, and the server while it is the current one.
type service struct {
	Service
	users front.Uses
}

func (v *service) release() {
	if v.users.Release() && v.Retired != nil {
		v.Retired()
	}
}

// Options is what a Server is made with.
type Options struct {
	Service Service
	Spill   filters.Spill // where large messages go
	Log     *slog.Logger
	Clock   filters.Clock // for time stamps; time-outs go by the machine's own
	IDs     *front.IDs    // shared with the SMTP front end, as is Memory; nil: one of its own
	Memory  *front.Memory
}

// Server is the milter front end. Its methods are safe for concurrent use.
type Server struct {
	spill   filters.Spill
	log     *slog.Logger
	clock   filters.Clock
	ids     *front.IDs
	memory  *front.Memory
	metrics Metrics
	service atomic.Pointer[service]

	// base is the context of everything that sessions wait for; it ends when Shutdown loses patience.
	base   context.Context
	cancel context.CancelFunc
	// closing: no new sessions, those without a transaction end. killed: all end.
	closing, killed atomic.Bool
	accepting       sync.WaitGroup // one for each listener
	running         sync.WaitGroup // one for each session

	mu        sync.Mutex // guards all below
	listeners map[*listener]struct{}
	sessions  map[*session]struct{}
}

// Metrics counts what the front end does. Every field is safe for concurrent use; all but Open only grow.
type Metrics struct {
	Open     atomic.Int64 // connections of MTAs now
	Sessions atomic.Int64 // connections of MTAs ever

	RefusedFull  atomic.Int64 // connections refused by limits.connections
	RefusedPeers atomic.Int64 // connections from networks that are not in `peers`
	AcceptErrors atomic.Int64
	Violations   atomic.Int64 // connections ended because what came was not the milter protocol
	Timeouts     atomic.Int64 // connections ended because the MTA was silent
	Panics       atomic.Int64 // connections ended by a mistake of ours

	Accepted  atomic.Int64 // messages that were left to the MTA
	Refused   atomic.Int64 // messages refused for good (5yz)
	Deferred  atomic.Int64 // messages refused for now (4yz)
	Discarded atomic.Int64 // messages that a rule had the MTA throw away
	Skipped   atomic.Int64 // messages whose body was not read
	Bytes     atomic.Int64 // bytes of messages received
	Spilled   atomic.Int64 // messages of which a part went to a file
	SpillFull atomic.Int64 // messages refused with 452 because the room for such files was used up
}

// listener is a Bound while it is served.
type listener struct {
	socket net.Listener
	config atomic.Pointer[Listen]
}

// New makes a server that listens nowhere yet. It has to be shut down.
func New(o Options) (*Server, error) {
	if err := o.Service.Limits.Validate(); err != nil {
		return nil, fmt.Errorf("limits: %w", err)
	}
	s := &Server{
		spill: o.Spill, log: o.Log, clock: o.Clock, ids: cmp.Or(o.IDs, &front.IDs{}), memory: cmp.Or(o.Memory, &front.Memory{}),
		listeners: make(map[*listener]struct{}),
		sessions:  make(map[*session]struct{}),
	}
	s.base, s.cancel = context.WithCancel(context.Background())
	s.service.Store(newService(o.Service))
	return s, nil
}

func newService(s Service) *service {
	v := &service{Service: s}
	v.users.Begin()
	return v
}

// Metrics counts what the server does.
func (s *Server) Metrics() *Metrics { return &s.metrics }

// Listeners is on how many addresses MTAs are served now.
func (s *Server) Listeners() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.listeners)
}

// current returns the service for a new session; it has to be released.
func (s *Server) current() *service {
	for {
		if v := s.service.Load(); v.users.Acquire() {
			return v
		}
	}
}

// Reload makes new sessions work with v, and sets what a listener can change, matched by address. Which addresses are
// listened on does not change. On error everything stays as it was.
func (s *Server) Reload(v Service, listen []Listen) error {
	if err := v.Limits.Validate(); err != nil {
		return fmt.Errorf("limits: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return errors.New("the milter is shutting down")
	}
	found := 0
	for l := range s.listeners {
		for i := range listen {
			if listen[i].Address == l.config.Load().Address {
				l.config.Store(&listen[i])
				found++
			}
		}
	}
	if found != len(s.listeners) || found != len(listen) {
		s.log.Warn("the addresses under milter: changed; that needs a restart")
	}
	s.service.Swap(newService(v)).release()
	return nil
}

// Serve accepts MTAs until ctx ends or Shutdown is called, then closes the sockets; sessions go on until Shutdown.
func (s *Server) Serve(ctx context.Context, sockets ...Bound) {
	var served []*listener
	for _, b := range sockets {
		l := &listener{socket: b.Listener}
		l.config.Store(&b.Listen)
		served = append(served, l)
	}
	if !s.open(served) {
		return
	}
	stop := context.AfterFunc(ctx, func() { s.closeListeners(served) })
	defer stop()
	var accepting sync.WaitGroup
	for _, l := range served {
		accepting.Go(func() {
			defer s.accepting.Done()
			s.accept(ctx, l)
		})
	}
	accepting.Wait()
}

// open registers listeners; false if the server is shutting down, which closes them.
func (s *Server) open(ls []*listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range ls {
		if s.closing.Load() {
			l.socket.Close()
			continue
		}
		s.listeners[l] = struct{}{}
		s.accepting.Add(1)
	}
	return !s.closing.Load()
}

func (s *Server) closeListeners(ls []*listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range ls {
		l.socket.Close()
		delete(s.listeners, l)
	}
}

// accept never gives up while the socket is open: out of descriptors or memory, it waits for sessions to end.
func (s *Server) accept(ctx context.Context, l *listener) {
	for {
		c, err := l.socket.Accept()
		switch {
		case err == nil:
			s.admit(l, c)
		case errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, syscall.ECONNABORTED): // the MTA left while it was queued
		default:
			const pause = 100 * time.Millisecond
			s.metrics.AcceptErrors.Add(1)
			s.log.Warn("cannot accept connections; is the limit of open files too low?", "milter", l.socket.Addr(), "error", err, "pause", pause)
			select {
			case <-ctx.Done():
				return
			case <-s.base.Done():
				return
			case <-time.After(pause):
			}
		}
	}
}

// admit makes a session of an accepted connection, or closes it: the MTA then does what its milter_default_action says.
func (s *Server) admit(l *listener, c net.Conn) {
	config := l.config.Load()
	if !config.accepts(c.RemoteAddr()) {
		s.metrics.RefusedPeers.Add(1)
		s.log.Warn("a connection from a network that is not in peers", "milter", config.Address, "peer", c.RemoteAddr())
		c.Close()
		return
	}
	service := s.current()
	if limit := service.Limits.Connections; s.metrics.Open.Add(1) > int64(limit) {
		s.metrics.Open.Add(-1)
		s.metrics.RefusedFull.Add(1)
		s.log.Warn("too many connections of MTAs", "milter", config.Address, "limit", limit)
		service.release()
		c.Close()
		return
	}
	s.metrics.Sessions.Add(1)
	session := newSession(s, service, config, c)
	s.mu.Lock()
	s.sessions[session] = struct{}{}
	s.running.Add(1)
	s.mu.Unlock()
	go session.drive()
}

// retire forgets a session that has ended.
func (s *Server) retire(ended *session) {
	s.mu.Lock()
	delete(s.sessions, ended)
	s.mu.Unlock()
	s.metrics.Open.Add(-1)
	ended.service.release()
	s.running.Done()
}

// Shutdown stops accepting and waits for the sessions: those in a transaction end after it, others now; their MTAs defer
// what they were about to do. When ctx ends, all that are left are closed and ctx's error is returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing.Store(true)
	for l := range s.listeners {
		l.socket.Close()
	}
	clear(s.listeners)
	s.mu.Unlock()
	s.accepting.Wait()
	s.interrupt()

	ended := make(chan struct{})
	go func() {
		s.running.Wait()
		close(ended)
	}()
	var err error
	select {
	case <-ended:
	case <-ctx.Done():
		err = ctx.Err()
		s.killed.Store(true)
		s.cancel()
		s.interrupt()
		<-ended
	}
	s.cancel()
	if v := s.service.Swap(nil); v != nil {
		v.release()
	}
	return err
}

// interrupt makes every session that waits look at closing and killed.
func (s *Server) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := range s.sessions {
		e.conn.interrupt()
	}
}
