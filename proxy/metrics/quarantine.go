package metrics

import "gatepost/proxy/quarantine"

// quarantineCount reads what the quarantine counts, and quarantineNow what is there. Without a quarantine there is none.
func quarantineCount(read func(m *quarantine.Metrics) int64) func(*moment, *out) {
	return func(m *moment, o *out) {
		if m.Quarantine != nil {
			o.value(float64(read(m.Quarantine.Metrics())))
		}
	}
}

func quarantineNow(read func(s quarantine.Stats) int64) func(*moment, *out) {
	return func(m *moment, o *out) {
		if m.Quarantine != nil {
			o.value(float64(read(m.Quarantine.Stats())))
		}
	}
}

var quarantineFamilies = []family{
	{Metric{"gatepost_quarantine_messages", Gauge, nil, "Messages in quarantine, copies included."},
		quarantineNow(func(s quarantine.Stats) int64 { return int64(s.Messages) })},
	{Metric{"gatepost_quarantine_bytes", Gauge, nil, "What they take on disk."},
		quarantineNow(func(s quarantine.Stats) int64 { return s.Bytes })},
	{Metric{"gatepost_quarantine_limit_bytes", Gauge, nil, "What they may take (quarantine.size); behind it, messages are answered 452."},
		quarantineNow(func(s quarantine.Stats) int64 { return s.Limit })},
	{Metric{"gatepost_quarantine_expiring_messages", Gauge, nil, "Messages that are going to be removed soon (quarantine.warn), because their time is up."},
		quarantineNow(func(s quarantine.Stats) int64 { return int64(s.Expiring) })},
	{Metric{"gatepost_quarantine_kept_total", Counter, nil, "Messages kept in place of a delivery, behind a 250 of ours."},
		quarantineCount(func(m *quarantine.Metrics) int64 { return m.Kept.Load() })},
	{Metric{"gatepost_quarantine_copies_total", Counter, nil, "Copies kept of messages that were refused (keep: copy)."},
		quarantineCount(func(m *quarantine.Metrics) int64 { return m.Copies.Load() })},
	{Metric{"gatepost_quarantine_full_total", Counter, nil, "Messages and copies for which there was no room."},
		quarantineCount(func(m *quarantine.Metrics) int64 { return m.Full.Load() })},
	{Metric{"gatepost_quarantine_errors_total", Counter, nil, "Attempts to write, sync or remove that failed, and messages that were found damaged."},
		quarantineCount(func(m *quarantine.Metrics) int64 { return m.Errors.Load() })},
	{Metric{"gatepost_quarantine_released_total", Counter, nil, "Messages released to all their recipients."},
		quarantineCount(func(m *quarantine.Metrics) int64 { return m.Released.Load() })},
	{Metric{"gatepost_quarantine_deleted_total", Counter, nil, "Messages deleted by an operator."},
		quarantineCount(func(m *quarantine.Metrics) int64 { return m.Deleted.Load() })},
	{Metric{"gatepost_quarantine_expired_total", Counter, nil, "Messages removed because their time was up."},
		quarantineCount(func(m *quarantine.Metrics) int64 { return m.Expired.Load() })},
}
