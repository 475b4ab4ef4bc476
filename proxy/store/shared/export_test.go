package shared

// TakeBatch leaves what waits where a batch that failed would leave it; false: nothing waits.
func (s *Store) TakeBatch() bool {
	s.telling.Lock()
	defer s.telling.Unlock()
	return s.next()
}

// MaxAsking is how many questions are asked at a time.
const MaxAsking = maxAsking

// Asked is how many questions were asked, answered or not.
func (s *Store) Asked() (n uint64) {
	for _, some := range s.latency.Read().Counts {
		n += uint64(some)
	}
	return n
}

// TellsNothing waits for the batch of tallies that is under way, and tells whether the engine has heard of all.
func (s *Store) TellsNothing() bool {
	s.telling.Lock()
	defer s.telling.Unlock()
	waiting, _ := s.waits()
	return waiting == 0 && len(s.keys) == 0
}
