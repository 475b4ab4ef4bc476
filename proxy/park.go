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
	// run serves until ctx ends. No session may wait then.
	run(ctx context.Context)
}

// place is a session's own part of the parker. Guarded by the parker's mutex.
type place struct {
	waits      bool
	armed      bool   // the descriptor is known to the poller
	generation uint32 // of the wait; tells events of this one from those of an earlier owner of the descriptor
}

// threads is the parker for systems without epoll: every waiting session keeps its goroutine.
type threads struct {
	mu sync.Mutex // guards place and interrupts of all sessions
}

func (p *threads) park(s *session, w wait) (wake, bool) {
	deadline := time.Now().Add(w.limit)
	interrupted := make(chan wake, 1)
	p.mu.Lock()
	s.place.waits, s.interrupt = true, interrupted
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		s.place.waits, s.interrupt = false, nil
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

func (p *threads) rouse(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.place.waits && s.interrupt != nil {
		s.interrupt <- wakeShutdown
		s.interrupt = nil
		s.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

func (p *threads) run(ctx context.Context) { <-ctx.Done() }
