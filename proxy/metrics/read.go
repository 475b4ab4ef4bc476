package metrics

import (
	"maps"
	"slices"

	"gatepost/proxy/histogram"
)

// FilterCounts is how a filter has done.
type FilterCounts struct {
	Name                           string
	OK, Timeout, Error, Unfinished int64
	Duration                       histogram.Snapshot // without those that are unfinished
}

// Filters returns how all filters have done, by name.
func (r *Recorder) Filters() []FilterCounts {
	table := *r.filters.Load()
	list := make([]FilterCounts, 0, len(table))
	for _, name := range slices.Sorted(maps.Keys(table)) {
		n := table[name]
		list = append(list, FilterCounts{name, n.statuses[0].Load(), n.statuses[1].Load(), n.statuses[2].Load(), n.statuses[3].Load(), n.duration.Read()})
	}
	return list
}

// Matches returns how often a rule's condition was true: enforced, and observed.
func (r *Recorder) Matches(rule string) (enforced, observed int64) {
	if n := r.rules.Load().current[rule]; n != nil {
		return n.enforced.Load(), n.observed.Load()
	}
	return 0, 0
}
