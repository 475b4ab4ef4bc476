package milter

import (
	"context"
	"slices"
	"sync"
	"time"

	"gatepost/filters"
)

const (
	// maxIdle is how many connections are kept for further messages.
	maxIdle = 16
	// idleTime is for how long. Milters of libmilter wait two hours, others less.
	idleTime = 30 * time.Second
)

// pool keeps connections between messages, and bounds how many there are at once.
type pool struct {
	places chan struct{} // one for each connection that is in use

	mu      sync.Mutex // guards all below
	idle    []*link    // the one used last at the end
	closed  bool
	handsOn bool // connections serve one client after the other
}

func newPool(connections int, handsOn bool) *pool {
	return &pool{places: make(chan struct{}, connections), handsOn: handsOn}
}

// enterEarly takes a place unless half of them are taken.
func (p *pool) enterEarly() bool {
	if 2*len(p.places) >= cap(p.places) {
		return false
	}
	select {
	case p.places <- struct{}{}:
		return true
	default:
		return false
	}
}

// enter waits for a place.
func (p *pool) enter(ctx context.Context) error {
	select {
	case p.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pool) leave() { <-p.places }

// take returns the connection that knows the client already, or one whose client has left, if it can be handed on, or nil.
// That of a client who is still there is left alone: its next message comes there. Handing on is not the default: neither
// Postfix nor sendmail ever sends SMFIC_QUIT_NC, and not every milter goes on behind it.
func (p *pool) take(s *filters.Session, g *filters.Greeting) *link {
	p.mu.Lock()
	old := p.outdated(time.Now())
	var l *link
	found := slices.IndexFunc(p.idle, func(l *link) bool { return l.knows(s, g) })
	if found < 0 {
		found = slices.IndexFunc(p.idle, func(l *link) bool { return l.handedOn })
	}
	if found >= 0 {
		l = p.idle[found]
		p.idle = slices.Delete(p.idle, found, found+1)
	}
	p.mu.Unlock()
	quit(old)
	return l
}

// keep puts a connection back.
func (p *pool) keep(l *link) {
	l.used = time.Now()
	p.mu.Lock()
	var old []*link
	switch {
	case p.closed:
		old = []*link{l}
	default:
		if len(p.idle) == maxIdle {
			old = slices.Clone(p.idle[:1])
			p.idle = slices.Delete(p.idle, 0, 1)
		}
		p.idle = append(p.idle, l)
	}
	p.mu.Unlock()
	quit(old)
}

// end closes the connections that know a client who has left, or sets them free.
func (p *pool) end(s *filters.Session) {
	p.mu.Lock()
	if p.handsOn {
		for _, l := range p.idle {
			if l.session == s {
				l.session, l.greeting, l.handedOn = nil, nil, true
			}
		}
	}
	old := p.remove(func(l *link) bool { return l.session == s })
	p.mu.Unlock()
	quit(old)
}

// stopHandingOn tells whether it was done up to now.
func (p *pool) stopHandingOn() bool {
	p.mu.Lock()
	did := p.handsOn
	p.handsOn = false
	old := p.remove(func(l *link) bool { return l.handedOn })
	p.mu.Unlock()
	quit(old)
	return did
}

// remove takes out those that are idle and fit. The caller holds the lock.
func (p *pool) remove(fits func(*link) bool) (removed []*link) {
	p.idle = slices.DeleteFunc(p.idle, func(l *link) bool {
		if fits(l) {
			removed = append(removed, l)
			return true
		}
		return false
	})
	return removed
}

func (p *pool) idling() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle)
}

// outdated takes out what has been idle for too long. The caller holds the lock.
func (p *pool) outdated(now time.Time) []*link {
	n := 0
	for n < len(p.idle) && now.Sub(p.idle[n].used) > idleTime {
		n++
	}
	old := slices.Clone(p.idle[:n])
	p.idle = slices.Delete(p.idle, 0, n)
	return old
}

// run closes what is idle, and at its end everything.
func (p *pool) run(ctx context.Context) {
	ticker := time.NewTicker(idleTime / 2)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			p.mu.Lock()
			old := p.outdated(now)
			p.mu.Unlock()
			quit(old)
		case <-ctx.Done():
			p.mu.Lock()
			old := p.idle
			p.idle, p.closed = nil, true
			p.mu.Unlock()
			quit(old)
			return
		}
	}
}

func quit(list []*link) {
	for _, l := range list {
		l.quit()
	}
}
