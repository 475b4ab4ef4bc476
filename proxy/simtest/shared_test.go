package simtest

import (
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/proxy/store"
	"gatepost/proxy/store/redistest"
	"gatepost/proxy/store/shared"
)

// member is a proxy of a site whose memory is a server.
type member struct {
	*shared.Store
	local *store.Store
}

// patience is how long a proxy of these tests waits for the server.
const patience = 5 * time.Second

func join(t testing.TB, servers []*redistest.Server, clock filters.Clock) *member {
	t.Helper()
	return joinAt(t, redistest.Addresses(servers), clock)
}

func joinAt(t testing.TB, addresses []string, clock filters.Clock) *member {
	t.Helper()
	c := store.Defaults()
	c.Path = t.TempDir()
	c.Redis.Addresses, c.Redis.Cluster = addresses, len(addresses) > 1
	local, err := store.Open(c, clock, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	// Longer than a configuration allows: what a message costs shall not depend on how busy the machine is.
	c.Redis.Timeout = filters.Duration(patience)
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
		m := join(t, []*redistest.Server{server}, c.Clock)
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
