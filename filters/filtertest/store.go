package filtertest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"gatepost/filters"
)

const (
	maxMarks = 100_000 // in all spaces together
	maxKey   = 512     // bytes; longer keys are hashed
)

var errFull = errors.New("the store in memory is full")

// Store is a [filters.Store] in memory. It is safe for concurrent use, keeps at most 100,000 marks, and forgets them
// by its clock. [NewStoreFor] makes a larger one.
type Store struct {
	clock filters.Clock
	bound int

	mu        sync.Mutex // guards marks, standings
	marks     map[mark]filters.Mark
	standings map[string]filters.Standing
}

type mark struct{ space, key string }

var _ filters.Store = (*Store)(nil)

// NewStore returns an empty store.
func NewStore(clock filters.Clock) *Store {
	return NewStoreFor(clock, maxMarks)
}

// NewStoreFor returns an empty store for as many marks.
func NewStoreFor(clock filters.Clock, marks int) *Store {
	return &Store{clock: clock, bound: marks, marks: map[mark]filters.Mark{}, standings: map[string]filters.Standing{}}
}

// Peek implements [filters.Store].
func (s *Store) Peek(ctx context.Context, space string, keys []string) ([]filters.Mark, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	found := make([]filters.Mark, len(keys))
	for i, key := range keys {
		found[i] = s.live(space, key, now)
	}
	return found, nil
}

// Attempt implements [filters.Store].
func (s *Store) Attempt(ctx context.Context, space string, keys []string, t filters.Terms) ([]filters.Mark, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	if err := s.room(len(keys), now); err != nil {
		return nil, err
	}
	passed, unless := false, false
	after := make([]filters.Mark, len(keys)+len(t.Unless))
	for i, key := range slices.Concat(keys, t.Unless) {
		after[i] = s.live(space, key, now)
		unless = unless || i >= len(keys) && !after[i].Passed.IsZero()
	}
	if unless {
		return after, nil
	}
	for i, key := range keys {
		m := s.live(space, key, now)
		if !m.Exists() {
			m = filters.Mark{First: now, Expires: now.Add(t.Window)}
		}
		m.Last = now
		m.Attempts += t.Count()
		passed = passed || !m.Passed.IsZero() || now.Sub(m.First) >= t.Delay
		after[i] = m
	}
	for i, key := range keys {
		if passed {
			after[i] = pass(after[i], now, t.Keep)
		}
		s.marks[id(space, key)] = after[i]
	}
	return after, nil
}

// Pass implements [filters.Store].
func (s *Store) Pass(ctx context.Context, space string, keys []string, keep time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	if err := s.room(len(keys), now); err != nil {
		return err
	}
	for _, key := range keys {
		s.marks[id(space, key)] = pass(s.live(space, key, now), now, keep)
	}
	return nil
}

// Forget implements [filters.Store].
func (s *Store) Forget(ctx context.Context, space string, keys []string) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	n := 0
	for _, key := range keys {
		if s.live(space, key, now).Exists() {
			n++
		}
		delete(s.marks, id(space, key))
	}
	return n, nil
}

// Range implements [filters.Store]. It goes over a copy: yield may call the store.
func (s *Store) Range(ctx context.Context, space, prefix string, yield func(key string, m filters.Mark) bool) error {
	for key, m := range s.snapshot(space, prefix) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !yield(key, m) {
			break
		}
	}
	return ctx.Err()
}

func (s *Store) snapshot(space, prefix string) map[string]filters.Mark {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	found := map[string]filters.Mark{}
	for where, m := range s.marks {
		if where.space == space && strings.HasPrefix(where.key, prefix) && now.Before(m.Expires) {
			found[where.key] = m
		}
	}
	return found
}

// live returns the mark of a key, the zero mark if it has expired. s.mu is held.
func (s *Store) live(space, key string, now time.Time) filters.Mark {
	m := s.marks[id(space, key)]
	if !now.Before(m.Expires) {
		return filters.Mark{}
	}
	return m
}

// room makes sure that n more marks fit, by dropping the expired ones. s.mu is held.
func (s *Store) room(n int, now time.Time) error {
	if len(s.marks)+n <= s.bound {
		return nil
	}
	for where, m := range s.marks {
		if !now.Before(m.Expires) {
			delete(s.marks, where)
		}
	}
	if len(s.marks)+n > s.bound {
		return errFull
	}
	return nil
}

func pass(m filters.Mark, now time.Time, keep time.Duration) filters.Mark {
	if m.First.IsZero() {
		m.First = now
	}
	if m.Passed.IsZero() {
		m.Passed = now
	}
	m.Last, m.Expires = now, now.Add(keep)
	return m
}

func id(space, key string) mark {
	if len(key) > maxKey {
		sum := sha256.Sum256([]byte(key))
		key = "sha256:" + hex.EncodeToString(sum[:])
	}
	return mark{space, key}
}
