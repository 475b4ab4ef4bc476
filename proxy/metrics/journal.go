package metrics

import "gatepost/proxy/journal"

// journalValue reads a number of the journal's, if one is kept.
func journalValue(read func(m *journal.Metrics) int64) func(*Sources, *out) {
	return func(s *Sources, o *out) {
		if s.Journal != nil {
			o.value(float64(read(s.Journal)))
		}
	}
}

var journalFamilies = []family{
	{Metric{"gatepost_journal_records_total", Counter, nil, "Sessions and transactions that the journal took up."},
		journalValue(func(m *journal.Metrics) int64 { return m.Records.Load() })},
	{Metric{"gatepost_journal_dropped_total", Counter, nil, "Entries that were lost because the disk did not take them in time (journal.queue)."},
		journalValue(func(m *journal.Metrics) int64 { return m.Dropped.Load() })},
	{Metric{"gatepost_journal_errors_total", Counter, nil, "Attempts to write, sync or remove a file of the journal that failed."},
		journalValue(func(m *journal.Metrics) int64 { return m.Errors.Load() })},
	{Metric{"gatepost_journal_blocks_total", Counter, nil, "Blocks written."},
		journalValue(func(m *journal.Metrics) int64 { return m.Blocks.Load() })},
	{Metric{"gatepost_journal_written_bytes_total", Counter, nil, "Bytes written."},
		journalValue(func(m *journal.Metrics) int64 { return m.Bytes.Load() })},
	{Metric{"gatepost_journal_removed_total", Counter, nil, "Files removed, for their age (journal.keep) or for room (journal.size)."},
		journalValue(func(m *journal.Metrics) int64 { return m.Removed.Load() })},
	{Metric{"gatepost_journal_pending_bytes", Gauge, nil, "Bytes of full blocks that wait for the disk (journal.queue bounds them)."},
		journalValue(func(m *journal.Metrics) int64 { return m.Queued.Load() })},
	{Metric{"gatepost_journal_bytes", Gauge, nil, "What the journal takes on disk (journal.size bounds it)."},
		journalValue(func(m *journal.Metrics) int64 { return m.Disk.Load() })},
}
