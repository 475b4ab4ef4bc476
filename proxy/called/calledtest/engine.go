package calledtest

import (
	"io/fs"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	"gatepost/policy"
	"gatepost/rules"
)

// Hostname is what front ends under test are called.
const Hostname = "mx.test"

// Policy says what a front end under test decides by.
type Policy struct {
	Domains []string
	Trusted []string // networks
	Specs   []filters.Spec
	Rules   []rules.Definition
	Zone    *filtertest.Zone // nil: an empty one
}

// Compile makes an engine of it, with the clock of its filters.
func Compile(t testing.TB, p Policy) (*policy.Engine, *filtertest.Clock) {
	t.Helper()
	config := policy.Config{Hostname: Hostname, Domains: p.Domains, Rules: p.Rules}
	for _, network := range p.Trusted {
		config.Trusted = append(config.Trusted, netip.MustParsePrefix(network))
	}
	if p.Zone == nil {
		p.Zone = filtertest.NewZone()
	}
	env := filtertest.NewEnv(p.Zone)
	env.Hostname, env.Domains = Hostname, p.Domains
	engine, problems := policy.Compile(config, p.Specs, env, noLists{})
	if engine == nil {
		t.Fatalf("policy does not compile: %v", problems)
	}
	clock, _ := env.Clock.(*filtertest.Clock)
	return engine, clock
}

type noLists struct{}

func (noLists) ReadList(string) ([]byte, error) { return nil, fs.ErrNotExist }

// Rule makes a definition from name, condition, action and further keys in turn.
func Rule(name, when, then string, more ...string) rules.Definition {
	keys := map[string]string{"name": name, "when": when, "then": then}
	for i := 0; i+1 < len(more); i += 2 {
		keys[more[i]] = more[i+1]
	}
	return Definition(keys)
}

// Definition makes one of the keys of a configuration.
func Definition(keys map[string]string) rules.Definition {
	source := func(key string) rules.Source {
		return rules.Source{Text: keys[key], At: func(int) rules.Pos { return rules.Pos{File: "test", Line: 1, Column: 1} }}
	}
	return rules.Definition{Name: source("name"), When: source("when"), Then: source("then"), Reply: source("reply"),
		At: source("at"), Mode: source("mode"), OnError: source("on_error"), Header: source("header"), Points: source("points"),
		Delay: source("delay"), Keep: source("keep")}
}

// Journal keeps what gates record.
type Journal struct {
	Panics atomic.Bool // with every record of a transaction

	mu      sync.Mutex // guards records
	records []*policy.Record
}

// Record implements policy.Recorder.
func (j *Journal) Record(r *policy.Record) {
	if j.Panics.Load() && r.Kind == policy.TransactionRecord {
		panic("as the test wants it")
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.records = append(j.records, r)
}

// Records of a kind so far.
func (j *Journal) Records(kind string) (list []*policy.Record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range j.records {
		if r.Kind == kind {
			list = append(list, r)
		}
	}
	return list
}

// Await waits for n records of a kind.
func (j *Journal) Await(t testing.TB, kind string, n int) []*policy.Record {
	t.Helper()
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		list := j.Records(kind)
		if len(list) >= n {
			return list
		}
		if time.Now().After(limit) {
			t.Fatalf("%d records of a %s, want %d", len(list), kind, n)
		}
	}
}
