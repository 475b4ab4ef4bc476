package handover

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"gatepost/proxy/front"
)

// Seat is where the owner of something sits, asked through it so that another can take its place. The zero Seat is empty.
// It is safe for concurrent use.
type Seat[T any] struct {
	current atomic.Pointer[tenure[T]]
	mu      sync.Mutex // held while the owner changes
}

// tenure is the time of one owner, or of nobody.
type tenure[T any] struct {
	owner  T
	taken  bool
	uses   front.Uses
	unused chan struct{} // closed when nobody asks this owner any more
	over   chan struct{} // closed when another tenure has begun
}

func newTenure[T any](owner T, taken bool) *tenure[T] {
	t := &tenure[T]{owner: owner, taken: taken, unused: make(chan struct{}), over: make(chan struct{})}
	t.uses.Begin()
	return t
}

func (t *tenure[T]) release() {
	if t.uses.Release() {
		close(t.unused)
	}
}

// ErrVacant tells that nobody owned what was asked for, and nobody did in time.
var ErrVacant = errors.New("it is being handed over to another gatepost")

// Ask lets f ask the owner, and waits for one until ctx ends.
func (s *Seat[T]) Ask(ctx context.Context, f func(owner T) error) error {
	t, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer t.release()
	return f(t.owner)
}

// AskNow is Ask for who cannot wait; false: there is no owner now.
func (s *Seat[T]) AskNow(f func(owner T)) bool {
	t := s.current.Load()
	if t == nil || !t.taken || !t.uses.Acquire() {
		return false
	}
	defer t.release()
	f(t.owner)
	return true
}

// enter returns a tenure that does not end before its release.
func (s *Seat[T]) enter(ctx context.Context) (*tenure[T], error) {
	for {
		t := s.current.Load()
		if t == nil {
			s.mu.Lock()
			if s.current.Load() == nil {
				s.current.Store(newTenure(*new(T), false))
			}
			s.mu.Unlock()
			continue
		}
		if t.taken && t.uses.Acquire() {
			return t, nil
		}
		select {
		case <-t.over:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrVacant, ctx.Err())
		}
	}
}

// Vacate lets the owner go: who asks from now on waits. It returns when nobody asks the owner any more; else, when ctx
// ends, with its error.
func (s *Seat[T]) Vacate(ctx context.Context) error {
	previous := s.change(newTenure(*new(T), false))
	if previous == nil {
		return nil
	}
	select {
	case <-previous.unused:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Take lets an owner sit down. It does not wait for who still asks the one before.
func (s *Seat[T]) Take(owner T) { s.change(newTenure(owner, true)) }

func (s *Seat[T]) change(next *tenure[T]) (previous *tenure[T]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	previous = s.current.Swap(next)
	if previous != nil {
		previous.release()
		close(previous.over)
	}
	return previous
}
