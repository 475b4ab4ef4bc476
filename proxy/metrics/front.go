package metrics

import (
	"runtime"
	"time"
)

var buildFamilies = []family{
	{Metric{"gatepost_build_info", Gauge, labelled("version", "goversion"), "Always 1; the labels tell what runs."},
		func(s *moment, o *out) { o.value(1, s.Version, runtime.Version()) }},
	{Metric{"gatepost_config_last_reload_successful", Gauge, nil, "1 if the latest configuration file was good, 0 if it was refused and the one before is in force."},
		func(s *moment, o *out) { o.value(flag(!s.Reloads.refused.Load())) }},
	{Metric{"gatepost_config_last_reload_success_timestamp_seconds", Gauge, nil, "When the configuration in force was read."},
		func(s *moment, o *out) { o.value(seconds(time.Unix(0, s.Reloads.last.Load()))) }},
	{Metric{"gatepost_config_reloads_total", Counter, labelled("result"), "Configuration files read, the first one included: success, or refused."},
		func(s *moment, o *out) {
			o.value(float64(s.Reloads.succeeded.Load()), "success")
			o.value(float64(s.Reloads.failed.Load()), "refused")
		}},
	{Metric{"gatepost_bypass_until_timestamp_seconds", Gauge, nil, "Until when rules are only watched (`gatepost bypass`); 0 or in the past: they are enforced."},
		func(s *moment, o *out) { o.value(seconds(s.Bypass.Until())) }},
}

var sessionFamilies = []family{
	{Metric{"gatepost_sessions_open", Gauge, nil, "Sessions with clients now."},
		single(func(s *Sources) int64 { return s.Front.Metrics().Open.Load() })},
	{Metric{"gatepost_sessions_total", Counter, nil, "Sessions begun, also those turned away for another reason than limits.connections."},
		single(func(s *Sources) int64 { return s.Front.Metrics().Sessions.Load() })},
	{Metric{"gatepost_sessions_refused_total", Counter, labelled("reason"), "Connections turned away: full (limits.connections), per_client " +
		"(limits.connections_per_client), no_backend (none was ever reached); and sessions that a rule refused before any transaction: rule."},
		func(s *moment, o *out) {
			m := s.Front.Metrics()
			o.value(float64(m.RefusedFull.Load()), "full")
			o.value(float64(m.RefusedPerClient.Load()), "per_client")
			o.value(float64(m.RefusedNoBackend.Load()), "no_backend")
			o.value(float64(s.Recorder.refused.Load()), "rule")
		}},
	{Metric{"gatepost_sessions_cut_total", Counter, labelled("reason"), "Sessions that Gatepost ended: commands (limits.commands), errors (limits.errors), " +
		"abandoned (limits.abandoned), slow (limits.min_data_rate), timeout (the client was silent), panic (a mistake of ours; please report it)."},
		func(s *moment, o *out) {
			m := s.Front.Metrics()
			o.value(float64(m.LimitCommands.Load()), "commands")
			o.value(float64(m.LimitErrors.Load()), "errors")
			o.value(float64(m.LimitAbandoned.Load()), "abandoned")
			o.value(float64(m.TooSlow.Load()), "slow")
			o.value(float64(m.Timeouts.Load()), "timeout")
			o.value(float64(m.Panics.Load()), "panic")
		}},
	{Metric{"gatepost_accept_errors_total", Counter, nil, "Connections that could not be accepted; mostly the limit of open files is too low."},
		single(func(s *Sources) int64 { return s.Front.Metrics().AcceptErrors.Load() })},
	{Metric{"gatepost_listeners", Gauge, nil, "Sockets on which clients are served."},
		single(func(s *Sources) int { return s.Front.Gauges().Listeners })},
	{Metric{"gatepost_tls_handshakes_total", Counter, nil, "TLS handshakes with clients that succeeded."},
		single(func(s *Sources) int64 { return s.Front.Metrics().TLS.Load() })},
	{Metric{"gatepost_clock_steps_total", Counter, nil, "Times that the machine's clock was set by five seconds or more."},
		single(func(s *Sources) int64 { return s.Front.Metrics().ClockSteps.Load() })},
	{Metric{"gatepost_auth_failures_total", Counter, nil, "AUTH commands that the backend refused."},
		single(func(s *Sources) int64 { return s.Front.Metrics().AuthFailures.Load() })},
}

