package metrics

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatepost/proxy/backend"
	"gatepost/proxy/histogram"
	"gatepost/proxy/store"
	"gatepost/proxy/store/shared"
)

// Kind is a metric's type as Prometheus names it.
type Kind string

const (
	Counter   Kind = "counter"
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// Metric declares a metric.
type Metric struct {
	Name   string
	Kind   Kind
	Labels []string
	Help   string
}

// family is a metric and how it is read.
type family struct {
	Metric
	read func(m *moment, o *out)
}

// moment is the sources with what was asked of them once for all families.
type moment struct {
	*Sources
	store    store.Stats
	shared   shared.Stats
	backends []backendStats
}

// backendStats is how a backend is, and what it is used for.
type backendStats struct {
	use string
	backend.Stats
}

func (s *Sources) now() *moment {
	m := &moment{Sources: s, store: s.Store.Stats()}
	if s.Shared != nil {
		m.shared = s.Shared()
	}
	for _, b := range s.Backends() {
		if b.Group == nil {
			continue
		}
		for _, st := range b.Group.Stats() {
			m.backends = append(m.backends, backendStats{b.Use, st})
		}
	}
	return m
}

// families are all metrics, in the order of the manual.
func families() []family {
	var all []family
	for _, part := range [][]family{buildFamilies, sessionFamilies, messageFamilies, calledFamilies, decisionFamilies, askedFamilies, backendFamilies, resolverFamilies, storeFamilies, sharedFamilies, learnedFamilies, journalFamilies, quarantineFamilies} {
		all = append(all, part...)
	}
	return all
}

// labelled makes a list of label names.
func labelled(names ...string) []string { return names }

// single reads a metric without labels that is one number.
func single[N int | int64 | uint64 | float64](read func(s *Sources) N) func(*moment, *out) {
	return func(m *moment, o *out) { o.value(float64(read(m.Sources))) }
}

// out takes the values of one family.
type out struct {
	kind prometheus.ValueType
	desc *prometheus.Desc
	to   chan<- prometheus.Metric
}

// value gives the value for some values of the labels.
func (o *out) value(v float64, labels ...string) {
	m, err := prometheus.NewConstMetric(o.desc, o.kind, v, labels...)
	o.give(m, err)
}

func (o *out) histogram(s histogram.Snapshot, labels ...string) {
	buckets := make(map[float64]uint64, len(histogram.Bounds))
	total := uint64(0)
	for i, bound := range histogram.Bounds {
		total += s.Counts[i]
		buckets[bound.Seconds()] = total
	}
	total += s.Counts[len(histogram.Bounds)]
	m, err := prometheus.NewConstHistogram(o.desc, total, s.Sum.Seconds(), buckets, labels...)
	o.give(m, err)
}

// give passes a metric on. An error is a family that does not fit its declaration: the registry reports it.
func (o *out) give(m prometheus.Metric, err error) {
	if err != nil {
		m = prometheus.NewInvalidMetric(o.desc, err)
	}
	o.to <- m
}

// Collector reads the sources whenever it is asked. It implements [prometheus.Collector].
type Collector struct {
	sources  Sources
	families []family
	descs    []*prometheus.Desc
}

// NewCollector makes a collector.
func NewCollector(s Sources) *Collector {
	c := &Collector{sources: s, families: families()}
	for _, f := range c.families {
		c.descs = append(c.descs, prometheus.NewDesc(f.Name, f.Help, f.Labels, nil))
	}
	return c
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		to <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *Collector) Collect(to chan<- prometheus.Metric) {
	now := c.sources.now()
	for i, f := range c.families {
		o := &out{kind: prometheus.GaugeValue, desc: c.descs[i], to: to}
		if f.Kind == Counter {
			o.kind = prometheus.CounterValue
		}
		f.read(now, o)
	}
}

// seconds is a moment as Prometheus counts it; 0 for none.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// String is the metric as the manual and messages name it.
func (m Metric) String() string { return fmt.Sprintf("%s (%s)", m.Name, m.Kind) }
