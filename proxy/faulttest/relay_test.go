package faulttest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// direction is one of the four ways that bytes go.
type direction uint8

const (
	fromClient direction = iota
	toClient
	toBackend
	fromBackend
	directions
)

func (d direction) String() string {
	return [...]string{"client to proxy", "proxy to client", "proxy to backend", "backend to proxy"}[d]
}

// kind is what happens at a byte.
type kind uint8

const (
	cut       kind = iota // both connections are closed
	reset                 // both are reset, and what is under way is lost
	halfClose             // the end of input, for the receiver alone
	stallCut              // silence for a moment, then the cut
	stallOn               // silence for a moment, then the rest
	endless               // silence until somebody gives up
	slow                  // the next bytes come one at a time
	split                 // a segment ends here
	kinds
)

func (k kind) String() string {
	return [...]string{"cut", "reset", "half-close", "stall and cut", "stall", "endless stall", "slow", "split"}[k]
}

// fault is what shall happen and where.
type fault struct {
	direction direction
	at        int64 // after so many bytes in this direction, all connections together
	kind      kind
	times     int // how often; the count starts anew each time
}

func (f fault) String() string {
	return fmt.Sprintf("%s after byte %d from %s, %d times", f.kind, f.at, f.direction, f.times)
}

const stallTime = 15 * time.Millisecond

// plan counts bytes and lets faults happen. The relays of a house share one.
type plan struct {
	mu     sync.Mutex // guards all below
	counts [directions]int64
	armed  []armed
	struck int
}

// armed is a fault with the bytes that have passed since it happened last.
type armed struct {
	fault
	passed int64
}

// arm forgets the counts and sets the next faults.
func (p *plan) arm(faults ...fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts, p.armed, p.struck = [directions]int64{}, nil, 0
	for _, f := range faults {
		p.armed = append(p.armed, armed{fault: f})
	}
}

func (p *plan) state() (counts [directions]int64, struck int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts, p.struck
}

// next tells how many of n bytes pass before a fault happens, if one does.
func (p *plan) next(d direction, n int) (pass int, strikes bool, k kind) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pass = n
	var first *armed
	for i := range p.armed {
		a := &p.armed[i]
		if left := a.at - a.passed; a.direction == d && a.times > 0 && left <= int64(pass) {
			pass, first = int(left), a
		}
	}
	p.counts[d] += int64(pass)
	for i := range p.armed {
		if a := &p.armed[i]; a.direction == d && a.times > 0 {
			a.passed += int64(pass)
		}
	}
	if first == nil {
		return pass, false, 0
	}
	p.struck++
	first.times--
	first.passed = 0
	return pass, true, first.kind
}

// relay stands in front of target.
type relay struct {
	target   string
	up, down direction
	plan     *plan
	listener net.Listener
	running  sync.WaitGroup

	mu    sync.Mutex // guards pairs, shut
	pairs map[*pair]bool
	shut  bool // accept and close at once: the target is out of order
}

// pair is a connection on its way through a relay.
type pair struct {
	relay          *relay
	outer, inner   *net.TCPConn
	halves         sync.WaitGroup
	broken         chan struct{} // closed with the first direction that ended
	breaks, closes sync.Once
	stalled        atomic.Bool // by a fault: the end of one direction is not seen
}

func newRelay(t testing.TB, target string, up, down direction, p *plan) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{target: target, up: up, down: down, plan: p, listener: l, pairs: map[*pair]bool{}}
	r.running.Go(r.accept)
	return r
}

func (r *relay) address() string { return r.listener.Addr().String() }

func (r *relay) accept() {
	for {
		outer, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		shut := r.shut
		r.mu.Unlock()
		if shut {
			outer.Close()
			continue
		}
		r.running.Go(func() { r.serve(outer.(*net.TCPConn)) })
	}
}

func (r *relay) serve(outer *net.TCPConn) {
	inner, err := net.Dial("tcp", r.target)
	if err != nil {
		outer.SetLinger(0)
		outer.Close()
		return
	}
	p := &pair{relay: r, outer: outer, inner: inner.(*net.TCPConn), broken: make(chan struct{})}
	r.mu.Lock()
	r.pairs[p] = true
	r.mu.Unlock()
	p.halves.Go(func() { p.pump(r.up, p.outer, p.inner) })
	p.halves.Go(func() { p.pump(r.down, p.inner, p.outer) })
	p.halves.Wait()
	p.close(false)
	r.mu.Lock()
	delete(r.pairs, p)
	r.mu.Unlock()
}

// open is how many connections are on their way, but for those that a fault holds.
func (r *relay) open() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.pairs {
		if !p.stalled.Load() {
			n++
		}
	}
	return n
}

// kill takes the target out of order, or back in; connections are reset.
func (r *relay) kill(shut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut = shut
	if shut {
		for p := range r.pairs {
			p.close(true)
		}
	}
}

func (r *relay) close() {
	r.listener.Close()
	r.kill(true)
	r.running.Wait()
}

func (p *pair) close(abort bool) {
	p.closes.Do(func() {
		if abort {
			p.outer.SetLinger(0)
			p.inner.SetLinger(0)
		}
		p.outer.Close()
		p.inner.Close()
	})
	p.end()
}

func (p *pair) end() { p.breaks.Do(func() { close(p.broken) }) }

var pumps = sync.Pool{New: func() any { return new([16 << 10]byte) }}

// pump moves bytes one way until one end closes, or a fault says so.
func (p *pair) pump(d direction, from, to *net.TCPConn) {
	defer p.end()
	buf := pumps.Get().(*[16 << 10]byte)
	defer pumps.Put(buf)
	for {
		n, err := from.Read(buf[:])
		if n > 0 && !p.forward(d, buf[:n], to) {
			return
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			to.CloseWrite()
			return
		default:
			p.close(true)
			return
		}
	}
}

// forward writes a piece and lets the fault happen in it; false: this way is closed.
func (p *pair) forward(d direction, piece []byte, to *net.TCPConn) bool {
	for len(piece) > 0 {
		pass, strikes, k := p.relay.plan.next(d, len(piece))
		if _, err := to.Write(piece[:pass]); err != nil {
			p.close(true)
			return false
		}
		piece = piece[pass:]
		if strikes && !p.strike(k, &piece, to) {
			return false
		}
	}
	return true
}

func (p *pair) strike(k kind, rest *[]byte, to *net.TCPConn) bool {
	switch k {
	case cut:
		p.close(false)
		return false
	case reset:
		p.close(true)
		return false
	case halfClose:
		to.CloseWrite()
		return false
	case stallCut:
		p.wait(stallTime)
		p.close(false)
		return false
	case endless:
		p.stalled.Store(true)
		p.wait(20 * time.Second)
		p.close(false)
		return false
	case stallOn:
		p.wait(stallTime)
	case split:
		p.wait(time.Millisecond)
	case slow:
		for n := min(40, len(*rest)); n > 0; n-- {
			if _, err := to.Write((*rest)[:1]); err != nil {
				p.close(true)
				return false
			}
			*rest = (*rest)[1:]
			p.wait(50 * time.Microsecond)
		}
	}
	return true
}

// wait ends early when the other way was closed.
func (p *pair) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.broken:
	}
}
