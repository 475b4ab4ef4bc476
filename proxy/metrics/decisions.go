package metrics

import (
	"maps"
	"slices"

	"gatepost/proxy/telemetry"
)

var decisionFamilies = []family{
	{Metric{"gatepost_transactions_total", Counter, labelled("verdict"), "Mail transactions by how they ended: accept, reject, defer, what a rule did instead of delivering (discard, " +
		"quarantine), duplicate (delivered before), abandon where the client left or gave up, or drop where a rule closed the connection without a reply."},
		func(s *moment, o *out) {
			for i, name := range telemetry.Verdicts {
				o.value(float64(s.Recorder.verdicts[i].Load()), name)
			}
		}},
	{Metric{"gatepost_recipients_total", Counter, labelled("result", "by"), "RCPT commands by their answer: accepted, refused (5yz), deferred (4yz), by Gatepost or by the backend."},
		func(s *moment, o *out) {
			for i, r := range recipientResults {
				o.value(float64(s.Recorder.recipients[i].Load()), r.result, r.by)
			}
		}},
	{Metric{"gatepost_rule_matches_total", Counter, labelled("rule", "mode"), "Times that a rule's condition was true, once for each session, transaction or recipient that it was " +
		"asked about: enforced, or observed (mode: observe, or during a bypass)."},
		func(s *moment, o *out) {
			known := s.Recorder.rules.Load().current
			for _, name := range slices.Sorted(maps.Keys(known)) {
				o.value(float64(known[name].enforced.Load()), name, "enforced")
				o.value(float64(known[name].observed.Load()), name, "observed")
			}
		}},
	{Metric{"gatepost_facts_total", Counter, labelled("fact", "value"), "Facts with few possible values, by value: those known at connect and EHLO once for each session, others " +
		"once for each transaction. A fact that was absent is not counted."},
		func(s *moment, o *out) {
			for i := range s.Recorder.choices {
				c := &s.Recorder.choices[i]
				for k, value := range c.Values {
					o.value(float64(c.counts[k].Load()), c.Name, value)
				}
			}
		}},
	{Metric{"gatepost_filter_observations_total", Counter, labelled("filter", "status"), "What filters were asked: ok, timeout, error, unfinished (no rule needed it, so it was not waited for)."},
		func(s *moment, o *out) {
			table := *s.Recorder.filters.Load()
			for _, name := range slices.Sorted(maps.Keys(table)) {
				for i, status := range filterStatuses {
					o.value(float64(table[name].statuses[i].Load()), name, status)
				}
			}
		}},
	{Metric{"gatepost_filter_duration_seconds", Histogram, labelled("filter"), "How long filters took, unfinished observations left out."},
		func(s *moment, o *out) {
			table := *s.Recorder.filters.Load()
			for _, name := range slices.Sorted(maps.Keys(table)) {
				o.histogram(table[name].duration.Read(), name)
			}
		}},
}
