package shared

// TakeBatch leaves what waits where a batch that failed would leave it; false: nothing waits.
func (s *Store) TakeBatch() bool {
	s.telling.Lock()
	defer s.telling.Unlock()
	return s.next()
}
