package journal

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"gatepost/policy"
)

// Whatever a record holds is read back, in the order in which it was written, or from the end.
func TestRecordsAreReadBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		folder := t.TempDir()
		var records []*policy.Record
		for range rapid.IntRange(1, 5).Draw(rt, "records") {
			records = append(records, drawRecord(rt))
		}
		writeAll(t, testConfig(folder), records...)
		for _, newest := range []bool{false, true} {
			entries := readAll(t, folder, Query{Newest: newest})
			if newest {
				slices.Reverse(entries)
			}
			if len(entries) != len(records) {
				rt.Fatalf("wrote %d, read %d", len(records), len(entries))
			}
			for i := range records {
				for _, d := range differences(records[i], entries[i]) {
					rt.Error(d)
				}
			}
		}
	})
}
