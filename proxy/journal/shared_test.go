package journal

import (
	"encoding/json"
	"testing"

	"gatepost/policy"
)

// Records that refer to the same facts, as those of a session and its transactions do, are read as if each were alone in
// its block: also where addresses are hidden, and a word is one of them in one record and not in the other.
func TestRecordsShareFacts(t *testing.T) {
	var records []*policy.Record
	for i, r := range realRecords(t, 60) {
		later := *r
		later.ID = r.Session.ID + ".2"
		envelope := *r.Envelope
		envelope.ReversePath = "pass@example.net" // a word that stands in facts
		later.Envelope = &envelope
		records = append(records, r, &later)
		if i%4 == 3 { // of several sessions at once
			for k := range 4 {
				records = append(records, sessionOfRecord(records[len(records)-2-3*k]))
			}
		}
	}
	for _, mode := range []Addresses{Clear, Keyed, Cut} {
		together := newBuilder(newDisguise(mode, make([]byte, keyBytes)))
		for _, r := range records {
			together.record(r, "accept")
		}
		got := storiesIn(t, together)
		if len(got) != len(records) {
			t.Fatalf("%s: %d of %d records are read", mode, len(got), len(records))
		}
		alone := newBuilder(newDisguise(mode, make([]byte, keyBytes)))
		for i, r := range records {
			alone.reset()
			alone.record(r, "accept")
			if want := storiesIn(t, alone); got[i] != want[0] {
				t.Fatalf("%s, %s: together\n%s\nalone\n%s", mode, r.ID, got[i], want[0])
			}
		}
	}
}

// storiesIn is what a reader makes of a block.
func storiesIn(t *testing.T, b *builder) (stories []string) {
	t.Helper()
	k, err := parseBlock(b.appendBody(nil))
	if err != nil {
		t.Fatal(err)
	}
	u := k.entries
	for range k.count {
		var e Entry
		p := u.part()
		if k.entry(&p, &e); k.garbled {
			t.Fatalf("entry %d is garbled", len(stories))
		}
		story, err := json.Marshal(NewEntryJSON(&e))
		if err != nil {
			t.Fatal(err)
		}
		stories = append(stories, string(story))
	}
	return stories
}

// A record costs its session no garbage, once a block was as full.
func TestRecordsAllocateNothing(t *testing.T) {
	records := realRecords(t, 64)
	b := newBuilder(nil)
	pack := func() {
		b.reset()
		for _, r := range records {
			b.record(r, "accept")
		}
	}
	pack()
	if allocs := testing.AllocsPerRun(20, pack); allocs > 0 {
		t.Errorf("%g allocations for %d records", allocs, len(records))
	}
}
