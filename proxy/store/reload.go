package store

import "fmt"

// Reload puts other bounds in force: max_entries, max_pending, max_standings and flush. The folder stays, and what is above
// a smaller bound goes with the next sweeps.
func (s *Store) Reload(c Config) error {
	if err := c.Validate(); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	s.bounds.Store(&c)
	return nil
}
