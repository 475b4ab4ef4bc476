package metrics

import asked "gatepost/filters/milter"

// The milters that Gatepost asks, as a filter. Not to be taken for the front end that MTAs call.
var askedFamilies = []family{
	{Metric{"gatepost_filter_milter_paused", Gauge, labelled("milter"), "1 while a milter is not asked, because it has failed again and again (`failures`, `pause`), until it answers again."},
		eachAsked(func(o *out, s *asked.State) { o.value(flag(s.Paused), s.Name) })},
	{Metric{"gatepost_filter_milter_pauses_total", Counter, labelled("milter"), "Times that this has begun."},
		eachAsked(func(o *out, s *asked.State) { o.value(float64(s.Pauses), s.Name) })},
	{Metric{"gatepost_filter_milter_connections", Gauge, labelled("milter", "state"), "Connections to a milter now: used (a message is on them), idle (kept for further ones)."},
		eachAsked(func(o *out, s *asked.State) {
			o.value(float64(s.InUse), s.Name, "used")
			o.value(float64(s.Idle), s.Name, "idle")
		})},
	{Metric{"gatepost_filter_milter_messages_total", Counter, labelled("milter", "connection"), "Messages shown to a milter, by their connection: new, kept (from an earlier message of the " +
		"same client's connection), handed_on (another client had it before)."},
		eachAsked(func(o *out, s *asked.State) {
			o.value(float64(s.Opened), s.Name, "new")
			o.value(float64(s.Kept), s.Name, "kept")
			o.value(float64(s.HandedOn), s.Name, "handed_on")
		})},
}

func eachAsked(read func(*out, *asked.State)) func(*moment, *out) {
	return func(s *moment, o *out) {
		if s.Asked == nil {
			return
		}
		for _, state := range s.Asked() {
			read(o, &state)
		}
	}
}
