package simulate

import (
	"math/rand/v2"
	"testing"
	"time"
)

const (
	minute = time.Minute
	hour   = time.Hour
	day    = 24 * time.Hour
)

// TestSchedules holds each against what its source says.
func TestSchedules(t *testing.T) {
	type wait struct {
		n          int
		age        time.Duration
		least, end time.Duration // least ≤ wait < end
	}
	tests := map[*Schedule]struct {
		giveUp time.Duration
		waits  []wait
	}{
		postfix: {5 * day, []wait{
			{1, 0, 300 * time.Second, 600 * time.Second},
			{2, 1000 * time.Second, 1000 * time.Second, 1300 * time.Second},
			{9, day, 4000 * time.Second, 4300 * time.Second},
		}},
		exim: {4 * day, []wait{
			{1, 0, 15 * minute, 45 * minute},
			{3, 119 * minute, 15 * minute, 45 * minute},
			{5, 2 * hour, hour, 90 * minute},
			{40, 3 * day, 6 * hour, 6*hour + 30*minute},
		}},
		sendmail: {5 * day, []wait{{1, 0, 0, 30 * minute}, {2, 30 * minute, 30 * minute, 30*minute + 1}, {50, day, 30 * minute, 30*minute + 1}}},
		exchange: {2 * day, []wait{{1, 0, 15 * minute, 15*minute + 30*time.Second}, {20, day, 15 * minute, 15*minute + 30*time.Second}}},
		gmail:    {3 * day, []wait{{1, 0, 4 * minute, 8 * minute}, {2, 6 * minute, 8 * minute, 16 * minute}, {30, 2 * day, 4 * hour, 4*hour + 1}}},
		ses:      {840 * minute, []wait{{1, 0, 3 * minute, 10 * minute}, {2, 10 * minute, 6 * minute, 20 * minute}, {30, 10 * hour, hour, hour + 1}}},
	}
	if len(Schedules()) != len(tests) {
		t.Errorf("%d schedules, %d tests", len(Schedules()), len(tests))
	}
	r := rand.New(rand.NewPCG(1, 1))
	for s, test := range tests {
		if s.Source == "" {
			t.Errorf("%s: nobody says where it is from", s.Name)
		}
		if s.GiveUp != test.giveUp {
			t.Errorf("%s gives up after %s", s.Name, s.GiveUp)
		}
		for _, w := range test.waits {
			for range 1000 {
				if got := s.After(r, w.n, w.age); got < w.least || got >= w.end {
					t.Fatalf("%s waits %s after attempt %d, at %s", s.Name, got, w.n, w.age)
				}
			}
		}
	}
}
