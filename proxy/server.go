package proxy

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"gatepost/filters"
	"gatepost/proxy/front"
)

// Options is what a Server is made with.
type Options struct {
	Service Service
	Spill   filters.Spill // where large messages go
	Log     *slog.Logger
	Clock   filters.Clock // for time stamps; time-outs go by the machine's own
	IDs     *front.IDs    // shared with the milter front end, as is Memory; nil: one of its own
	Memory  *front.Memory
}

// Server is the SMTP front end. Its methods are safe for concurrent use.
type Server struct {
	spill    filters.Spill
	log      *slog.Logger
	clock    filters.Clock
	metrics  Metrics
	ids      *front.IDs
	lot      parker
	service  front.InForce[*service]
	memory   *front.Memory
	failures failures

	deliveries deliveries
	guests     atomic.Int64 // sessions of predecessors
	watch      clockWatch

	// base is the context of everything that sessions wait for; it ends when Shutdown loses patience.
	base   context.Context
	cancel context.CancelFunc
	doors  *front.Doors[listenConfig]
	// closing: no new sessions, idle ones end. killed: all end, whatever they do.
	closing, killed atomic.Bool
	parking         sync.WaitGroup // the parker's goroutine
	running         sync.WaitGroup // one for each session

	mu       sync.Mutex // guards all below, and the slot of every session
	sessions []*session // in no order
	free     []*session
	clients  map[netip.Prefix]int // connections per client network
	tell     func(News)           // who has inherited; nil: nobody
}

// maxFree bounds the structs kept for sessions to come. Without them the garbage of a burst of sessions was measured
// to double the memory of waiting ones.
const maxFree = 1024

// New makes a server that listens nowhere yet. It has to be shut down.
func New(o Options) (*Server, error) {
	if err := o.Service.Limits.Validate(); err != nil {
		return nil, fmt.Errorf("limits: %w", err)
	}
	lot, err := newParker()
	if err != nil {
		return nil, err
	}
	return newServer(o, lot), nil
}

func newServer(o Options, lot parker) *Server {
	s := &Server{
		spill: o.Spill, log: o.Log, clock: o.Clock, lot: lot, ids: cmp.Or(o.IDs, &front.IDs{}), memory: cmp.Or(o.Memory, &front.Memory{}),
		clients: make(map[netip.Prefix]int),
	}
	s.base, s.cancel = context.WithCancel(context.Background())
	s.doors = front.NewDoors(s.accept)
	s.service.Begin(newService(o.Service))
	s.parking.Go(func() { lot.run(s.base) })
	return s
}

// Metrics counts what the server does.
func (s *Server) Metrics() *Metrics { return &s.metrics }

// newSession takes a struct from the free list.
func (s *Server) newSession(service *service, listen *listenConfig, a arrival) *session {
	s.mu.Lock()
	var recycled *session
	if n := len(s.free); n > 0 {
		recycled, s.free[n-1] = s.free[n-1], nil
		s.free = s.free[:n-1]
	}
	s.mu.Unlock()
	if recycled == nil {
		recycled = new(session)
	}
	recycled.server, recycled.service, recycled.listen = s, service, listen
	recycled.info = &filters.Session{Client: filters.ClientAt(a.peer), To: listen.at(a.local)}
	recycled.conn = conn{Conn: a.Conn, fd: a.fd, session: recycled}
	if a.Conn == nil {
		recycled.conn.Conn = recycled.conn.own()
	}
	return recycled
}

// recycle keeps the struct for a session to come. The caller holds the mutex.
func (s *Server) recycle(ended *session) {
	*ended = session{}
	if len(s.free) < maxFree {
		s.free = append(s.free, ended)
	}
}

// retire forgets a session that has ended.
func (s *Server) retire(ended *session) {
	s.leaveClient(ended)
	service := ended.service
	s.mu.Lock()
	last := len(s.sessions) - 1
	s.sessions[ended.slot] = s.sessions[last]
	s.sessions[ended.slot].slot = ended.slot
	s.sessions[last] = nil
	s.sessions = s.sessions[:last]
	s.recycle(ended)
	s.metrics.Open.Add(-1)
	if s.tell != nil {
		s.tell(News{Open: s.sessionsNow()})
	}
	s.mu.Unlock()
	service.Release()
	s.running.Done()
}

// Shutdown stops accepting and waits for the sessions: idle ones are told 421 4.3.2 now, busy ones after their
// transaction. When ctx ends, all that are left are closed and ctx's error is returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing.Store(true)
	s.mu.Unlock()
	s.StopAccepting()
	s.eachSession(s.lot.rouse)

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
		s.eachSession(func(e *session) {
			if _, ours := e.conn.Conn.(*descriptor); !ours {
				e.conn.SetDeadline(time.Unix(1, 0)) // interrupts a read or write that waits
			}
			s.lot.rouse(e)
		})
		<-ended
	}
	s.cancel()
	s.parking.Wait()
	s.service.End()
	return err
}

// eachSession calls f for every session. None can end meanwhile.
func (s *Server) eachSession(f func(*session)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.sessions {
		f(e)
	}
}

// stack is the stack of a panic, short enough for a log.
func stack() string {
	text := debug.Stack()
	return string(text[:min(len(text), 8<<10)])
}
