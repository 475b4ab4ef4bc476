package filtertest

import (
	"context"
	"strings"
	"time"

	"gatepost/filters"
)

var _ filters.Ledger = (*Store)(nil)

// Tally implements [filters.Ledger].
func (s *Store) Tally(key string, n filters.Counts, halfLife time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.standings[key]; !known && len(s.standings) >= s.bound {
		return
	}
	s.standings[key] = s.standings[key].Add(filters.NewStanding(s.clock.Now(), n, halfLife))
}

// Standings implements [filters.Ledger].
func (s *Store) Standings(ctx context.Context, keys []string) ([]filters.Standing, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found, now := make([]filters.Standing, len(keys)), s.clock.Now()
	for i, key := range keys {
		found[i] = s.standings[key].Live(now)
	}
	return found, nil
}

// ForgetStandings implements [filters.Ledger].
func (s *Store) ForgetStandings(_ context.Context, keys []string) (removed int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	for _, key := range keys {
		if s.standings[key].Live(now).Exists() {
			removed++
		}
		delete(s.standings, key)
	}
	return removed, nil
}

// RangeStandings implements [filters.Ledger]. It goes over a copy: yield may call the store.
func (s *Store) RangeStandings(_ context.Context, prefix string, yield func(key string, s filters.Standing) bool) error {
	found, now := map[string]filters.Standing{}, s.clock.Now()
	s.mu.Lock()
	for key, standing := range s.standings {
		if standing = standing.Live(now); standing.Exists() && strings.HasPrefix(key, prefix) {
			found[key] = standing
		}
	}
	s.mu.Unlock()
	for key, standing := range found {
		if !yield(key, standing) {
			break
		}
	}
	return nil
}
