package front

import (
	"sync"
	"time"
)

// seldom is how often something is logged that strangers can make happen as often as they like.
const seldom = time.Minute

// Seldom lets something be logged once a minute, and counts how often it was not. The zero Seldom is ready. It is safe for
// concurrent use.
type Seldom struct {
	mu     sync.Mutex // guards logged, left
	logged time.Time
	left   int
}

// Due tells whether it is to be logged now, and how often that was left out since it was the last time.
func (s *Seldom) Due() (left int, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.logged.IsZero() || now.Sub(s.logged) >= seldom {
		left, s.left, s.logged = s.left, 0, now
		return left, true
	}
	s.left++
	return 0, false
}
