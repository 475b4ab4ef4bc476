package recommend

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	"gatepost/filters/greylist"
	"gatepost/filters/ratelimit"
	"gatepost/policy"
	"gatepost/rules"
)

// recorded is a transaction of one recipient.
func recorded(at time.Duration, client, from string, reply int) *policy.Recording {
	r := &policy.Recording{
		Start:      filtertest.Start.Add(at),
		Session:    &filters.Session{Client: filters.ClientAt(netip.AddrPortFrom(netip.MustParseAddr(client), 25))},
		Envelope:   &filters.Envelope{ReversePath: from},
		Recipients: []policy.RecordedRecipient{{Address: "ann@example.org", Asked: true}},
		Reached:    policy.StepEnd,
		Reply:      rules.Reply{Code: reply},
	}
	r.Recipients[0].Reply.Code = 250
	return r
}

// comingBack is a first attempt of a sender and its retries, of which the last one is delivered.
func comingBack(sender int, after ...time.Duration) []*policy.Recording {
	from := fmt.Sprintf("news@s%d.test", sender)
	first := recorded(0, "192.0.2.1", from, 0)
	first.Recipients[0].Action, first.Recipients[0].Ours = rules.Greylist, true
	first.Attempt = &policy.Attempt{GreylistAttempt: filters.GreylistAttempt{State: filters.GreylistNew, First: first.Start}}
	list := []*policy.Recording{first}
	for _, d := range after {
		list = append(list, recorded(d, "192.0.2.1", from, 250))
	}
	return list
}

// However the retries are distributed, at least 95 % of the senders pass with their first one, with a longer delay from the
// list as many would not do so with a tenth to spare, and 99 % pass within the window.
func TestDelayAndWindowLieWithinTheirBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		least := rapid.IntRange(int(5*time.Minute), int(40*time.Minute)).Draw(t, "least")
		retries := rapid.SliceOfN(rapid.IntRange(least, int(40*time.Hour)), fewReturns, 300).Draw(t, "retries")
		s := New(Config{Greylist: new(greylist.Defaults())})
		var all []*policy.Recording
		for i, d := range retries {
			all = append(all, comingBack(i, time.Duration(d))...)
		}
		slices.SortStableFunc(all, func(a, b *policy.Recording) int { return a.Start.Compare(b.Start) })
		for _, r := range all {
			s.Add(r)
		}
		g, ok := s.Greylisting()
		if !ok || g.Returned != len(retries) {
			t.Fatalf("%v, %+v", ok, g)
		}
		inTime := func(delay time.Duration) (n int) {
			for _, d := range retries {
				if time.Duration(d) >= delay {
					n++
				}
			}
			return n
		}
		if n := inTime(time.Duration(g.Delay)); 100*n < 95*len(retries) {
			t.Errorf("%d of %d pass at once with %s", n, len(retries), g.Delay)
		}
		if i := slices.Index(delays, time.Duration(g.Delay)); i+1 < len(delays) && 100*inTime(delays[i+1]*10/9+1) > 95*len(retries)+100 {
			t.Errorf("%s is not longer than %s, and would do", delays[i+1], g.Delay)
		}
		late := 0
		for _, d := range retries {
			if time.Duration(d) > time.Duration(g.Window) {
				late++
			}
		}
		if 100*late > len(retries) {
			t.Errorf("%d of %d come after %s", late, len(retries), g.Window)
		}
	})
}

func TestFewReturnsSayNothing(t *testing.T) {
	s := New(Config{Greylist: new(greylist.Defaults())})
	for i := range fewReturns - 1 {
		for _, r := range comingBack(i, time.Hour) {
			s.Add(r)
		}
	}
	if g, ok := s.Greylisting(); ok || g.Returned != fewReturns-1 {
		t.Errorf("%+v", g)
	}
	if _, ok := New(Config{}).Greylisting(); ok {
		t.Error("greylisting is off")
	}
}

