package simtest

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/policy/simulate"
	"gatepost/proxy/store/redistest"
)

// The kinds of messages that are measured.
const (
	mixed     = "the mix"
	firsts    = "known senders, new to the proxy"
	regulars  = "known senders"
	newcomers = "new senders of known domains"
	strangers = "strangers"
)

// maxRequests is how many requests to the server a message may cost, all that is learned from it included. A stranger costs
// two: what is known of his network is read at connect, and the attempt is counted when he has a recipient.
// Newcomers and those whom the proxy has not seen for a while cost about one: what is known of sender, domain and network is one
// request behind MAIL, and one in a few of them also asks at connect. (How many hangs on how often their domains' marks are written
// meanwhile, and so on the machine.)
var maxRequests = map[string]float64{mixed: 1.2, firsts: 2, regulars: 1, newcomers: 2, strangers: 2.1}

// maxInCluster is more: what is known of a client, of his network, of a sender and of its domain is at different places, as is what
// operators let pass; and so are the tallies of a second. Each place that is asked beside others counts, also where one node has several.
var maxInCluster = map[string]float64{mixed: 3.5, firsts: 6, regulars: 3, newcomers: 6, strangers: 5.1}

// TestScale measures 1, 2, 4 and 8 proxies over one server, with messages of which most come from who is known, and says
// what each kind of them costs. On a machine that is so busy that the server does not answer in time, proxies go on by their
// own memory, and the figures are of no use: such a run is made again.
func TestScale(t *testing.T) {
	var out bytes.Buffer
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "proxies\tmessages\tmade of\trequests a message\tserver CPU\tproxies' CPU\tmessages per CPU second: proxies'\tserver's\tbytes to the server\tfrom it\tby own memory\t")
	one := func(t *testing.T) []*redistest.Server {
		return []*redistest.Server{redistest.Start(t, redistest.Options{})}
	}
	cluster := func(t *testing.T) []*redistest.Server { return redistest.StartCluster(t, 3) }
	sites := []struct {
		name    string
		proxies int
		start   func(*testing.T) []*redistest.Server
		bounds  map[string]float64
	}{{"1", 1, one, maxRequests}, {"2", 2, one, maxRequests}, {"4", 4, one, maxRequests}, {"8", 8, one, maxRequests}, {"4, Cluster of 3", 4, cluster, maxInCluster}}
	if !isLong() {
		sites = sites[1:2]
	}
	for _, site := range sites {
		for _, m := range measure(t, site.start(t), site.proxies, size(t, "MESSAGES", 2000, 20_000)) {
			fmt.Fprintf(table, "%s\t%d\t%s\t%.2f\t%.0f µs\t%.0f µs\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t\n", site.name, m.messages, m.made, m.requests, m.serverCPU, m.proxyCPU,
				1e6/m.proxyCPU, 1e6/m.serverCPU, m.bytesIn, m.bytesOut, m.fallbacks)
			switch {
			case m.fallbacks > 0:
				t.Logf("%s proxies, %s: the server did not answer in time now and then: what is promised is not held against this run", site.name, m.made)
			case m.requests > site.bounds[m.made]:
				t.Errorf("%s proxies, %s: %.2f requests a message", site.name, m.made, m.requests)
			}
		}
	}
	_ = table.Flush()
	say(t, out.String())
}

// measured is per message, but for the number of them.
type measured struct {
	made                string
	messages            int
	requests            float64
	serverCPU, proxyCPU float64 // µs
	bytesIn, bytesOut   float64
	fallbacks           float64
}

func (m *measured) numbers() []*float64 {
	return []*float64{&m.requests, &m.serverCPU, &m.proxyCPU, &m.bytesIn, &m.bytesOut, &m.fallbacks}
}

// site is some proxies over one server.
type site struct {
	t       *testing.T
	servers []*redistest.Server // one, or a Cluster
	members []*member
	engines []*policy.Engine
}

// workers is how many sessions are under way, in all.
const workers = 4

