package proxy

import (
	"context"
	"sync"
	"time"
)

// wake tells a session why it runs.
type wake uint8

const (
	wakeStart    wake = iota // it was just accepted
	wakeInput                // its client sent something, or left
	wakeTime                 // the time it wanted to wait is over
	wakeShutdown             // the proxy is about to stop
)

// wait tells what a session waits for.
type wait struct {
	input bool          // for the client; else for the time alone
	again bool          // and it is going to do so time and again
	limit time.Duration // at most this long
	over  bool          // for nothing: the session is at its end
}

// parker is where sessions wait. A session that was handed over belongs to the parker until one of the reasons to
// wake it up is met; then it runs again, once.
type parker interface {
	// park lets the session wait. With here the caller goes on with the session itself, for that reason; without,
	// the session is out of the caller's hands.
	park(s *session, w wait) (why wake, here bool)
	// rouse wakes the session if it waits. After a rouse of a session that does not, the next park returns at once
	// if the server is closing: sessions look at that before they wait.
	rouse(s *session)
	// hush is called when much is about to be read without waiting.
	hush(s *session)
	// forget is called before the session's descriptor is closed.
	forget(s *session)
	// look calls f while the session waits and nobody else has it in his hands; f only reads.
	look(s *session, f func())
	// run serves until ctx ends. No session may wait then.
	run(ctx context.Context)
}

// place is a session's own part of the parker. Guarded by the parker's mutex.
type place struct {
	waits waitKind
	watch watchKind // how the kernel watches the descriptor
	ready bool      // something has come since the session waited last
	ended bool      // nothing comes any more but what has come: it never has to wait for input
	name  uint32    // of the watch; tells its events from those of an earlier one
}

// waitKind is what a session waits for.
type waitKind uint8

const (
	forNothing waitKind = iota
	forTime
	forInput // or room for output, or the time
)

// watchKind is how the kernel watches a descriptor.
type watchKind uint8

const (
	watchNever  watchKind = iota // it does not know the descriptor
	watchOnce                    // the next event is told, if at all
	watchAlways                  // all are
)

// take tells whether there may be input that the session has not seen, and forgets it.
func (p *place) take() bool {
	ready := p.ready
	p.ready = false
	return ready || p.ended
}

// threads is the parker for systems without epoll: every waiting session keeps its goroutine.
type threads struct {
	mu    sync.Mutex             // guards the place of every session, and bells
	bells map[*session]chan wake // of those that wait and are not interrupted yet
}

func newThreads() *threads { return &threads{bells: make(map[*session]chan wake)} }

func (p *threads) park(s *session, w wait) (wake, bool) {
	deadline := time.Now().Add(w.limit)
	interrupted := make(chan wake, 1)
	p.mu.Lock()
	s.place.waits, p.bells[s] = forTime, interrupted
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		s.place.waits = forNothing
		delete(p.bells, s)
		p.mu.Unlock()
		s.conn.SetReadDeadline(time.Time{})
	}()
	if s.mustNotWait() {
		return wakeShutdown, true
	}
	if w.input {
		err := s.conn.peek(deadline)
		select {
		case <-interrupted:
			return wakeShutdown, true
		default:
		}
		if err != nil {
			return wakeTime, true
		}
		return wakeInput, true
	}
	sleep := time.NewTimer(w.limit)
	defer sleep.Stop()
	select {
	case <-sleep.C:
		return wakeTime, true
	case <-interrupted:
		return wakeShutdown, true
	}
}

// look: whoever waits here keeps his goroutine, which does not touch the session but for its connection.
func (p *threads) look(s *session, f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.place.waits != forNothing {
		f()
	}
}

func (p *threads) rouse(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if bell := p.bells[s]; bell != nil {
		bell <- wakeShutdown
		delete(p.bells, s)
		s.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

func (p *threads) hush(*session) {}

func (p *threads) forget(*session) {}

func (p *threads) run(ctx context.Context) { <-ctx.Done() }
