package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"gatepost/filters"
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

// Sources is where the numbers come from. All of it is safe for concurrent use.
type Sources struct {
	Version  string
	Front    *proxy.Server
	Spill    *front.Spill
	Store    *store.Store
	Shared   func() shared.Stats // nil: there is none
	Resolver *resolver.Metrics
	Bypass   *policy.Bypass
	Recorder *Recorder
	Reloads  *Reloads
	Journal  *journal.Metrics // nil: there is none
	// Milter and PolicyServer may be nil.
	Milter       *milter.Metrics
	PolicyServer *policyserver.Metrics
	// Quarantine may be nil, too.
	Quarantine *quarantine.Quarantine
	// Asked returns the milters in force that Gatepost asks; nil: there are none.
	Asked func() []asked.State
	// Memories returns what filters in force have learned; it may be nil.
	Memories func() []filters.Memory
	// Backends returns the groups in force.
	Backends func() []Backends
}

// Backends is a group of backends and what it is for.
type Backends struct {
	Use   string // mail or submission
	Group *backend.Group
}

// Reloads counts how the configuration was read again. Safe for concurrent use.
type Reloads struct {
	succeeded, failed, last atomic.Int64 // last: when it was read successfully, Unix nanoseconds
	refused                 atomic.Bool  // the latest one was
}

// Loaded notes that a configuration was put in force, at the start or later.
func (r *Reloads) Loaded(now time.Time) {
	r.succeeded.Add(1)
	r.last.Store(now.UnixNano())
	r.refused.Store(false)
}

// Refused notes that a configuration was refused.
func (r *Reloads) Refused() {
	r.failed.Add(1)
	r.refused.Store(true)
}

// NewRegistry makes what /metrics shows: the house's metrics, the process's and the runtime's.
func NewRegistry(s Sources) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(NewCollector(s), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Declared returns all metrics of the house, in the order of the manual.
func Declared() []Metric {
	var all []Metric
	for _, f := range families() {
		all = append(all, f.Metric)
	}
	return all
}

// Runtime returns the metrics of the process and of Go's runtime that [NewRegistry] adds, on this machine.
func Runtime() ([]Metric, error) {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	gathered, err := r.Gather()
	if err != nil {
		return nil, err
	}
	var all []Metric
	for _, f := range gathered {
		m := Metric{Name: f.GetName(), Help: f.GetHelp(), Kind: Kind(f.GetType().String())}
		if len(f.GetMetric()) > 0 {
			for _, label := range f.GetMetric()[0].GetLabel() {
				m.Labels = append(m.Labels, label.GetName())
			}
		}
		all = append(all, m)
	}
	return all, nil
}