// measure plays the kinds of messages one after the other.
func measure(t *testing.T, servers []*redistest.Server, proxies, messages int) []measured {
	t.Helper()
	s := &site{t: t, servers: servers}
	defer func() {
		for _, server := range servers {
			server.Kill()
		}
	}()
	mix := simulate.NewMix()
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	for range proxies {
		m := join(t, servers, filters.SystemClock{})
		engine, err := compile(siteText)(filters.Env{Resolver: mix, Store: m, Clock: filters.SystemClock{}})
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() { engine.Run(ctx) })
		s.members, s.engines = append(s.members, m), append(s.engines, engine)
	}
	each := func(n int64) *simulate.Attempt { return mix.Regular(n / int64(proxies)) }
	learned := func() { time.Sleep(1500 * time.Millisecond) } // what was learned is written within a second
	// The first proxy has met each domain before, then all have, as on any day but the first.
	first := int64(1)
	var all []measured
	(&site{t: t, servers: servers, members: s.members[:1], engines: s.engines[:1]}).play(1, simulate.MixDomains, mix.Regular)
	learned()
	if proxies > 1 {
		others := &site{t: t, servers: servers, members: s.members[1:], engines: s.engines[1:]}
		m := others.measure(0, simulate.MixDomains*(proxies-1), func(n int64) *simulate.Attempt { return mix.Regular(n / int64(proxies-1)) })
		m.made = firsts
		all = append(all, m)
	}
	for range 2 {
		s.play(0, simulate.MixDomains*proxies, each)
		learned()
	}
	for _, kind := range []struct {
		name string
		make func(int64) *simulate.Attempt
	}{{mixed, mix.Message}, {regulars, mix.Regular}, {newcomers, mix.Newcomer}, {strangers, mix.Stranger}} {
		n := messages
		if kind.name != mixed {
			n /= 4
		}
		var m measured
		for range 3 {
			m = s.measure(first, n, kind.make)
			first += int64(n)
			if m.fallbacks == 0 {
				break
			}
			s.recover()
		}
		m.made = kind.name
		all = append(all, m)
	}
	return all
}

func (s *site) measure(first int64, n int, attempt func(int64) *simulate.Attempt) measured {
	before := s.read()
	s.play(first, n, attempt)
	time.Sleep(2500 * time.Millisecond) // what was learned counts, too
	m := s.read()
	for i, was := range before.numbers() {
		now := m.numbers()[i]
		*now = (*now - *was) / float64(n)
	}
	m.fallbacks *= float64(n)
	m.messages = n
	return m
}

// play has each proxy take every so many-th message.
func (s *site) play(first int64, n int, attempt func(int64) *simulate.Attempt) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			proxies := make([]*simulate.Proxy, len(s.engines))
			for i, engine := range s.engines {
				proxies[i] = simulate.NewProxy(engine, filters.SystemClock{})
			}
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				proxies[i%int64(len(proxies))].Deliver(attempt(first + i))
			}
		})
	}
	all.Wait()
}

// recover waits until all use the server again.
func (s *site) recover() {
	for _, m := range s.members {
		redistest.Eventually(s.t, 30*time.Second, func() error {
			if st := m.Stats(); !st.Since.IsZero() {
				return st.Cause
			}
			return nil
		})
	}
}

func (s *site) read() (m measured) {
	s.t.Helper()
	for _, p := range s.members {
		st := p.Stats()
		m.requests += float64(st.Trips)
		m.fallbacks += float64(st.Fallbacks)
	}
	for _, server := range s.servers {
		info := server.Must("INFO")
		m.serverCPU += 1e6 * (field(s.t, info, "used_cpu_user") + field(s.t, info, "used_cpu_sys"))
		m.bytesIn += field(s.t, info, "total_net_input_bytes")
		m.bytesOut += field(s.t, info, "total_net_output_bytes")
	}
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		s.t.Fatal(err)
	}
	m.proxyCPU = 1e6*float64(usage.Utime.Sec+usage.Stime.Sec) + float64(usage.Utime.Usec+usage.Stime.Usec)
	return m
}
