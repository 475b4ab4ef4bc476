package simtest

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	"gatepost/policy/simulate"
)

func traffic(t testing.TB) simulate.Config {
	return simulate.Config{
		Seed:  uint64(size(t, "SEED", 1, 1)),
		Clock: filtertest.NewClock(),
		Delay: 5 * time.Minute,

		Honest:      size(t, "HONEST", 8000, 100_000),
		Botnet:      size(t, "BOTNET", 20_000, 1_000_000),
		Snowshoe:    size(t, "SNOWSHOE", 500, 5000),
		Dictionary:  size(t, "DICTIONARY", 60, 1000),
		TrapSenders: size(t, "TRAPSENDERS", 500, 5000),
		Hacked:      size(t, "HACKED", 50, 1000),
	}
}

// Three proxies of a site over one memory, with the default rules.
func TestDefaultRules(t *testing.T) {
	c := traffic(t)
	store := openEmbedded(t, c.Clock)
	for range 3 {
		c.Stores = append(c.Stores, store)
	}
	c.Compile = compile(siteText)
	r := run(t, &c)
	if err := store.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	st, decisions := store.Stats(), int64(0)
	for _, o := range st.Operations {
		decisions += o.Calls
	}
	var memory runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&memory)
	t.Logf("store: %d marks, %d standings, %.1f MB on disk, %d evicted, %d expired; heap %.0f MB; %d operations", st.Entries, st.Standings,
		float64(st.Bytes)/1e6, st.Evicted, st.Expired, float64(memory.HeapAlloc)/1e6, decisions)
	promised(t, r)
	noPools(t, store)
	if bound := int64(c.Botnet + 10*c.Honest + 10_000); st.Entries > bound {
		t.Errorf("%d marks are left of %d bots", st.Entries, c.Botnet)
	}
	if st.Refused > 0 {
		t.Errorf("the store had no room for %d decisions", st.Refused)
	}
}

// The same without mercy: whoever is not known is greylisted, so that all pools have to come back.
func TestEverybodyIsGreylisted(t *testing.T) {
	c := traffic(t)
	c.Botnet /= 20
	store := openEmbedded(t, c.Clock)
	for range 3 {
		c.Stores = append(c.Stores, store)
	}
	c.Compile = compile(siteText + everybody)
	r := run(t, &c)
	pools(t, r)
	codes(t, r)
	noPools(t, store)
	if r.Unwaited > 0 {
		t.Errorf("%d messages of snowshoe spammers passed from networks that had not come back", r.Unwaited)
	}
}

func run(t *testing.T, c *simulate.Config) *simulate.Result {
	t.Helper()
	begun := time.Now()
	r, err := simulate.Run(*c)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	r.Print(&out)
	t.Logf("seed %d, %d proxies: %d honest messages in three days, %d bots; played in %s", c.Seed, len(c.Stores), c.Honest, c.Botnet,
		time.Since(begun).Round(time.Second))
	say(t, out.String())
	return r
}

// promised holds the default rules against what is promised of them.
func promised(t *testing.T, r *simulate.Result) {
	t.Helper()
	pools(t, r)
	codes(t, r)
	honest := r.Honest()
	late := simulate.Percent(honest.NewLate, honest.New)
	t.Logf("promise: first messages late by more than %s: %.3f %% (at most 0.1), %d of %d", simulate.Late, late, honest.NewLate, honest.New)
	// In the short form one or two servers decide, whose half a dozen messages are late together: there one standard
	// deviation more is let pass.
	allowed := float64(honest.New) / 1000
	if !isLong() {
		allowed += math.Sqrt(6 * allowed)
	}
	if float64(honest.NewLate) > allowed {
		t.Errorf("%.3f %% of first messages are late", late)
	}
	if honest.Lost > 0 {
		t.Errorf("%d honest messages were lost", honest.Lost)
	}
	kept := r.Kinds[simulate.Botnet].Kept()
	t.Logf("promise: bots kept out: %.3f %% (at least 99.9)", kept)
	if kept < 99.9 {
		t.Errorf("%.3f %% of the bots were kept out", kept)
	}
	t.Logf("promise: snowshoe spam that passed without its network's wait: %d (0)", r.Unwaited)
	if r.Unwaited > 0 {
		t.Errorf("%d messages of snowshoe spammers passed from networks that had not come back", r.Unwaited)
	}
}

func pools(t *testing.T, r *simulate.Result) {
	t.Helper()
	p := r.Kinds[simulate.Providers]
	passed := simulate.Percent(p.Ripe-p.RipeHeld, p.Ripe)
	t.Logf("promise: big pools delivered at the first retry after the delay: %.3f %% of %d (at least 99.9)", passed, p.Ripe)
	if passed < 99.9 {
		t.Errorf("%.3f %% of what big pools sent again was delivered", passed)
	}
}

func codes(t *testing.T, r *simulate.Result) {
	t.Helper()
	c := r.Kinds[simulate.Codes]
	t.Logf("promise: one-time codes of domains known here that were delayed: %d of %d (0)", c.KnownDelayed, c.Known)
	if c.KnownDelayed > 0 || c.Known == 0 {
		t.Errorf("%d of %d one-time codes of known domains were delayed", c.KnownDelayed, c.Known)
	}
}

// noPools makes sure that no domain of snowshoe spammers has become a pool, nor known.
func noPools(t *testing.T, store filters.Store) {
	t.Helper()
	for _, space := range []string{"greylist", "known"} {
		var found []string
		err := store.Range(context.Background(), space, "", func(key string, _ filters.Mark) bool {
			pooled := strings.HasPrefix(key, "d:snow") || (strings.HasPrefix(key, "p:") || strings.HasPrefix(key, "h:")) && strings.Contains(key, "snow")
			if pooled {
				found = append(found, key)
			}
			return len(found) < 10
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(found) > 0 {
			t.Errorf("%s: %s", space, fmt.Sprint(found))
		}
	}
}
