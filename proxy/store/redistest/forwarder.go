package redistest

import (
	"net"
	"sync"
	"testing"
)

// Forwarder passes connections on to a server, and can be a network that fails.
type Forwarder struct {
	Address string

	to       string
	listener net.Listener
	running  sync.WaitGroup

	mu      sync.Mutex // guards stalled, conns, closed
	stalled chan struct{}
	conns   map[net.Conn]struct{}
	closed  bool
}

// Forward starts a forwarder that ends with the test.
func Forward(t testing.TB, to string) *Forwarder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &Forwarder{Address: l.Addr().String(), to: to, listener: l, conns: map[net.Conn]struct{}{}}
	f.running.Go(f.accept)
	t.Cleanup(func() {
		_ = l.Close()
		f.mu.Lock()
		f.closed = true
		f.mu.Unlock()
		f.Heal()
		f.Cut()
		f.running.Wait()
	})
	return f
}

// Stall lets no byte through any more; connections stay, and new ones are taken.
func (f *Forwarder) Stall() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stalled == nil {
		f.stalled = make(chan struct{})
	}
}

// Heal ends Stall.
func (f *Forwarder) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stalled != nil {
		close(f.stalled)
		f.stalled = nil
	}
}

// Cut closes all connections.
func (f *Forwarder) Cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		_ = c.Close()
	}
}

func (f *Forwarder) accept() {
	for {
		c, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.running.Go(func() { f.serve(c) })
	}
}

func (f *Forwarder) serve(client net.Conn) {
	server, err := net.Dial("tcp", f.to)
	if err != nil {
		_ = client.Close()
		return
	}
	if !f.keep(client, server) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { f.copy(client, server) })
	both.Go(func() { f.copy(server, client) })
	both.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, client)
	delete(f.conns, server)
}

func (f *Forwarder) keep(conns ...net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range conns {
		if f.closed {
			_ = c.Close()
		} else {
			f.conns[c] = struct{}{}
		}
	}
	return !f.closed
}

func (f *Forwarder) copy(to, from net.Conn) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		f.mu.Lock()
		stalled := f.stalled
		f.mu.Unlock()
		if stalled != nil {
			<-stalled
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
