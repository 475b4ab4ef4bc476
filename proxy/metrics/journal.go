package metrics

import "gatepost/proxy/journal"

// journalValue reads a number of the journal's. Without a journal there is none.
func journalValue(read func(m *journal.Metrics) int64) func(*moment, *out) {
	return func(m *moment, o *out) {
		if m.Journal != nil {
			o.value(float64(read(m.Journal)))
		}
	}
}

var journalFamilies = []family{
	{Metric{"gatepost_journal_records_total", Counter, nil, "Sessions and transactions taken up by the journal."},
		journalValue(func(m *journal.Metrics) int64 { return m.Records.Load() })},
	{Metric{"gatepost_journal_dropped_total", Counter, nil, "Entries lost because the disk did not take them in time; mail does not wait for it."},
		journalValue(func(m *journal.Metrics) int64 { return m.Dropped.Load() })},
	{Metric{"gatepost_journal_errors_total", Counter, nil, "Attempts to write, sync or remove that failed."},
		journalValue(func(m *journal.Metrics) int64 { return m.Errors.Load() })},
	{Metric{"gatepost_journal_mended_total", Counter, nil, "Files found at the start of which a part, or all, could not be read: cut off or set aside."},
		journalValue(func(m *journal.Metrics) int64 { return m.Mended.Load() })},
	{Metric{"gatepost_journal_blocks_total", Counter, nil, "Blocks written."},
		journalValue(func(m *journal.Metrics) int64 { return m.Blocks.Load() })},
	{Metric{"gatepost_journal_written_bytes_total", Counter, nil, "Bytes written."},
		journalValue(func(m *journal.Metrics) int64 { return m.Bytes.Load() })},
	{Metric{"gatepost_journal_removed_segments_total", Counter, nil, "Segments removed, for their age or for room."},
		journalValue(func(m *journal.Metrics) int64 { return m.Removed.Load() })},
	{Metric{"gatepost_journal_queued_bytes", Gauge, nil, "Entries in memory that are not written yet."},
		journalValue(func(m *journal.Metrics) int64 { return m.Queued.Load() })},
	{Metric{"gatepost_journal_segments", Gauge, nil, "Segments on disk."},
		journalValue(func(m *journal.Metrics) int64 { return m.Segments.Load() })},
	{Metric{"gatepost_journal_bytes", Gauge, nil, "What they take on disk."},
		journalValue(func(m *journal.Metrics) int64 { return m.Disk.Load() })},
}
