package shared

import (
	"context"
	"time"

	"gatepost/filters"
	"gatepost/proxy/store"
)

const (
	maxNews      = 4096 // marks that wait for the embedded store
	maxForgotten = 10_000
)

// news is what a decision of the engine came to.
type news struct {
	space string
	keys  []string
	marks []filters.Mark
}

// forgotten is a key that was forgotten in an outage.
type forgotten struct{ space, key string }

// learn tells the embedded store what the engine has decided, beside the session.
func (s *Store) learn(space string, keys []string, marks []filters.Mark, err error) {
	if err != nil {
		return
	}
	stored := make([]string, len(keys))
	for i, key := range keys {
		stored[i] = store.Shorten(key)
	}
	select {
	case s.news <- news{space, stored, marks}:
	default:
		s.counts.unlearned.Add(1)
	}
}

// tell passes on what learn was given.
func (s *Store) tell(ctx context.Context) {
	for {
		select {
		case n := <-s.news:
			bounded, cancel := context.WithTimeout(ctx, time.Second)
			if err := s.local.Merge(bounded, n.space, n.keys, n.marks); err != nil {
				s.counts.unlearned.Add(1)
			}
			cancel()
		case <-ctx.Done():
			return
		}
	}
}

func (s *Store) rememberForgotten(space string, keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		if len(s.forgotten) < maxForgotten {
			s.forgotten[forgotten{space, key}] = struct{}{}
		}
	}
}

// takeForgotten empties the list.
func (s *Store) takeForgotten() map[forgotten]struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.forgotten
	s.forgotten = map[forgotten]struct{}{}
	return list
}