// A meter never says less than the most that came within any span of the rate's time, nor more than came within a twelfth
// more than that.
func TestMetersFindTheMost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		gaps := rapid.SliceOfN(rapid.IntRange(0, 400), 1, 60).Draw(t, "gaps") // seconds
		const span = 1200
		u := newUsage(ratelimit.Limit{Count: "messages", Per: "client", Rate: ratelimit.Rate{Amount: ratelimit.Amount{N: 1}, Per: filters.Duration(span * time.Second)}})
		var times []int
		now := 0
		for _, gap := range gaps {
			now += gap
			times = append(times, now)
			u.add(recorded(time.Duration(now)*time.Second, "192.0.2.1", "a@example.net", 250))
		}
		within := func(span int) (most int64) {
			for i := range times {
				n := int64(0)
				for j := i; j < len(times) && times[j]-times[i] < span; j++ {
					n++
				}
				most = max(most, n)
			}
			return most
		}
		peak := u.meters["192.0.2.1/32"].peak
		if least, most := within(span), within(span+span/slots); peak < least || peak > most {
			t.Errorf("%d; really %d, and %d within a little more", peak, least, most)
		}
	})
}

// What is counted is what filters/ratelimit counts.
func TestWhatLimitsCount(t *testing.T) {
	usageOf := func(count, per string, list ...*policy.Recording) (n int64) {
		u := newUsage(ratelimit.Limit{Count: count, Per: per, Rate: ratelimit.Rate{Per: filters.Duration(time.Hour)}})
		for _, r := range list {
			u.add(r)
		}
		for _, m := range u.meters {
			n += m.peak
		}
		return n
	}
	taken := recorded(0, "192.0.2.1", "a@example.net", 250)
	taken.Size = 1000
	deferred := recorded(0, "192.0.2.1", "a@example.net", 451)
	deferred.Ours, deferred.Recipients[0].Ours, deferred.Recipients[0].Reply.Code = true, true, 451
	unknown := recorded(0, "192.0.2.1", "", 0)
	unknown.Recipients[0].Reply.Code = 550
	session := recorded(0, "192.0.2.1", "", 0)
	session.Envelope, session.Recipients = nil, nil
	all := []*policy.Recording{taken, deferred, unknown, session}
	for _, c := range []struct {
		count, per string
		want       int64
	}{
		{"connections", "client", 1}, {"messages", "client", 1}, {"recipients", "client", 2}, {"refused", "client", 1}, {"bytes", "client", 1000},
		{"messages", "sender_domain", 1}, {"recipients", "sender_domain", 1}, {"recipients", "recipient", 2},
	} {
		if got := usageOf(c.count, c.per, all...); got != c.want {
			t.Errorf("%s per %s: %d, want %d", c.count, c.per, got, c.want)
		}
	}
}

func TestRoundUp(t *testing.T) {
	for n, want := range map[int64]int64{0: 10, 10: 10, 11: 15, 16: 20, 99: 100, 201: 300, 1400: 1500, 5001: 7000} {
		if got := roundUp(n, false); got != want {
			t.Errorf("%d becomes %d, want %d", n, got, want)
		}
	}
	for n, want := range map[int64]int64{1: 10 << 20, 11 << 20: 15 << 20, 200<<20 + 1: 300 << 20} {
		if got := roundUp(n, true); got != want {
			t.Errorf("%d bytes become %d, want %d", n, got, want)
		}
	}
}

// A sender whose retry comes from the next network is a pool; within the same network it is none.
func TestPools(t *testing.T) {
	s := New(Config{Greylist: new(greylist.Defaults())})
	for i := range fewMoves {
		list := comingBack(i, 10*time.Minute)
		list[0].Envelope.ReversePath, list[1].Envelope.ReversePath = fmt.Sprintf("a%d@Pool.test", i), fmt.Sprintf("a%d@pool.test", i)
		list[1].Session.Client = filters.ClientAt(netip.MustParseAddrPort("198.51.100.9:25"))
		same := comingBack(100+i, 10*time.Minute)
		same[1].Session.Client = filters.ClientAt(netip.MustParseAddrPort("192.0.2.200:25"))
		for _, r := range append(list, same...) {
			s.Add(r)
		}
	}
	pools := s.Pools()
	if len(pools) != 1 || pools[0].Domain != "pool.test" || pools[0].Waits != fewMoves || len(pools[0].Networks) != 2 || pools[0].Lost != 0 {
		t.Errorf("%+v", pools)
	}
}
