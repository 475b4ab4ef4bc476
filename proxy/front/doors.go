package front

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Door is a socket at which a server lets connections in. What is configured for it can be replaced while it is open.
type Door[C any] struct {
	socket net.Listener
	config atomic.Pointer[C]
	turns  atomic.Uint64
}

// NewDoor makes a door of a listening socket, to be opened by [Doors].
func NewDoor[C any](socket net.Listener, config *C) *Door[C] {
	d := &Door[C]{socket: socket}
	d.config.Store(config)
	return d
}

// Socket is what connections are accepted from.
func (d *Door[C]) Socket() net.Listener { return d.socket }

// Config is what is configured for connections that come now.
func (d *Door[C]) Config() *C { return d.config.Load() }

// Turns is how often AcceptAll has got a connection, or an error in its place: while it grows, somebody accepts.
func (d *Door[C]) Turns() uint64 { return d.turns.Load() }

// Doors are all doors of a server. They are safe for concurrent use.
type Doors[C any] struct {
	accept    func(*Door[C])
	closed    chan struct{}  // closed with the mutex held, when nobody is let in any more
	accepting sync.WaitGroup // one for each door that was opened

	mu   sync.Mutex // guards open
	open map[*Door[C]]struct{}
}

// NewDoors has none yet. accept is called for each on a goroutine of its own, and returns when its socket is closed; see
// [AcceptAll].
func NewDoors[C any](accept func(*Door[C])) *Doors[C] {
	return &Doors[C]{accept: accept, closed: make(chan struct{}), open: map[*Door[C]]struct{}{}}
}

// Serve lets in at doors, and at those that Change adds, until ctx ends or Close is called; then it closes the sockets and
// returns when nobody is let in any more.
func (d *Doors[C]) Serve(ctx context.Context, doors ...*Door[C]) {
	d.mu.Lock()
	d.add(doors)
	d.mu.Unlock()
	defer context.AfterFunc(ctx, d.shut)()
	<-d.closed
	d.accepting.Wait()
}

// Change gives doors that are kept their configuration, closes the others, and opens those that are added. If nobody is
// let in any more it closes those.
func (d *Doors[C]) Change(kept map[*Door[C]]*C, added []*Door[C]) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for door := range d.open {
		if config, stays := kept[door]; stays {
			door.config.Store(config)
			continue
		}
		door.socket.Close()
		delete(d.open, door)
	}
	d.add(added)
}

// add is called with the mutex held.
func (d *Doors[C]) add(doors []*Door[C]) {
	for _, door := range doors {
		if d.Closed() {
			door.socket.Close()
			continue
		}
		d.open[door] = struct{}{}
		d.accepting.Go(func() { d.accept(door) })
	}
}

// Closed tells that nobody is let in any more, and will not be.
func (d *Doors[C]) Closed() bool {
	select {
	case <-d.closed:
		return true
	default:
		return false
	}
}

// Open are the doors that are open.
func (d *Doors[C]) Open() []*Door[C] {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.open))
}

// Close closes the sockets and returns when nobody is let in any more.
func (d *Doors[C]) Close() {
	d.shut()
	d.accepting.Wait()
}

func (d *Doors[C]) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.Closed() {
		return
	}
	close(d.closed)
	for door := range d.open {
		door.socket.Close()
	}
	clear(d.open)
}

// Match finds the doors that stay where the configuration has these entries: each entry is for one door, with the same
// address.
func Match[C, E any](d *Doors[C], entries []E, same func(*C, E) bool) map[*Door[C]]E {
	d.mu.Lock()
	defer d.mu.Unlock()
	kept, rest := map[*Door[C]]E{}, slices.Clone(entries)
	for door := range d.open {
		if i := slices.IndexFunc(rest, func(e E) bool { return same(door.Config(), e) }); i >= 0 {
			kept[door] = rest[i]
			rest = slices.Delete(rest, i, i+1)
		}
	}
	return kept
}

// AcceptAll gives admit whatever next accepts at a door, until its socket is closed. It never gives up before: out of descriptors or
// memory, it waits for connections to end, which failed is told.
func AcceptAll[C, A any](d *Doors[C], door *Door[C], next func() (A, error), admit func(A), failed func(err error, pause time.Duration)) {
	const shortest, longest = 5 * time.Millisecond, time.Second
	pause := shortest
	for {
		a, err := next()
		door.turns.Add(1)
		switch {
		case err == nil:
			pause = shortest
			admit(a)
		case errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, syscall.ECONNABORTED): // who came has left while it was queued
		default:
			failed(err, pause)
			select {
			case <-d.closed:
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, longest)
		}
	}
}
