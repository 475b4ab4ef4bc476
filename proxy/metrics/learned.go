package metrics

import "gatepost/filters"

// learnedCount reads a number of each memory's.
func learnedCount(read func(s *filters.MemoryStats) int64) func(*moment, *out) {
	return func(m *moment, o *out) {
		if m.Memories == nil {
			return
		}
		for _, memory := range m.Memories() {
			stats := memory.Stats()
			o.value(float64(read(&stats)), memory.Kind().Name)
		}
	}
}

var learnedFamilies = []family{
	{Metric{"gatepost_learned_noted_total", Counter, labelled("memory"), "Things seen that were worth noting, by memory (known, correspondents, pools…)."},
		learnedCount(func(s *filters.MemoryStats) int64 { return s.Noted })},
	{Metric{"gatepost_learned_written_total", Counter, labelled("memory"), "Marks given to the store; several notes of one thing may be one."},
		learnedCount(func(s *filters.MemoryStats) int64 { return s.Written })},
	{Metric{"gatepost_learned_dropped_total", Counter, labelled("memory"), "Notes lost: there was no room for them, or the store did not take them."},
		learnedCount(func(s *filters.MemoryStats) int64 { return s.Dropped })},
	{Metric{"gatepost_learned_refused_total", Counter, labelled("memory"), "Things not learned, to keep a bound of the configuration."},
		learnedCount(func(s *filters.MemoryStats) int64 { return s.Refused })},
	{Metric{"gatepost_learned_pending", Gauge, labelled("memory"), "Things that wait to be written."},
		learnedCount(func(s *filters.MemoryStats) int64 { return s.Pending })},
}
