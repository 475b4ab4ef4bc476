package simtest

import (
	"log/slog"
	"os"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"gatepost/filters"
	"gatepost/filters/all"
	"gatepost/policy"
	"gatepost/proxy/config"
	"gatepost/proxy/store"
)

func TestMain(m *testing.M) {
	// rueidis puts off its look at a cluster's nodes by a second, also when it is closed meanwhile.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"),
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient)._refresh.func2"))
}

// isLong tells whether `make sim` asks for the whole.
func isLong() bool { return os.Getenv("GATEPOST_SIM") != "" }

// size is how much is played.
func size(t testing.TB, name string, short, long int) int {
	if text := os.Getenv("GATEPOST_SIM_" + name); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("GATEPOST_SIM_%s: %v", name, err)
		}
		return n
	}
	if isLong() {
		return long
	}
	return short
}

const siteText = `hostname: mx.example.org
domains: [example.org]
backend: 127.0.0.1:10025
filters: {reputation: {traps: [trap@example.org]}}
`

// everybody greylists all whom nobody here knows: sites that do without our default rules do so.
const everybody = `rules:
  - name: spam-trap
    when: reputation.trap
    then: reject
  - name: suspicious
    when: not (known(known.domain) and (known.domain or known.correspondent))
    then: greylist
`

// compile makes the engine of a configuration as the program does.
func compile(text string) func(filters.Env) (*policy.Engine, error) {
	return func(env filters.Env) (*policy.Engine, error) {
		specs := all.Specs()
		c, problems := config.Parse("simulated.yaml", []byte(text), specs)
		if c == nil {
			return nil, problems
		}
		env.Hostname, env.Domains, env.Log = c.Hostname, c.Domains, slog.New(slog.DiscardHandler)
		engine, problems := c.Compile(specs, env)
		if engine == nil {
			return nil, problems
		}
		return engine, nil
	}
}

func openEmbedded(t testing.TB, clock filters.Clock) *store.Store {
	t.Helper()
	c := store.Defaults()
	c.Path = t.TempDir()
	s, err := store.Open(c, clock, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// say logs a table.
func say(t testing.TB, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		t.Log(strings.TrimRight(line, "\n"))
	}
}
