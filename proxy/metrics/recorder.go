package metrics

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/proxy/histogram"
	"gatepost/proxy/telemetry"
	"gatepost/rules"
)

// Recorder counts records. It implements [policy.Recorder], takes no lock and allocates nothing but for a filter's name that is new to it, and is safe for concurrent
// use.
//
// A transaction's record repeats what its session knew; that is counted with the session alone.
type Recorder struct {
	verdicts   [len(telemetry.Verdicts)]atomic.Int64
	recipients [len(recipientResults)]atomic.Int64
	refused    atomic.Int64 // sessions that a rule refused before any transaction
	choices    []choice
	filters    atomic.Pointer[filterTable]
	rules      atomic.Pointer[ruleTable]

	mu sync.Mutex // held while rules or filters are replaced
}

// choice counts a fact by value.
type choice struct {
	rules.Choice
	counts []atomic.Int64 // by value
}

// filterCounts is what is counted of a filter.
type filterCounts struct {
	statuses [len(filterStatuses)]atomic.Int64
	duration histogram.Histogram
}

// filterTable is the filters by name, never written after it is published: those that there are, and as they come those
// that the configuration has several of.
type filterTable map[string]*filterCounts

// maxFilters bounds the names; a configuration has some.
const maxFilters = 1000

// filterStatuses are those of [policy.FilterRecord].
var filterStatuses = [...]string{"ok", "timeout", "error", "unfinished"}

// ruleCounts is what is counted of a rule.
type ruleCounts struct{ enforced, observed atomic.Int64 }

// ruleTable is the rules in force, and those that were before them: sessions finish on the old ones. It is never written
// after it is published.
type ruleTable struct {
	current map[string]*ruleCounts
	all     map[string]*ruleCounts
}

// recipientResults are how a RCPT can be answered, and by whom.
var recipientResults = [...]struct{ result, by string }{
	{"accepted", "backend"}, {"refused", "backend"}, {"deferred", "backend"},
	{"accepted", "gatepost"}, {"refused", "gatepost"}, {"deferred", "gatepost"},
}

// NewRecorder makes a recorder for the facts and filters that there are.
func NewRecorder(specs []filters.Spec) (*Recorder, error) {
	schema, err := rules.NewSchema(filters.Stages[:], int(filters.AtRcpt), policy.Groups(specs))
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	r, table := &Recorder{}, make(filterTable, len(specs))
	for _, c := range schema.Choices() {
		r.choices = append(r.choices, choice{c, make([]atomic.Int64, len(c.Values))})
	}
	for i := range specs {
		if !specs[i].Several {
			table[specs[i].Name] = &filterCounts{}
		}
	}
	r.filters.Store(&table)
	r.rules.Store(&ruleTable{})
	return r, nil
}

// Use counts these rules from now on. Those of a name that was known go on from their count; those that were there
// before are forgotten at the second change behind them.
func (r *Recorder) Use(set *rules.Set) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.rules.Load()
	next := &ruleTable{current: map[string]*ruleCounts{}, all: map[string]*ruleCounts{}}
	for name, counts := range old.current {
		next.all[name] = counts
	}
	for _, rule := range set.Rules() {
		counts := old.all[rule.Name]
		if known := next.current[rule.Name]; known != nil { // two rules of one name count as one
			counts = known
		}
		if counts == nil {
			counts = &ruleCounts{}
		}
		next.current[rule.Name], next.all[rule.Name] = counts, counts
	}
	r.rules.Store(next)
}

// Record implements [policy.Recorder].
func (r *Recorder) Record(rec *policy.Record) {
	transaction := rec.Kind == policy.TransactionRecord
	if transaction {
		r.verdicts[telemetry.VerdictOf(rec)].Add(1)
		for i := range rec.Recipients {
			r.recipient(&rec.Recipients[i])
		}
	} else if rec.Refused != nil {
		r.refused.Add(1)
	}
	// counts tells what the session's record does not repeat.
	counts := func(stage int) bool { return transaction == (stage >= int(filters.AtMail)) }
	for i := range r.choices {
		c := &r.choices[i]
		if !counts(c.Stage) {
			continue
		}
		if value := c.Of(rec.Facts); value >= 0 {
			c.counts[value].Add(1)
		}
	}
	for i := range rec.Filters {
		// Those that looked at a recipient are with the recipients.
		if f := &rec.Filters[i]; counts(int(f.Stage)) && f.Stage != filters.AtRcpt {
			r.filter(f)
		}
	}
	known := r.rules.Load().all
	for i := range rec.Matched {
		m := &rec.Matched[i]
		n := known[m.Rule.Name]
		switch {
		case n == nil || !counts(m.Rule.Stage):
		case m.Observed:
			n.observed.Add(1)
		default:
			n.enforced.Add(1)
		}
	}
}

func (r *Recorder) recipient(rcpt *policy.RecipientRecord) {
	for i := range rcpt.Filters {
		r.filter(&rcpt.Filters[i])
	}
	i := 0
	switch rcpt.Reply.Code / 100 {
	case 2:
	case 5:
		i = 1
	case 4:
		i = 2
	default: // it was never answered
		return
	}
	if rcpt.Ours {
		i += 3
	}
	r.recipients[i].Add(1)
}

// meet makes counters for a name that comes for the first time; nil: there are too many.
func (r *Recorder) meet(name string) *filterCounts {
	r.mu.Lock()
	defer r.mu.Unlock()
	table := *r.filters.Load()
	if n := table[name]; n != nil || len(table) >= maxFilters {
		return n
	}
	next := maps.Clone(table)
	next[name] = &filterCounts{}
	r.filters.Store(&next)
	return next[name]
}

func (r *Recorder) filter(f *policy.FilterRecord) {
	n := (*r.filters.Load())[f.Name]
	if n == nil {
		if n = r.meet(f.Name); n == nil {
			return
		}
	}
	for i, status := range filterStatuses {
		if status != f.Status {
			continue
		}
		n.statuses[i].Add(1)
		if i != len(filterStatuses)-1 {
			n.duration.Observe(f.Duration)
		}
	}
}
