package journal

import (
	"testing"
	"time"

	"gatepost/filters"
)

// TestPrepare hides addresses from one entry to the next, and takes another bound of memory.
func TestPrepare(t *testing.T) {
	folder := t.TempDir()
	c := testConfig(folder)
	j, err := Open(c, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	records := someRecords(3)
	for _, r := range records {
		r.Envelope.ReversePath = "alice@example.com"
	}
	j.Record(records[0])
	keyed := c
	keyed.Addresses, keyed.Keep = Keyed, filters.Duration(2000*24*time.Hour)
	apply, err := j.Prepare(keyed)
	if err != nil {
		t.Fatal(err)
	}
	j.Record(records[1]) // not in force yet
	apply()
	j.Record(records[2])
	small := keyed
	small.Queue = 0 // nothing fits
	if apply, err = j.Prepare(small); err != nil {
		t.Fatal(err)
	}
	apply()
	j.Record(records[2])
	if n := j.metrics.Dropped.Load(); n != 1 {
		t.Errorf("%d entries were dropped", n)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	kept, err := Disguise(keyed, "alice@example.com")
	if err != nil {
		t.Fatal(err)
	}
	if clear, hidden := len(readAll(t, folder, Query{Address: "alice@example.com"})), len(readAll(t, folder, Query{Address: kept})); clear != 2 || hidden != 1 {
		t.Errorf("%d in clear and %d hidden", clear, hidden)
	}
	elsewhere := keyed
	elsewhere.Path = t.TempDir() + "/missing/folder"
	if _, err := j.Prepare(elsewhere); err == nil {
		t.Error("a key that cannot be made is good enough")
	}
}
