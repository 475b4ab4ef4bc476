package backend

import (
	"container/list"
	"context"
	"sync"
	"time"
)

const (
	// maxIdle is how long a link may wait for its next client: well below the 300 s after which MTAs hang up.
	maxIdle = 60 * time.Second
	// maxUses bounds the clients of one connection, so that a backend's processes and settings are renewed.
	maxUses = 100
	// maxErrors is the number of error replies after which a connection is not reused. XCLIENT does not reset Postfix's
	// counter, which delays from 10 on and closes at 21; Exim closes after 3 protocol errors.
	maxErrors = 3
	// lateRefusal is how long an error reply may take on a connection that is kept. Courier delays each longer than the one
	// before, by seconds.
	lateRefusal = 2 * time.Second
	// shrunk is how long a backend that has turned a connection away gets no more than it took then.
	shrunk = time.Minute
	// maxNonMail is the number of commands without a message after which a connection is not reused: Exim closes at 11,
	// Postfix counts them as errors from 101 on.
	maxNonMail = 8
)

// pool bounds the links to one backend and keeps idle ones. The last one given back is the first to be used again, so
// that the others can time out.
type pool struct {
	mu      sync.Mutex // guards all below
	idle    []*link
	open    int // links in use, idle or being opened
	max     int
	limit   int // until limited: what the backend takes
	limited time.Time
	waiting list.List // of chan *link, first come first served
	closed  bool      // nothing is kept any more
}

// get returns an idle link, or nil, which is the permission to open one. When all are in use it waits until ctx ends.
func (p *pool) get(ctx context.Context, now time.Time) (*link, error) {
	p.mu.Lock()
	for n := len(p.idle); n > 0; n = len(p.idle) {
		l := p.idle[n-1]
		p.idle = p.idle[:n-1]
		if now.Sub(l.idleSince) < maxIdle && l.alive() {
			p.mu.Unlock()
			return l, nil
		}
		p.open--
		l.close()
	}
	if now.After(p.limited) {
		p.limit = p.max
	}
	if p.open < p.limit {
		p.open++
		p.mu.Unlock()
		return nil, nil
	}
	turn := make(chan *link, 1)
	place := p.waiting.PushBack(turn)
	p.mu.Unlock()

	select {
	case l := <-turn:
		return l, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	select {
	case l := <-turn: // it came at the same moment: pass it on
		p.mu.Unlock()
		p.put(l)
	default:
		p.waiting.Remove(place)
		p.mu.Unlock()
	}
	return nil, ctx.Err()
}

// put gives a link back to be used again, or with nil the permission to open one.
func (p *pool) put(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l != nil && p.closed {
		l.quit()
		l = nil
	}
	if first := p.waiting.Front(); first != nil && (l != nil || p.open <= p.limit) {
		p.waiting.Remove(first)
		first.Value.(chan *link) <- l
		return
	}
	if l == nil {
		p.open--
		return
	}
	p.idle = append(p.idle, l)
}

// bound is how many links there may be at present.
func (p *pool) bound() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limit
}

// shrink notes that the backend turned the caller's connection away while left others of ours are open: as long as
// it lasts, no more are. first tells that this is news.
func (p *pool) shrink(now time.Time) (left int, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	left, first = p.open-1, now.After(p.limited)
	if left > 0 {
		p.limit, p.limited = min(p.max, left), now.Add(shrunk)
	}
	return left, first
}

// crowded tells that few links are left, or that somebody waits for one.
func (p *pool) crowded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	inUse := p.open - len(p.idle)
	return p.waiting.Len() > 0 || inUse >= p.limit-p.limit/10
}

// expire says goodbye to links that have been idle for too long.
func (p *pool) expire(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	keep := p.idle[:0]
	for _, l := range p.idle {
		if now.Sub(l.idleSince) < maxIdle && l.alive() {
			keep = append(keep, l)
			continue
		}
		p.open--
		l.quit()
	}
	clear(p.idle[len(keep):])
	p.idle = keep
}

// drain drops all idle links, because one of them was found dead.
func (p *pool) drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.idle {
		p.open--
		l.close()
	}
	p.idle = nil
}

// close ends all idle links; those in use are not kept when they come back.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, l := range p.idle {
		p.open--
		l.quit()
	}
	p.idle = nil
}
