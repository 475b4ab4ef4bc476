package simtest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	"gatepost/policy"
	"gatepost/policy/simulate"
	"gatepost/proxy/store"
	"gatepost/proxy/store/redistest"
	"gatepost/proxy/store/shared"
)

// member is a proxy of a site whose memory is a server.
type member struct {
	*shared.Store
	local *store.Store
}

func join(t testing.TB, address string, clock filters.Clock) *member {
	t.Helper()
	c := store.Defaults()
	c.Path = t.TempDir()
	c.Redis.Addresses = []string{address}
	c.Redis.Timeout = filters.Duration(95 * time.Millisecond)
	local, err := store.Open(c, clock, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	m := &member{shared.Open(c.Redis, local, clock, slog.New(slog.DiscardHandler)), local}
	t.Cleanup(func() {
		m.Close()
		_ = local.Close()
	})
	return m
}

// The days of TestDefaultRules over a real Redis server, that three proxies with memories of their own share.
func TestDefaultRulesOverRedis(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	c := traffic(t)
	c.Botnet /= 4
	var site []*member
	for range 3 {
		m := join(t, server.Address, c.Clock)
		site = append(site, m)
		c.Stores = append(c.Stores, m)
	}
	c.Compile = compile(siteText)
	r := run(t, &c)
	for i, m := range site {
		st := m.Stats()
		t.Logf("proxy %d: %d decisions over the server, %d by its own memory, %d outages, %d requests, %d look-ups from the cache", i+1,
			st.Decided, st.Fallbacks, st.Outages, st.Trips, st.Cached)
	}
	t.Logf("server: %s keys, %d bytes", server.Must("DBSIZE"), used(t, server))
	alone := int64(0)
	for _, m := range site {
		alone += m.Stats().Fallbacks
	}
	if alone > 0 {
		t.Log("the server did not answer in time now and then: what is promised of one memory is not held against this run")
		return
	}
	promised(t, r)
}

// TestScale measures 1, 2, 4 and 8 proxies over one server, with messages of which most come from who is known. On a machine
// that is so busy that the server does not answer in time, proxies fall back to their own memory, and the figures are of no
// use: the last column tells.
func TestScale(t *testing.T) {
	var out bytes.Buffer
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "proxies\tmessages\tmessages/s\trequests a message\tserver CPU a message\tproxies' CPU a message\tbytes to the server\tfrom it\tfallbacks\t")
	sites := []int{1, 2, 4, 8}
	if !isLong() {
		sites = []int{2}
	}
	for _, n := range sites {
		m := measure(t, n, size(t, "MESSAGES", 2000, 20_000))
		fmt.Fprintf(table, "%d\t%d\t%.0f\t%.2f\t%.0f µs\t%.0f µs\t%.0f\t%.0f\t%d\t\n", n, m.messages, m.rate, m.requests, m.serverCPU, m.proxyCPU, m.bytesIn, m.bytesOut, m.fallbacks)
		if m.requests > 4 {
			t.Errorf("%d proxies: %.2f requests a message", n, m.requests)
		}
	}
	_ = table.Flush()
	say(t, out.String())
}

type measured struct {
	messages              int64
	rate, requests        float64
	serverCPU, proxyCPU   float64 // µs a message
	bytesIn, bytesOut     float64
	fallbacks, operations int64
}

// workers is how many sessions are under way, in all.
const workers = 8

func measure(t *testing.T, proxies, messages int) measured {
	t.Helper()
	server := redistest.Start(t, redistest.Options{})
	t.Cleanup(server.Kill)
	zone := simulate.NewMix()
	var site []*member
	var engines []*policy.Engine
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for range proxies {
		m := join(t, server.Address, filters.SystemClock{})
		engine, err := compile(siteText)(filters.Env{Resolver: zone, Store: m, Clock: filters.SystemClock{}})
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() { engine.Run(ctx) })
		site, engines = append(site, m), append(engines, engine)
	}
	defer running.Wait()
	defer stop()
	play := func(n int64, attempt func(int64) *simulate.Attempt) time.Duration {
		var next atomic.Int64
		var all sync.WaitGroup
		begun := time.Now()
		for w := range workers {
			all.Go(func() {
				p := simulate.NewProxy(engines[w%proxies], filters.SystemClock{})
				for {
					i := next.Add(1)
					if i > n {
						return
					}
					p.Deliver(attempt(i))
				}
			})
		}
		all.Wait()
		return time.Since(begun)
	}
	// Each proxy has met each domain twice before, as on any day but the first.
	for range 2 * proxies {
		play(simulate.MixDomains, zone.Regular)
	}
	time.Sleep(3 * time.Second) // what was learned is written within two
	var before measured
	before.read(t, server, site)
	took := play(int64(messages), zone.Message)
	time.Sleep(2 * time.Second)
	var m measured
	m.read(t, server, site)
	n := float64(messages)
	m.messages, m.rate = int64(messages), n/took.Seconds()
	m.requests = float64(m.operations-before.operations) / n
	m.serverCPU, m.proxyCPU = (m.serverCPU-before.serverCPU)/n, (m.proxyCPU-before.proxyCPU)/n
	m.bytesIn, m.bytesOut = (m.bytesIn-before.bytesIn)/n, (m.bytesOut-before.bytesOut)/n
	m.fallbacks -= before.fallbacks
	return m
}

