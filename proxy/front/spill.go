package front

import (
	"fmt"
	"os"
	"sync/atomic"

	"gatepost/filters"
)

// Spill makes unlinked files for messages that are too large for memory, within a bounded total. It is safe for
// concurrent use.
type Spill struct {
	dir   string
	total int64
	used  atomic.Int64
}

var _ filters.Spill = (*Spill)(nil)

// NewSpill makes files in dir, which must exist, of at most total bytes together. It tries dir once.
func NewSpill(dir string, total int64) (*Spill, error) {
	s := &Spill{dir: dir, total: total}
	f, err := s.Create()
	if err != nil {
		return nil, err
	}
	return s, f.Close()
}

// Create returns a file that has no name any more: its space is free as soon as it is closed, or the process ends.
func (s *Spill) Create() (filters.SpillFile, error) {
	f, err := os.CreateTemp(s.dir, "message-")
	if err != nil {
		return nil, fmt.Errorf("file for a large message: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fmt.Errorf("file for a large message: %w", err)
	}
	return f, nil
}

// Reserve claims n bytes of the total.
func (s *Spill) Reserve(n int64) bool {
	if s.used.Add(n) > s.total {
		s.used.Add(-n)
		return false
	}
	return true
}

// Unreserve gives n bytes back.
func (s *Spill) Unreserve(n int64) { s.used.Add(-n) }

// Used is how many bytes are claimed now.
func (s *Spill) Used() int64 { return s.used.Load() }

// Total is how many bytes may be claimed.
func (s *Spill) Total() int64 { return s.total }