var messageFamilies = []family{
	{Metric{"gatepost_messages_total", Counter, labelled("result"), "Messages that came to their end: accepted (the backend took it), refused (5yz) and deferred " +
		"(4yz) by Gatepost or the backend, discarded (a rule threw it away behind a 250), quarantined (a rule kept it behind a 250), suppressed (a duplicate, answered 250 " +
		"without a second delivery)."},
		func(s *moment, o *out) {
			m := s.Front.Metrics()
			o.value(float64(m.Accepted.Load()), "accepted")
			o.value(float64(m.Refused.Load()), "refused")
			o.value(float64(m.Deferred.Load()), "deferred")
			o.value(float64(m.Discarded.Load()), "discarded")
			o.value(float64(m.Kept.Load()), "quarantined")
			o.value(float64(m.Suppressed.Load()), "suppressed")
		}},
	{Metric{"gatepost_message_bytes_total", Counter, nil, "Bytes of messages received."},
		single(func(s *Sources) int64 { return s.Front.Metrics().Bytes.Load() })},
	{Metric{"gatepost_message_memory_bytes", Gauge, nil, "Memory claimed for messages on their way (limits.memory bounds it)."},
		single(func(s *Sources) int64 { return s.Front.Gauges().Memory })},
	{Metric{"gatepost_spill_used_bytes", Gauge, nil, "Disk claimed for messages too large for memory."},
		single(func(s *Sources) int64 { return s.Spill.Used() })},
	{Metric{"gatepost_spill_limit_bytes", Gauge, nil, "Disk that may be claimed for them."},
		single(func(s *Sources) int64 { return s.Spill.Total() })},
	{Metric{"gatepost_spilled_messages_total", Counter, nil, "Messages of which a part went to disk."},
		single(func(s *Sources) int64 { return s.Front.Metrics().Spilled.Load() })},
	{Metric{"gatepost_spill_full_total", Counter, nil, "Messages refused with 452 because that disk was used up."},
		single(func(s *Sources) int64 { return s.Front.Metrics().SpillFull.Load() })},
	{Metric{"gatepost_spill_errors_total", Counter, nil, "Messages put off because their file could not be made, written or read back."},
		single(func(s *Sources) int64 { return s.Front.Metrics().SpillErrors.Load() })},
	{Metric{"gatepost_transaction_replays_total", Counter, nil, "Transactions said again to a backend, because its session was released or lost."},
		single(func(s *Sources) int64 { return s.Front.Metrics().Replays.Load() })},
	{Metric{"gatepost_backend_unavailable_total", Counter, nil, "Transactions for which no backend could be had."},
		single(func(s *Sources) int64 { return s.Front.Metrics().DialErrors.Load() })},
	{Metric{"gatepost_lost_after_data_total", Counter, nil, "Messages whose backend fell silent after the end of the message; they may come twice."},
		single(func(s *Sources) int64 { return s.Front.Metrics().LostAfter.Load() })},
	{Metric{"gatepost_unconfirmed_deliveries_total", Counter, nil, "Deliveries whose client left without a sign that it has read the reply; they may come twice."},
		single(func(s *Sources) int64 { return s.Front.Metrics().Unconfirmed.Load() })},
	{Metric{"gatepost_duplicate_store_errors_total", Counter, nil, "Times that the store could not be asked about duplicates, or told of a delivery (duplicates: suppress)."},
		single(func(s *Sources) int64 { return s.Front.Metrics().StoreErrors.Load() })},
}