func (m *measured) read(t *testing.T, server *redistest.Server, site []*member) {
	t.Helper()
	for _, p := range site {
		st := p.Stats()
		m.operations += st.Trips
		m.fallbacks += st.Fallbacks
	}
	info := server.Must("INFO")
	m.serverCPU = 1e6 * (field(t, info, "used_cpu_user") + field(t, info, "used_cpu_sys"))
	m.bytesIn, m.bytesOut = field(t, info, "total_net_input_bytes"), field(t, info, "total_net_output_bytes")
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	m.proxyCPU = 1e6*float64(usage.Utime.Sec+usage.Stime.Sec) + float64(usage.Utime.Usec+usage.Stime.Usec)
}

func field(t testing.TB, info, name string) float64 {
	t.Helper()
	for line := range strings.Lines(info) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			n, err := strconv.ParseFloat(text, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("the server does not tell %s", name)
	return 0
}

func used(t testing.TB, server *redistest.Server) int64 {
	t.Helper()
	return int64(field(t, server.Must("INFO", "memory"), "used_memory"))
}

// TestBytesOfAKnownSender measures what a sender takes of the server's memory, tables included.
func TestBytesOfAKnownSender(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	m := join(t, server.Address, filters.SystemClock{})
	n, empty := size(t, "KNOWN", 20_000, 262_144), used(t, server)
	keys := make([]string, 0, 128)
	for i := range n {
		keys = append(keys, fmt.Sprintf("s:%s@%s%d.example", name(i), name(i/7), i/20))
		if len(keys) == cap(keys) || i == n-1 {
			if _, err := m.Attempt(t.Context(), "known", keys, filters.Terms{Window: 90 * 24 * time.Hour, Keep: 90 * 24 * time.Hour}); err != nil {
				t.Fatal(err)
			}
			keys = keys[:0]
		}
	}
	each := float64(used(t, server)-empty) / float64(n)
	t.Logf("known senders: %d, bytes each in the server's memory: %.0f (the aim is 120)", n, each)
	if each > 260 {
		t.Errorf("a known sender takes %.0f bytes", each)
	}
}

// name is a made-up name of 4 to 9 letters.
func name(n int) string {
	h := uint64(n+1) * 0x9e3779b97f4a7c15
	text := make([]byte, 4+h%6)
	for i := range text {
		h = h*6364136223846793005 + 1442695040888963407
		text[i] = 'a' + byte(h>>33%26)
	}
	return string(text)
}

// TestAfterAPartition: a proxy that is cut off tells a sender to come back, the sender does so there, and when the way is
// free again the others let it pass.
func TestAfterAPartition(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	way := redistest.Forward(t, server.Address)
	clock := filtertest.NewClockAt(time.Now())
	alone, other := join(t, way.Address, clock), join(t, server.Address, clock)
	way.Stall()
	way.Cut()
	const senders = 1000
	terms := filters.Terms{Delay: 5 * time.Minute, Window: 24 * time.Hour, Keep: 35 * 24 * time.Hour}
	key := func(i int) []string {
		address := netip.AddrFrom4([4]byte{192, 168, byte(i >> 8), byte(i)})
		return []string{"n:" + address.String() + "/32|alice@example" + strconv.Itoa(i) + ".test"}
	}
	for range 2 {
		for i := range senders {
			if _, err := alone.Attempt(t.Context(), "greylist", key(i), terms); err != nil {
				t.Fatal(err)
			}
		}
		clock.Advance(6 * time.Minute)
	}
	if alone.Stats().Since.IsZero() {
		t.Fatal("the proxy has not noticed that it is cut off")
	}
	way.Heal()
	begun := time.Now()
	passes := func() error {
		for _, i := range []int{0, senders / 2, senders - 1} {
			marks, err := other.Peek(t.Context(), "greylist", key(i))
			if err != nil || marks[0].Passed.IsZero() {
				return fmt.Errorf("sender %d does not pass at the other proxy: %v, %v", i, marks, err)
			}
		}
		return nil
	}
	redistest.Eventually(t, 30*time.Second, passes)
	st := alone.Stats()
	t.Logf("after a partition: %d senders learned alone pass at the other proxy %s after the way was free; %d marks merged", senders,
		time.Since(begun).Round(10*time.Millisecond), st.Merged)
}
