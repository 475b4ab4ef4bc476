package metrics

import "gatepost/proxy/store/shared"

// sharedCount reads a number of the shared store's; without one there is no value.
func sharedCount(read func(st *shared.Stats) float64) func(*moment, *out) {
	return func(m *moment, o *out) {
		if m.Shared != nil {
			o.value(read(&m.shared))
		}
	}
}

const sharedHelp = " Only with store.redis."

var sharedFamilies = []family{
	{Metric{"gatepost_shared_store_up", Gauge, nil, "1 while the shared store is used, 0 while this proxy decides by its own memory." + sharedHelp},
		sharedCount(func(st *shared.Stats) float64 { return flag(st.Since.IsZero()) })},
	{Metric{"gatepost_shared_store_outages_total", Counter, nil, "How often the shared store could not be used." + sharedHelp},
		sharedCount(func(st *shared.Stats) float64 { return float64(st.Outages) })},
	{Metric{"gatepost_shared_store_decisions_total", Counter, labelled("by"), "Decisions by the shared store (shared), and by this proxy's own memory instead (local)." + sharedHelp},
		func(m *moment, o *out) {
			if m.Shared != nil {
				o.value(float64(m.shared.Decided), "shared")
				o.value(float64(m.shared.Fallbacks), "local")
			}
		}},
	{Metric{"gatepost_shared_store_round_trips_total", Counter, nil, "Requests sent to the shared store." + sharedHelp},
		sharedCount(func(st *shared.Stats) float64 { return float64(st.Trips) })},
	{Metric{"gatepost_shared_store_cached_total", Counter, nil, "Look-ups of known passes that needed no request." + sharedHelp},
		sharedCount(func(st *shared.Stats) float64 { return float64(st.Cached) })},
	{Metric{"gatepost_shared_store_merged_total", Counter, nil, "Marks given to the shared store after it could not be used." + sharedHelp},
		sharedCount(func(st *shared.Stats) float64 { return float64(st.Merged) })},
	{Metric{"gatepost_shared_store_unlearned_total", Counter, nil, "Decisions that this proxy's own memory was too slow to be told of: in an outage their senders are new here." + sharedHelp},
		sharedCount(func(st *shared.Stats) float64 { return float64(st.Unlearned) })},
	{Metric{"gatepost_shared_store_untold", Gauge, nil, "Networks and domains with messages that the shared store was not told of yet." + sharedHelp},
		sharedCount(func(st *shared.Stats) float64 { return float64(st.Waiting) })},
	{Metric{"gatepost_shared_store_duration_seconds", Histogram, nil, "Until the shared store answered a decision, or was given up." + sharedHelp},
		func(m *moment, o *out) {
			if m.Shared != nil {
				o.histogram(m.shared.Latency)
			}
		}},
}
