package metrics

import "gatepost/proxy/called"

// The front ends that MTAs call share families, told apart by the label: milter, policy_server. A front end that is not
// there has no numbers.
var calledFamilies = []family{
	{Metric{"gatepost_mta_connections_open", Gauge, labelled("front"), "Connections of MTAs now, by the front end that they call: milter, or policy_server."},
		calling(func(o *out, front string, m *called.Metrics) { o.value(float64(m.Open.Load()), front) })},
	{Metric{"gatepost_mta_connections_total", Counter, labelled("front"), "Connections of MTAs that were served."},
		calling(func(o *out, front string, m *called.Metrics) { o.value(float64(m.Sessions.Load()), front) })},
	{Metric{"gatepost_mta_connections_refused_total", Counter, labelled("front", "reason"), "Connections of MTAs turned away: full (limits.connections), " +
		"peers (from a network that is not in peers), accept (could not be accepted; mostly the limit of open files is too low)."},
		calling(func(o *out, front string, m *called.Metrics) {
			o.value(float64(m.RefusedFull.Load()), front, "full")
			o.value(float64(m.RefusedPeers.Load()), front, "peers")
			o.value(float64(m.AcceptErrors.Load()), front, "accept")
		})},
	{Metric{"gatepost_mta_connections_cut_total", Counter, labelled("front", "reason"), "Connections of MTAs that Gatepost ended: violation (what came was not " +
		"the protocol), timeout (the MTA was silent), panic (a mistake of ours; please report it)."},
		calling(func(o *out, front string, m *called.Metrics) {
			o.value(float64(m.Violations.Load()), front, "violation")
			o.value(float64(m.Timeouts.Load()), front, "timeout")
			o.value(float64(m.Panics.Load()), front, "panic")
		})},
	{Metric{"gatepost_milter_messages_total", Counter, labelled("result"), "Messages that an MTA showed to the milter to their end: accepted (left to the MTA), " +
		"refused (5yz), deferred (4yz), discarded (a rule had the MTA throw it away), quarantined (a rule had the MTA hold it)."},
		func(s *moment, o *out) {
			if m := s.Milter; m != nil {
				o.value(float64(m.Accepted.Load()), "accepted")
				o.value(float64(m.Refused.Load()), "refused")
				o.value(float64(m.Deferred.Load()), "deferred")
				o.value(float64(m.Discarded.Load()), "discarded")
				o.value(float64(m.Held.Load()), "quarantined")
			}
		}},
	{Metric{"gatepost_milter_message_bytes_total", Counter, nil, "Bytes of messages that MTAs showed to the milter."},
		byMilter(func(s *Sources) int64 { return s.Milter.Bytes.Load() })},
	{Metric{"gatepost_milter_skipped_bodies_total", Counter, nil, "Messages whose body the milter did not read, for nothing needs it."},
		byMilter(func(s *Sources) int64 { return s.Milter.Skipped.Load() })},
	{Metric{"gatepost_milter_spilled_messages_total", Counter, nil, "Messages at the milter of which a part went to disk."},
		byMilter(func(s *Sources) int64 { return s.Milter.Spilled.Load() })},
	{Metric{"gatepost_milter_spill_full_total", Counter, nil, "Messages at the milter refused with 452 because that disk was used up."},
		byMilter(func(s *Sources) int64 { return s.Milter.SpillFull.Load() })},
	{Metric{"gatepost_policy_server_answers_total", Counter, labelled("result"), "Requests of Postfix, by what was answered: passed (DUNNO, PREPEND), refused (5yz), " +
		"deferred (4yz, DEFER_IF_PERMIT), discarded (DISCARD), quarantined (HOLD)."},
		func(s *moment, o *out) {
			if m := s.PolicyServer; m != nil {
				o.value(float64(m.Passed.Load()), "passed")
				o.value(float64(m.Refused.Load()), "refused")
				o.value(float64(m.Deferred.Load()), "deferred")
				o.value(float64(m.Discarded.Load()), "discarded")
				o.value(float64(m.Held.Load()), "quarantined")
			}
		}},
}

// calling reads what all front ends count that MTAs call.
func calling(read func(o *out, front string, m *called.Metrics)) func(*moment, *out) {
	return func(s *moment, o *out) {
		if s.Milter != nil {
			read(o, "milter", &s.Milter.Metrics)
		}
		if s.PolicyServer != nil {
			read(o, "policy_server", &s.PolicyServer.Metrics)
		}
	}
}

// byMilter reads one number of the milter.
func byMilter(read func(s *Sources) int64) func(*moment, *out) {
	return func(s *moment, o *out) {
		if s.Milter != nil {
			o.value(float64(read(s.Sources)))
		}
	}
}
