package metrics

import (
	"log/slog"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	asked "gatepost/filters/milter"
	"gatepost/policy"
	"gatepost/proxy"
	"gatepost/proxy/backend"
	"gatepost/proxy/front"
	"gatepost/proxy/journal"
	"gatepost/proxy/milter"
	"gatepost/proxy/policyserver"
	"gatepost/proxy/quarantine"
	"gatepost/proxy/resolver"
	"gatepost/proxy/store"
	"gatepost/proxy/store/shared"
)

// sources are those of a house at rest.
func sources(t testing.TB, r *Recorder) Sources {
	t.Helper()
	c := store.Defaults()
	c.Path = t.TempDir()
	log := slog.New(slog.DiscardHandler)
	marks, err := store.Open(c, filters.SystemClock{}, log)
	if err != nil {
		t.Fatal(err)
	}
	rc := resolver.Defaults()
	rc.Servers = []string{"127.0.0.1:9"}
	dns, err := resolver.New(rc, filters.SystemClock{}, log)
	if err != nil {
		t.Fatal(err)
	}
	spill, err := front.NewSpill(t.TempDir(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	bc := backend.Default()
	bc.Address = []string{"127.0.0.1:1", "127.0.0.1:2"}
	group, err := backend.New(bc, backend.Options{Hostname: "mx.example.org"})
	if err != nil {
		t.Fatal(err)
	}
	service := proxy.Service{Hostname: "mx.example.org", Engine: compiled(t, ""), Runtime: &policy.Runtime{}, Backend: group, Limits: proxy.DefaultLimits()}
	front, err := proxy.New(proxy.Options{Service: service, Spill: spill, Log: log, Clock: filters.SystemClock{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := front.Shutdown(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
		dns.Close()
		if err := marks.Close(); err != nil {
			t.Error(err)
		}
	})
	config := quarantine.Defaults()
	config.Path = t.TempDir()
	kept, err := quarantine.Open(config, quarantine.Options{Clock: filters.SystemClock{}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kept.Close() })
	reloads := &Reloads{}
	reloads.Loaded(filtertest.Start)
	return Sources{Version: "v1", Front: front, Spill: spill, Store: marks, Shared: func() shared.Stats { return shared.Stats{} }, Resolver: dns.Metrics, Bypass: &policy.Bypass{}, Recorder: r, Reloads: reloads, Journal: &journal.Metrics{}, Quarantine: kept,
		Milter: &milter.Metrics{}, PolicyServer: &policyserver.Metrics{},
		Asked: func() []asked.State {
			return []asked.State{{Name: "rspamd", Paused: true, Pauses: 2, Idle: 3, HandedOn: 4}}
		},
		Memories: func() []filters.Memory { return []filters.Memory{memory{}} },
		Backends: func() []Backends { return []Backends{{"mail", group}, {"submission", group}, {"none", nil}} }}
}

// memory is one that has learned nothing.
type memory struct{ filters.Memory }

func (memory) Kind() filters.MemoryKind   { return filters.MemoryKind{Name: "known"} }
func (memory) Stats() filters.MemoryStats { return filters.MemoryStats{Noted: 3} }

// gathered is all numbers by name and labels; of a histogram it is the count.
func gathered(t testing.TB, r *Recorder) map[string]float64 {
	t.Helper()
	return numbers(t, sources(t, r))
}

func numbers(t testing.TB, s Sources) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(NewCollector(s))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			list[f.GetName()+labelText(m)] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return list
}

func labelText(m *dto.Metric) string {
	var texts []string
	for _, l := range m.GetLabel() {
		texts = append(texts, l.GetName()+`="`+l.GetValue()+`"`)
	}
	sort.Strings(texts)
	if len(texts) == 0 {
		return ""
	}
	return "{" + strings.Join(texts, ",") + "}"
}

func TestEveryFamilyIsThere(t *testing.T) {
	r := newRecorder(t)
	r.Use(compiled(t, "").Rules())
	s := sources(t, r)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(NewCollector(s))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]dto.MetricType{}
	for _, f := range families {
		kinds[f.GetName()] = f.GetType()
	}
	for _, m := range Declared() {
		if kind, ok := kinds[m.Name]; !ok || !strings.EqualFold(kind.String(), string(m.Kind)) {
			t.Errorf("%s is exported as %v (%v)", m, kind, ok)
		}
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("names and help texts: %v, %v", problems, err)
	}
	n := 0
	for _, f := range families {
		n += len(f.GetMetric())
	}
	if n > 600 {
		t.Errorf("%d series with the default rules: are all labels bounded?", n)
	}
	t.Logf("%d series with the default rules", n)
}

func TestValues(t *testing.T) {
	s := sources(t, newRecorder(t))
	s.Reloads.Refused()
	s.Bypass.Set(time.Unix(1000, 0))
	s.Front.Metrics().RefusedFull.Add(2)
	s.Front.Metrics().Accepted.Add(3)
	s.Resolver.UDP.Add(4)
	s.Resolver.TCP.Add(1)
	s.Resolver.Latency.Observe(time.Millisecond)
	if _, err := s.Store.Peek(t.Context(), "x", []string{"k"}); err != nil {
		t.Fatal(err)
	}
	s.Journal.Dropped.Add(7)
	s.Milter.Panics.Add(2)
	s.Milter.Discarded.Add(3)
	s.PolicyServer.Open.Add(4)
	s.PolicyServer.Deferred.Add(5)
	got := numbers(t, s)
	for name, want := range map[string]float64{
		`gatepost_mta_connections_cut_total{front="milter",reason="panic"}`:             2,
		`gatepost_milter_messages_total{result="discarded"}`:                            3,
		`gatepost_mta_connections_open{front="policy_server"}`:                          4,
		`gatepost_policy_server_answers_total{result="deferred"}`:                       5,
		`gatepost_filter_milter_paused{milter="rspamd"}`:                                1,
		`gatepost_filter_milter_pauses_total{milter="rspamd"}`:                          2,
		`gatepost_filter_milter_connections{milter="rspamd",state="idle"}`:              3,
		`gatepost_filter_milter_messages_total{connection="handed_on",milter="rspamd"}`: 4,
		`gatepost_config_last_reload_successful`:                                        0,
		`gatepost_config_reloads_total{result="refused"}`:                               1,
		`gatepost_bypass_until_timestamp_seconds`:                                       1000,
		`gatepost_sessions_refused_total{reason="full"}`:                                2,
		`gatepost_messages_total{result="accepted"}`:                                    3,
		`gatepost_resolver_queries_total{protocol="udp"}`:                               4,
		`gatepost_resolver_lookup_duration_seconds`:                                     1,
		`gatepost_store_operations_total{operation="peek"}`:                             1,
		`gatepost_backend_up{backend="127.0.0.1:2",use="mail"}`:                         0,
		`gatepost_journal_dropped_total`:                                                7,
		`gatepost_quarantine_limit_bytes`:                                               2 << 30,
		`gatepost_spill_limit_bytes`:                                                    1 << 20,
		`gatepost_store_operation_errors_total{operation="forget"}`:                     0,
	} {
		if value, ok := got[name]; !ok || value != want {
			t.Errorf("%s is %v (%v), want %v", name, value, ok, want)
		}
	}
}

func TestWithoutJournalAndQuarantine(t *testing.T) {
	s := sources(t, newRecorder(t))
	s.Journal, s.Quarantine = nil, nil
	got := numbers(t, s)
	for _, name := range []string{"gatepost_journal_dropped_total", "gatepost_quarantine_messages"} {
		if _, ok := got[name]; ok {
			t.Error(name, "is there")
		}
	}
}

func BenchmarkScrape(b *testing.B) {
	r := newRecorder(b)
	r.Use(compiled(b, "").Rules())
	registry := NewRegistry(sources(b, r))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := registry.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}
