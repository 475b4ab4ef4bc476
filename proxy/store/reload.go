package store

// Reload puts other bounds in force, of a valid configuration: max_entries, max_pending, max_standings and flush. The folder stays, and what is above
// a smaller bound goes with the next sweeps.
func (s *Store) Reload(c Config) { s.bounds.Store(&c) }
