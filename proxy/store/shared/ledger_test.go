package shared_test

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/proxy/store/redistest"
)

const (
	network = "n:192.0.2.0/24"
	month   = 30 * 24 * time.Hour
)

var one = filters.Counts{Delivered: 1}

// knows waits until a proxy knows of so many deliveries.
func (p *proxy) knows(t testing.TB, want float64) {
	t.Helper()
	redistest.Eventually(t, 45*time.Second, func() error {
		got, err := p.Standings(t.Context(), []string{"d:example.net", network})
		if err != nil || math.Abs(got[1].Delivered-want) > 0.01 {
			return fmt.Errorf("%v, %v; want %v", got, err, want)
		}
		return nil
	})
}

// tellsAll waits until a proxy has nothing to tell any more. Who read before that would be believed for half a minute.
func (p *proxy) tellsAll(t testing.TB) {
	t.Helper()
	redistest.Eventually(t, 10*time.Second, func() error {
		if !p.TellsNothing() {
			return errors.New("tallies wait, or are on their way")
		}
		return nil
	})
}

// A burst is seen by the proxy that it meets before the engine is told. A batch that is on its way in that very moment is seen
// by nobody, so there are three of them.
func TestWhatTheEngineWasNotToldIsKnown(t *testing.T) {
	s := redistest.Start(t, redistest.Options{})
	p := newProxy(t, at(s.Address), filters.SystemClock{})
	var seen []float64
	for i := range 3 {
		key := fmt.Sprintf("n:192.0.2.%d/32", i)
		for range 100 {
			p.Tally(key, one, month)
		}
		got, err := p.Standings(t.Context(), []string{key})
		if err != nil {
			t.Fatal(err)
		}
		if seen = append(seen, got[0].Delivered); math.Abs(got[0].Delivered-100) < 0.01 {
			return
		}
	}
	t.Errorf("of 100 messages %v are known", seen)
}

func TestProxiesCountTogether(t *testing.T) {
	t.Parallel() // it mostly waits for tallies to be told
	s := redistest.Start(t, redistest.Options{})
	a, b := newProxy(t, at(s.Address), filters.SystemClock{}), newProxy(t, at(s.Address), filters.SystemClock{})
	for range 10 {
		a.Tally(network, one, month)
		b.Tally(network, one, month)
	}
	a.tellsAll(t)
	b.tellsAll(t)
	a.knows(t, 20)
	before := a.Stats().Trips
	for range 100 {
		a.knows(t, 20)
	}
	if after := a.Stats().Trips; after-before > 2 { // the reporter's own are none: nothing waits
		t.Errorf("%d requests for what was read a moment ago", after-before)
	}
	if n, err := b.ForgetStandings(t.Context(), []string{network}); err != nil || n != 1 {
		t.Errorf("forgot %d: %v", n, err)
	}
	b.knows(t, 0)
}

// In an outage a proxy knows its own part; afterwards the site knows everything, once.
func TestTalliesOfAnOutageCountOnce(t *testing.T) {
	t.Parallel() // it mostly waits for tallies to be told
	s := redistest.Start(t, redistest.Options{})
	way := redistest.Forward(t, s.Address)
	a, b := newProxy(t, at(way.Address), filters.SystemClock{}), newProxy(t, at(s.Address), filters.SystemClock{})
	a.Tally(network, one, month)
	b.Tally(network, one, month)
	a.tellsAll(t)
	b.tellsAll(t)
	for range 3 {
		for range 5 {
			a.Tally(network, one, month)
		}
		way.Stall() // what is sent now arrives late
		for range 5 {
			a.Tally(network, one, month)
		}
		redistest.Eventually(t, 10*time.Second, func() error {
			_, _ = a.Peek(t.Context(), "greylist", sender)
			if a.Stats().Since.IsZero() {
				return errors.New("no outage")
			}
			return nil
		})
		if got, err := a.Standings(t.Context(), []string{network}); err != nil || got[0].Delivered < 10 {
			t.Errorf("its own part is %v, %v", got, err)
		}
		way.Heal()
		a.isUsing(t, 15*time.Second)
	}
	a.tellsAll(t)
	// Read by one that has not read before.
	newProxy(t, at(s.Address), filters.SystemClock{}).knows(t, 32)
}

// A batch that failed is sent again, but does not bring back what was forgotten meanwhile.
func TestWhatIsForgottenStaysForgotten(t *testing.T) {
	t.Parallel() // it mostly waits for tallies to be told
	s := redistest.Start(t, redistest.Options{})
	p := newProxy(t, at(s.Address), filters.SystemClock{})
	failed := false
	redistest.Eventually(t, 10*time.Second, func() error {
		p.Tally(network, one, month)
		if failed = p.TakeBatch(); !failed {
			return errors.New("the batch was sent")
		}
		return nil
	})
	if _, err := p.ForgetStandings(t.Context(), []string{network}); err != nil {
		t.Fatal(err)
	}
	p.Tally("n:198.51.100.0/24", one, month)
	hasStandings(t, s, 1) // told behind the batch
	newProxy(t, at(s.Address), filters.SystemClock{}).knows(t, 0)
}
