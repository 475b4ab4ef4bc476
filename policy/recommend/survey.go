package recommend

import (
	"slices"
	"time"

	"gatepost/filters"
	"gatepost/filters/greylist"
	"gatepost/filters/ratelimit"
	"gatepost/policy"
)

// Config is what was in force, as far as findings are about it.
type Config struct {
	Greylist *greylist.Config  // nil: off
	Limits   []ratelimit.Limit // none: off
	Zones    []string          // names of block lists, as facts have them
}

// Survey collects figures. It is for one goroutine.
type Survey struct {
	greylist *retries // nil: off
	limits   []*usage
	zones    *zones
	ended    time.Time
}

// New makes a survey.
func New(c Config) *Survey {
	s := &Survey{zones: newZones(c.Zones)}
	if c.Greylist != nil {
		s.greylist = newRetries(*c.Greylist)
	}
	for _, l := range c.Limits {
		s.limits = append(s.limits, newUsage(l))
	}
	return s
}

// Add takes one recording. It is not kept.
func (s *Survey) Add(r *policy.Recording) {
	if r.Start.After(s.ended) {
		s.ended = r.Start
	}
	if s.greylist != nil && r.Envelope != nil {
		s.greylist.add(r)
	}
	for _, u := range s.limits {
		u.add(r)
	}
	if r.Envelope != nil || r.Transactions == 0 {
		s.zones.add(r)
	}
}

// delivered tells whether the mail server took the message.
func delivered(r *policy.Recording) bool {
	return r.Envelope != nil && r.Reply.Code/100 == 2 && !r.Ours
}

// quantile returns the value below which a share of them is; they must be sorted and not be none.
func quantile[T any](sorted []T, share float64) T {
	return sorted[min(int(share*float64(len(sorted))), len(sorted)-1)]
}

// Spread is how durations are distributed.
type Spread struct {
	P5  filters.Duration `json:"p5"`
	P50 filters.Duration `json:"p50"`
	P95 filters.Duration `json:"p95"`
	P99 filters.Duration `json:"p99"`
	Max filters.Duration `json:"max"`
}

func spreadOf(list []time.Duration) Spread {
	if len(list) == 0 {
		return Spread{}
	}
	slices.Sort(list)
	at := func(share float64) filters.Duration {
		return filters.Duration(quantile(list, share).Round(time.Second))
	}
	return Spread{at(0.05), at(0.5), at(0.95), at(0.99), at(1)}
}
