package sockets

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Use is what a socket is for.
type Use string

// The uses. They are written into the environment of a successor, which may be of another release.
const (
	SMTP         Use = "smtp"
	Milter       Use = "milter"
	PolicyServer Use = "policy_server"
	Admin        Use = "admin"
	Control      Use = "control"
)

// Want describes a socket that somebody needs.
type Want struct {
	Use     Use
	Name    string // as configured: the same in the next process
	Network string // as in net.Listen
	Address string
	Config  net.ListenConfig // for one that has to be bound
}

// Set is the sockets that a process was given and those that it has bound. It is safe for concurrent use; a nil Set has
// none and binds.
type Set struct {
	mu    sync.Mutex // guards all below
	given []*given
	open  []*held
}

// given is a socket that nobody has asked for yet.
type given struct {
	Label
	systemd  bool // found by its address
	listener net.Listener
}

// held is a socket that somebody has.
type held struct {
	Label
	listener net.Listener
}

// Label names a socket for the next process.
type Label struct {
	Use  Use    `json:"use"`
	Name string `json:"name"`
	// Keep is for a UNIX socket whose file is not ours to remove: systemd has made it.
	Keep bool `json:"keep,omitempty"`
}

// Listen returns the given socket that is wanted, or binds it. inherited tells which: a UNIX socket that was given is
// where it should be, and somebody may be waiting at it.
func (s *Set) Listen(ctx context.Context, w Want) (l net.Listener, inherited bool, err error) {
	if s == nil {
		l, err = w.Config.Listen(ctx, w.Network, w.Address)
		return l, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.take(&w)
	if inherited = h != nil; !inherited {
		if l, err = w.Config.Listen(ctx, w.Network, w.Address); err != nil {
			return nil, false, err
		}
		h = &held{Label{Use: w.Use, Name: w.Name}, l}
	}
	s.open = append(s.open, h)
	return h.listener, inherited, nil
}

// Ahead binds a socket for who will ask Listen for it, while the process still may: ports below 1024 need a right that it
// is about to give up.
func (s *Set) Ahead(ctx context.Context, w Want) error {
	if s.Gives(w) {
		return nil
	}
	l, err := w.Config.Listen(ctx, w.Network, w.Address)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.given = append(s.given, &given{Label: Label{Use: w.Use, Name: w.Name}, listener: l})
	return nil
}

// find is the place of a given socket, -1 if there is none.
func (s *Set) find(w *Want) int {
	return slices.IndexFunc(s.given, func(g *given) bool {
		if g.systemd {
			return fits(w, g.listener.Addr())
		}
		return g.Use == w.Use && g.Name == w.Name
	})
}

// take takes a given socket out of those; nil: there is none.
func (s *Set) take(w *Want) *held {
	i := s.find(w)
	if i < 0 {
		return nil
	}
	g := s.given[i]
	s.given = slices.Delete(s.given, i, i+1)
	if u, ok := g.listener.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(!g.Keep)
	}
	return &held{Label{Use: w.Use, Name: w.Name, Keep: g.Keep}, g.listener}
}

// Gives tells whether Listen would hand out a socket that was given.
func (s *Set) Gives(w Want) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(&w) >= 0
}

// CloseRest closes the sockets that nobody has asked for, and names them.
func (s *Set) CloseRest() (names []string) {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.given {
		names = append(names, g.listener.Addr().String())
		if u, ok := g.listener.(*net.UnixListener); ok && !g.Keep && !g.systemd {
			u.SetUnlinkOnClose(true)
		}
		g.listener.Close()
	}
	s.given = nil
	return names
}

// Baton is a copy of the open sockets, on their way to another process.
//
// It has descriptors and no files of Go's: to hand one of those to another process makes the socket wait in the kernel,
// ours too, for both are one.
type Baton struct {
	labels      []Label
	descriptors []int
}

// Pass copies the sockets that are open. From now on closing one of this process leaves the file of a UNIX socket.
func (s *Set) Pass() (b *Baton, err error) {
	b = &Baton{}
	if s == nil {
		return b, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	open := s.open[:0]
	for _, h := range s.open {
		descriptor, err := copyOf(h.listener)
		if errors.Is(err, net.ErrClosed) {
			continue
		}
		if err != nil {
			b.Close()
			return nil, fmt.Errorf("socket %s: %w", h.listener.Addr(), err)
		}
		open = append(open, h)
		b.labels, b.descriptors = append(b.labels, h.Label), append(b.descriptors, descriptor)
		if u, ok := h.listener.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
		}
	}
	s.open = open
	return b, nil
}

// copyOf returns another descriptor of a socket.
func copyOf(l net.Listener) (descriptor int, err error) {
	s, ok := l.(syscall.Conn)
	if !ok {
		return -1, fmt.Errorf("a %T cannot be handed over", l)
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return -1, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { descriptor, failed = duplicate(int(fd)) })
	return descriptor, errors.Join(err, failed)
}

// duplicate copies a descriptor for this process alone.
func duplicate(fd int) (int, error) {
	descriptor, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	return descriptor, os.NewSyscallError("fcntl", err)
}

// Back takes the sockets back that nobody else got: UNIX sockets are ours to remove again, and what was closed
// meanwhile can be had from Listen.
func (s *Set) Back(b *Baton) error {
	defer b.Close()
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	open := s.open[:0]
	var errs []error
	for i, h := range s.open {
		if probe, err := copyOf(h.listener); err == nil {
			syscall.Close(probe)
			if u, ok := h.listener.(*net.UnixListener); ok {
				u.SetUnlinkOnClose(!h.Keep)
			}
			open = append(open, h)
			continue
		}
		l, err := listener(b.descriptors[i])
		b.descriptors[i] = -1
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s.given = append(s.given, &given{Label: h.Label, listener: l})
	}
	s.open = open
	return errors.Join(errs...)
}

// Close closes the copies.
func (b *Baton) Close() {
	for _, descriptor := range b.descriptors {
		if descriptor >= 0 {
			syscall.Close(descriptor)
		}
	}
	b.descriptors = nil
}
