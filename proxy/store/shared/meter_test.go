package shared_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	"gatepost/proxy/store/redistest"
)

var limit = filters.Bucket{Limit: "connections", Of: "192.0.2.1/32", PerSecond: 2, Burst: 320}

const allowanceOfLimit = 10

// site starts some proxies over one server.
func site(t *testing.T, n int, clock filters.Clock) (*redistest.Server, []*proxy) {
	s := redistest.Start(t, redistest.Options{})
	proxies := make([]*proxy, n)
	for i := range proxies {
		proxies[i] = newProxy(t, at(s.Address), clock)
	}
	return s, proxies
}

// flood lets every proxy be asked at once, and counts what is let through.
func flood(t *testing.T, proxies []*proxy, each int) int64 {
	var through atomic.Int64
	var running sync.WaitGroup
	for _, p := range proxies {
		for range 4 {
			running.Go(func() {
				for range each / 4 {
					ok, err := p.Allow(t.Context(), limit)
					if err != nil {
						t.Error(err)
					}
					if ok {
						through.Add(1)
					}
				}
			})
		}
	}
	running.Wait()
	return through.Load()
}

func TestALimitCountsEverywhere(t *testing.T) {
	clock := filtertest.NewClock()
	const n = 4
	_, proxies := site(t, n, clock)
	for round := range 3 {
		got := flood(t, proxies, 400)
		if low, high := limit.Burst, limit.Burst+n*allowanceOfLimit; round == 0 && (got < low-n*allowanceOfLimit || got > high) {
			t.Errorf("%d of a burst of %d got through %d proxies; at most %d may", got, limit.Burst, n, high)
		}
		if round > 0 && got > 120+n*allowanceOfLimit {
			t.Errorf("a minute brings back 120; %d got through", got)
		}
		clock.Advance(time.Minute)
	}
}

func TestAHotKeyCostsARoundTripNowAndThen(t *testing.T) {
	_, proxies := site(t, 1, filtertest.NewClock())
	p := proxies[0]
	before := p.Stats().Trips
	through := flood(t, proxies, 300)
	if trips := p.Stats().Trips - before; trips > 300/(allowanceOfLimit/2)+1 || through != 300 {
		t.Errorf("%d round trips for %d decisions", trips, through)
	}
	before = p.Stats().Trips
	for range 3 {
		if ok, err := p.Allow(t.Context(), filters.Bucket{Limit: "connections", Of: "198.51.100.9/32", PerSecond: 2, Burst: 320}); !ok || err != nil {
			t.Error(ok, err)
		}
	}
	if trips := p.Stats().Trips - before; trips > 1 { // one may be of the flood
		t.Errorf("a quiet client costs %d round trips", trips)
	}
}

func TestSmallLimitsAreExact(t *testing.T) {
	clock := filtertest.NewClock()
	_, proxies := site(t, 2, clock)
	small := filters.Bucket{Limit: "guesses", Of: "192.0.2.1/32", PerSecond: 1, Burst: 5}
	through := 0
	for i := range 20 {
		if ok, err := proxies[i%2].Allow(t.Context(), small); err != nil {
			t.Fatal(err)
		} else if ok {
			through++
		}
	}
	if through < 5 || through > 5+2 {
		t.Errorf("%d of a burst of 5 got through two proxies", through)
	}
}

func TestDebtIsSharedAndPaidOff(t *testing.T) {
	clock := filtertest.NewClock()
	_, proxies := site(t, 2, clock)
	for range 3 {
		proxies[0].Take(limit, limit.Burst) // far into debt
	}
	isEmpty := func(p *proxy) bool {
		empty, err := p.IsEmpty(t.Context(), limit)
		if err != nil {
			t.Fatal(err)
		}
		return empty
	}
	if !isEmpty(proxies[0]) {
		t.Error("the bucket is not empty")
	}
	redistest.Eventually(t, 5*time.Second, func() error {
		for range allowanceOfLimit { // the other one asks once it has spent its allowance
			proxies[1].Take(limit, 1)
		}
		if !isEmpty(proxies[1]) {
			return errors.New("the other proxy does not know of it")
		}
		return nil
	})
	clock.Advance(20 * time.Minute)
	for _, p := range proxies {
		if isEmpty(p) {
			t.Error("the debt lasts for ever")
		}
	}
}

func TestLimitsInAnOutage(t *testing.T) {
	clock := filtertest.NewClock()
	s, proxies := site(t, 2, clock)
	p := proxies[0]
	flood(t, proxies[:1], 100)
	s.Kill()
	through := 100
	var alone error
	for range 400 {
		ok, err := p.Allow(t.Context(), limit)
		if err != nil {
			alone = err
		}
		if ok {
			through++
		}
	}
	if int64(through) != limit.Burst {
		t.Errorf("%d of a burst of %d got through one proxy alone", through, limit.Burst)
	}
	if alone == nil {
		t.Error("it does not say that it counts alone")
	}
	s.Restart()
	for _, p := range proxies {
		_, _ = p.Peek(t.Context(), "greylist", sender)
		p.isUsing(t, 20*time.Second)
	}
	// What was counted alone is told: the other proxy is over the limit as well, soon after it has asked.
	redistest.Eventually(t, 5*time.Second, func() error {
		if _, err := p.IsEmpty(t.Context(), limit); err != nil {
			return err
		}
		if got := flood(t, proxies[1:], 2*allowanceOfLimit); got > 0 {
			return errors.New("the other proxy does not know of it")
		}
		return nil
	})
}

func TestMetersDoNotAllocateWhereTheyNeedNotAsk(t *testing.T) {
	_, proxies := site(t, 1, filters.SystemClock{})
	p, quiet := proxies[0], filters.Bucket{Limit: "bytes", Of: "192.0.2.1/32", PerSecond: 1e6, Burst: 1 << 30}
	if n := testing.AllocsPerRun(100, func() {
		_, _ = p.IsEmpty(t.Context(), quiet)
		p.Take(quiet, 1)
	}); n > 1 {
		t.Errorf("%.0f allocations", n)
	}
}
