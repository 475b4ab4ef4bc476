package shared_test

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	"gatepost/proxy/store/engine"
	"gatepost/proxy/store/redistest"
	"gatepost/proxy/store/shared"
	"gatepost/proxy/store/storetest"
)

// visitors are senders that come again and again, each to any proxy.
type visitors struct {
	keys    [][]string
	stop    chan struct{}
	running sync.WaitGroup

	made, slow atomic.Int64 // decisions; those that took longer than anybody may wait
	longest    most

	mu   sync.Mutex // guards lost
	lost error
}

// most is the longest of some durations.
type most struct{ d atomic.Int64 }

func (m *most) see(d time.Duration) {
	for {
		old := m.d.Load()
		if int64(d) <= old || m.d.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

func (m *most) of() time.Duration { return time.Duration(m.d.Load()) }

const longestWait = 100 * time.Millisecond

// visit has some sessions make decisions until the visitors' end. A decision that fails is one that mail waits for.
func visit(t *testing.T, keys [][]string, proxies ...*proxy) *visitors {
	v := &visitors{keys: keys, stop: make(chan struct{})}
	for i := range 4 {
		v.running.Go(func() {
			for n := i; ; n++ {
				select {
				case <-v.stop:
					return
				case <-time.After(time.Millisecond): // as mail comes, and not as fast as can be
				}
				start := time.Now()
				_, err := proxies[n%len(proxies)].Attempt(t.Context(), "greylist", keys[n%len(keys)], storetest.Terms)
				took := time.Since(start)
				v.made.Add(1)
				if took > longestWait {
					v.slow.Add(1)
				}
				v.longest.see(took)
				if err != nil {
					v.mu.Lock()
					v.lost = err
					v.mu.Unlock()
				}
			}
		})
	}
	t.Cleanup(v.end)
	return v
}

func (v *visitors) end() {
	select {
	case <-v.stop:
	default:
		close(v.stop)
	}
	v.running.Wait()
}

// were tells how it went. Of what took too long a little is let pass, since the machine may be busy with other things.
func (v *visitors) were(t *testing.T) {
	t.Helper()
	v.end()
	t.Logf("%d decisions, %d of them in more than %s; the longest took %s", v.made.Load(), v.slow.Load(), longestWait, v.longest.of())
	if v.lost != nil {
		t.Errorf("mail would have been held up: %v", v.lost)
	}
	if v.made.Load() < 100 {
		t.Errorf("%d decisions only", v.made.Load())
	}
	if v.slow.Load() > v.made.Load()/20+8 {
		t.Errorf("%d of %d decisions took more than %s", v.slow.Load(), v.made.Load(), longestWait)
	}
}

func group(n int, domain string) (keys [][]string) {
	for i := range n {
		keys = append(keys, []string{"n:198.51." + strconv.Itoa(i) + ".0/24|alice@" + domain})
	}
	return keys
}

// passAfterOneMorePeriod holds what is promised of whatever happens to the store: nobody comes back more than once more.
func passAfterOneMorePeriod(t *testing.T, clock *filtertest.Clock, keys [][]string, proxies ...*proxy) {
	t.Helper()
	for _, p := range proxies {
		p.isUsing(t, 20*time.Second)
	}
	for i, key := range keys {
		proxies[i%len(proxies)].attempt(t, key...)
	}
	clock.Advance(storetest.Terms.Delay)
	for i, key := range keys {
		for n, p := range proxies {
			if got := p.attempt(t, key...); got != filters.GreylistPassed {
				t.Errorf("sender %d is %s at proxy %d, a period later (%s)", i, got, n+1, state(p))
			}
		}
	}
}

// A slot of a Cluster moves to another node while mail for it comes in at two proxies.
func TestASlotMovesUnderLoad(t *testing.T) {
	nodes := redistest.StartCluster(t, 2)
	clock := filtertest.NewClock()
	mx1, mx2 := newProxy(t, atCluster(nodes), clock), newProxy(t, atCluster(nodes), clock)
	moved, known, stays := group(12, "example.org"), []string{"n:203.0.113.0/24|bob@example.org"}, group(12, "example.net")
	all := append(moved, stays...)
	mx1.attempt(t, known...)
	clock.Advance(storetest.Terms.Delay)
	mx1.mustBe(t, filters.GreylistPassed, known...)
	mx1.knowsItself(t, func(m filters.Mark) bool { return !m.Passed.IsZero() }, known...)
	for _, key := range all {
		mx1.mustBe(t, filters.GreylistNew, key...)
	}

	v := visit(t, all, mx1, mx2)
	place := engine.Place("greylist", moved[0][0])
	from := redistest.Owner(t, nodes, place)
	to := nodes[0]
	if from == to {
		to = nodes[1]
	}
	redistest.MoveSlot(t, nodes, nodes[0].Must("CLUSTER", "KEYSLOT", place), from, to, func() {
		mx1.mustBe(t, filters.GreylistPassed, known...) // whom this proxy has passed is never delayed
	})
	time.Sleep(200 * time.Millisecond)
	v.were(t)
	for i, p := range []*proxy{mx1, mx2} {
		st := p.Stats()
		t.Logf("proxy %d: %d outages, %d decisions by its own memory, %d marks merged", i+1, st.Outages, st.Fallbacks, st.Merged)
	}
	passAfterOneMorePeriod(t, clock, all, mx1, mx2)
	mx2.mustBe(t, filters.GreylistPassed, known...)
	if n := to.Must("CLUSTER", "COUNTKEYSINSLOT", nodes[0].Must("CLUSTER", "KEYSLOT", place)); n == "0" {
		t.Error("nothing has moved")
	}
}

// A master dies while mail comes in, and the Sentinels make another one.
func TestASentinelFailoverUnderLoad(t *testing.T) {
	t.Parallel() // it mostly waits for the Sentinels to agree
	servers, sentinels := redistest.StartSentinels(t)
	c := at(redistest.Addresses(sentinels)...)
	c.Sentinel = "marks"
	clock := filtertest.NewClock()
	mx1, mx2 := newProxy(t, c, clock), newProxy(t, c, clock)
	keys := group(24, "example.org")
	v := visit(t, keys, mx1, mx2)
	time.Sleep(100 * time.Millisecond)
	servers[0].Kill()
	for _, p := range []*proxy{mx1, mx2} {
		redistest.Eventually(t, 20*time.Second, func() error {
			if st := p.Stats(); st.Outages == 0 || !st.Since.IsZero() {
				return fmt.Errorf("%d outages: %s", st.Outages, st.State())
			}
			return nil
		})
	}
	time.Sleep(100 * time.Millisecond)
	v.were(t)
	passAfterOneMorePeriod(t, clock, keys, mx1, mx2)
}

// A server that is frozen costs those who have asked it at most 100 ms, and nobody after them. Of several times the best
// counts: the others are the machine's.
func TestNobodyWaitsLongForAFrozenServer(t *testing.T) {
	s := redistest.Start(t, redistest.Options{})
	mx := newProxy(t, at(s.Address), filters.SystemClock{})
	best := time.Hour
	for trial := range 6 {
		s.Stall()
		var sessions sync.WaitGroup
		var longest most
		for i := range 8 {
			sessions.Go(func() {
				start := time.Now()
				if _, err := mx.Attempt(t.Context(), "greylist", []string{fmt.Sprintf("n:192.0.2.0/24|u%d@e%d.example", i, trial)}, storetest.Terms); err != nil {
					t.Errorf("mail would have been held up: %v", err)
				}
				longest.see(time.Since(start))
			})
		}
		sessions.Wait()
		best = min(best, longest.of())
		decided := mx.Stats().Decided
		for i := range 100 {
			mx.attempt(t, fmt.Sprintf("n:192.0.2.0/24|v%d@example.org", i))
		}
		if st := mx.Stats(); st.Since.IsZero() || st.Decided != decided {
			t.Errorf("sessions ask a server that is known to be frozen: %+v", st)
		}
		s.Resume()
		mx.isUsing(t, 20*time.Second)
	}
	t.Logf("eight sessions waited %s for a frozen server", best)
	if best > longestWait {
		t.Errorf("at best, eight sessions waited %s for a frozen server", best)
	}
}

// A crowd that meets a frozen server does not queue before it: some ask, and the others go by what those have found out.
func TestACrowdDoesNotQueueBeforeAFrozenServer(t *testing.T) {
	s := redistest.Start(t, redistest.Options{})
	mx := newProxy(t, at(s.Address), filters.SystemClock{})
	before := mx.Asked()
	s.Stall()
	var sessions sync.WaitGroup
	for i := range 6 * shared.MaxAsking {
		sessions.Go(func() {
			if _, err := mx.Attempt(t.Context(), "greylist", []string{fmt.Sprintf("n:192.0.2.0/24|u%d@example.org", i)}, storetest.Terms); err != nil {
				t.Errorf("mail would have been held up: %v", err)
			}
		})
	}
	sessions.Wait()
	if asked := mx.Asked() - before; asked > shared.MaxAsking {
		t.Errorf("%d have asked, want %d at most", asked, shared.MaxAsking)
	}
	s.Resume()
}
