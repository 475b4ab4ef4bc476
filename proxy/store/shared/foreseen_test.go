package shared_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	"gatepost/proxy/store/redistest"
)

// hasStandings waits until the server has so many.
func hasStandings(t *testing.T, s *redistest.Server, n int) {
	t.Helper()
	redistest.Eventually(t, 10*time.Second, func() error {
		if keys := s.Must("KEYS", "gp1l*"); strings.Count(keys, "gp1l") != n {
			return errors.New("the server has " + keys)
		}
		return nil
	})
}

// What is asked at connect brings along what will be asked at MAIL.
func TestWhatIsForeseenComesAlong(t *testing.T) {
	t.Parallel() // it mostly waits for tallies to be told
	clock := filtertest.NewClock()
	s := redistest.Start(t, redistest.Options{})
	patient := at(s.Address) // requests are counted: none is given up on a busy machine, and followed by one that looks why
	patient.Timeout = filters.Duration(10 * time.Second)
	a, b := newProxy(t, patient, clock), newProxy(t, patient, clock)
	a.Tally(network, filters.Counts{Refused: 7}, month)
	hasStandings(t, s, 1)
	foreseeing := filters.WithForeseen(t.Context(), func() []string { return []string{network} })
	ask := func(ctx string, want int64, ask func() error) {
		t.Helper()
		before := b.Stats().Trips
		if err := ask(); err != nil {
			t.Fatal(err)
		}
		if n := b.Stats().Trips - before; n != want {
			t.Errorf("%s: %d requests, not %d", ctx, n, want)
		}
	}
	look := func() error {
		standings, err := b.Standings(t.Context(), []string{network})
		if err == nil && standings[0].Refused < 6.9 {
			t.Errorf("%+v", standings)
		}
		return err
	}
	connect := func() error { _, err := b.Peek(foreseeing, "client", []string{"192.0.2.0/24"}); return err }
	ask("at connect", 1, connect)
	ask("at MAIL", 0, look)
	clock.Advance(2 * time.Minute)
	ask("at MAIL, much later", 1, look)
	if err := a.Pass(t.Context(), "client", []string{"192.0.2.0/24"}, time.Hour); err != nil {
		t.Fatal(err)
	}
	ask("at connect", 1, connect)
	ask("of a network that is known", 1, connect)
	ask("again", 0, connect)
	clock.Advance(2 * time.Minute)
	ask("when nothing is asked, nothing comes along", 0, connect)
	ask("at MAIL, later yet", 1, look)
}

// Of whom much is known it is believed for longer, and what this proxy has seen itself counts at once.
func TestWhoIsWellKnownIsBelievedForLonger(t *testing.T) {
	t.Parallel() // it mostly waits for tallies to be told
	clock := filtertest.NewClock()
	s := redistest.Start(t, redistest.Options{})
	mx := newProxy(t, at(s.Address), clock)
	well, little := "d:well.example", "d:little.example"
	mx.Tally(well, filters.Counts{Delivered: 150}, month)
	mx.Tally(little, filters.Counts{Delivered: 3}, month)
	hasStandings(t, s, 2)
	for _, step := range []struct {
		after        time.Duration
		well, little int64
	}{{0, 1, 1}, {20 * time.Second, 0, 0}, {5 * time.Minute, 0, 1}, {10 * time.Minute, 1, 1}} {
		clock.Advance(step.after)
		for key, want := range map[string]int64{well: step.well, little: step.little} {
			before := mx.Stats().Trips
			if _, err := mx.Standings(t.Context(), []string{key}); err != nil {
				t.Fatal(err)
			}
			if n := mx.Stats().Trips - before; n != want {
				t.Errorf("%s later, %s: %d requests, not %d", step.after, key, n, want)
			}
		}
	}
	mx.Tally(little, filters.Counts{Refused: 9}, month)
	if standings, err := mx.Standings(t.Context(), []string{little}); err != nil || standings[0].Refused < 8.9 {
		t.Errorf("%+v, %v", standings, err)
	}
}
