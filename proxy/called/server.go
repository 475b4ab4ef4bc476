package called

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"gatepost/proxy/front"
)

// Server accepts MTAs at entries of the type L. Its methods are safe for concurrent use.
type Server[L Entry] struct {
	key     string // of the configuration, such as milter
	begin   func(*Conn[L]) Session
	log     *slog.Logger
	metrics *Metrics
	service front.InForce[*service]

	strangers, crowds front.Seldom // connections that were refused, in the log

	// base is the context of everything that sessions wait for; it ends when Shutdown loses patience.
	base   context.Context
	cancel context.CancelFunc
	doors  *front.Doors[L]
	// closing: no new sessions, those that are not busy end. killed: all end.
	closing, killed atomic.Bool
	running         sync.WaitGroup // one for each session

	mu    sync.Mutex // guards conns
	conns map[*Conn[L]]struct{}
}

// Metrics counts connections. Every field is safe for concurrent use; all but Open only grow.
type Metrics struct {
	Open     atomic.Int64 // connections of MTAs now
	Sessions atomic.Int64 // connections of MTAs ever

	RefusedFull  atomic.Int64 // connections refused by limits.connections
	RefusedPeers atomic.Int64 // connections from networks that are not in `peers`
	AcceptErrors atomic.Int64
	Violations   atomic.Int64 // connections ended because what came was not the protocol
	Timeouts     atomic.Int64 // connections ended because the MTA was silent
	Panics       atomic.Int64 // connections ended by a mistake of ours
}

// Options is what a Server is made with.
type Options[L Entry] struct {
	Key     string                 // of the configuration, such as milter: for logs and errors
	Begin   func(*Conn[L]) Session // makes the session of a connection; called on its goroutine
	Service Service
	Log     *slog.Logger
	Metrics *Metrics
}

// New makes a server that listens nowhere yet. It has to be shut down.
func New[L Entry](o Options[L]) (*Server[L], error) {
	if err := o.Service.validate(); err != nil {
		return nil, err
	}
	s := &Server[L]{
		key: o.Key, begin: o.Begin, log: o.Log, metrics: o.Metrics,
		conns: make(map[*Conn[L]]struct{}),
	}
	s.base, s.cancel = context.WithCancel(context.Background())
	s.doors = front.NewDoors(s.accept)
	s.service.Begin(newService(o.Service))
	return s, nil
}

// Listeners is on how many addresses MTAs are served now.
func (s *Server[L]) Listeners() int { return len(s.doors.Open()) }

// Serve accepts MTAs, also at sockets that Reload adds, until ctx ends, or StopAccepting or Shutdown is called; then it
// closes the sockets. Sessions go on until Shutdown.
func (s *Server[L]) Serve(ctx context.Context, sockets ...Bound[L]) {
	s.doors.Serve(ctx, doorsOf(sockets)...)
}

func doorsOf[L Entry](sockets []Bound[L]) (doors []*front.Door[L]) {
	for _, b := range sockets {
		doors = append(doors, front.NewDoor(b.Listener, &b.Entry))
	}
	return doors
}

// accept lets MTAs in at a door until it is closed.
func (s *Server[L]) accept(d *front.Door[L]) {
	admit := func(c net.Conn) {
		if admitted := s.admit(d.Config(), c); admitted != nil {
			go admitted.drive()
		}
	}
	front.AcceptAll(s.doors, d, d.Socket().Accept, admit, func(err error, pause time.Duration) {
		s.metrics.AcceptErrors.Add(1)
		s.log.Warn("cannot accept connections; is the limit of open files too low?", s.key, d.Socket().Addr(), "error", err, "pause", pause)
	})
}

// Hold serves one connection to its end, on the caller's goroutine.
func (s *Server[L]) Hold(entry *L, c net.Conn) {
	if admitted := s.admit(entry, c); admitted != nil {
		admitted.drive()
	}
}

// admit makes a session of an accepted connection, or closes it: the MTA then does what its own configuration says about
// a server that does not answer.
func (s *Server[L]) admit(entry *L, c net.Conn) *Conn[L] {
	common := (*entry).Common()
	if !common.accepts(c.RemoteAddr()) {
		s.metrics.RefusedPeers.Add(1)
		if left, due := s.strangers.Due(); due {
			s.log.Warn("a connection from a network that is not in peers", s.key, common.Address, "peer", c.RemoteAddr(), "not_logged", left)
		}
		c.Close()
		return nil
	}
	service, _ := s.service.Acquire() // it ends behind the doors
	if limit := service.Limits.Connections; s.metrics.Open.Add(1) > int64(limit) {
		s.metrics.Open.Add(-1)
		s.metrics.RefusedFull.Add(1)
		if left, due := s.crowds.Due(); due {
			s.log.Warn("too many connections of MTAs", s.key, common.Address, "limit", limit, "not_logged", left)
		}
		service.Release()
		c.Close()
		return nil
	}
	s.metrics.Sessions.Add(1)
	conn := &Conn[L]{Conn: c, Entry: entry, Service: &service.Service, Patience: IdlePatience, Note: "MTA left", server: s, service: service}
	conn.session = s.begin(conn)
	s.mu.Lock()
	s.conns[conn] = struct{}{}
	s.running.Add(1)
	s.mu.Unlock()
	return conn
}

// retire forgets a connection that has ended.
func (s *Server[L]) retire(ended *Conn[L]) {
	s.mu.Lock()
	delete(s.conns, ended)
	s.mu.Unlock()
	s.metrics.Open.Add(-1)
	ended.service.Release()
	s.running.Done()
}

// Shutdown stops accepting and waits for the sessions: those that are busy go on until they are not, others end
// now; their MTAs do without. When ctx ends, all that are left are closed and ctx's error is returned.
func (s *Server[L]) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing.Store(true)
	s.mu.Unlock()
	s.StopAccepting()
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
	s.service.End()
	return err
}

// interrupt makes every session that waits look at closing and killed.
func (s *Server[L]) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.interrupt()
	}
}

// StopAccepting closes the sockets and returns when nobody is admitted any more. Sessions go on.
func (s *Server[L]) StopAccepting() { s.doors.Close() }

// Drained is closed when the last session has ended. Call it once, after StopAccepting.
func (s *Server[L]) Drained() <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		s.running.Wait()
		close(ended)
	}()
	return ended
}
