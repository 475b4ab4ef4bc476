package journal

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/rules"
)

var writeGolden = flag.Bool("write-golden", false, "write testdata/v1.journal anew; only before the first release of a version")

// goldenRecords have every field of version 1. They must never change: the file in testdata was written from them.
func goldenRecords() []*policy.Record {
	start := time.Date(2026, 11, 22, 7, 24, 44, 123456789, time.UTC)
	facts := testSchema.NewFacts()
	size, why := 4711, "listed"
	facts.Set(mailGroup, &mailFacts{Address: "alice@example.com", Local: "alice", Size: &size})
	list := &listFacts{Score: 4.5, Zones: []string{"zen.example.org", ""}, Result: "listed", Known: true, IP: client("192.0.2.7:0").Addr(), Why: &why, Delay: -3}
	facts.Set(listGroup, list)
	facts.Set(messageGroup, &messageFacts{Size: 22, Header: testHeader{"Subject": "hi"}})
	facts.SetScore(1.25)
	peer, local := client("[2001:db8::1]:33"), client("198.51.100.1:25")
	session := &filters.Session{ID: "38G29KFPR000V", Client: filters.ClientAt(client("192.0.2.7:4711")), Through: &peer, To: &local, Accepted: start}
	session.SetVerifiedName("mail.example.com")
	session.Trusted, session.Submission = true, true
	greeting := &filters.Greeting{Name: "mail.example.com", Extended: filters.Known(true), AuthUser: "anna", TLS: &filters.TLS{Version: "TLSv1.3", Cipher: "C", ServerName: "mx.example.org", PeerSubject: "CN=x"}}
	failed := testSchema.NewFacts()
	failed.Fail(listGroup)
	return []*policy.Record{
		{ID: "38G29KFPR000V.1", Kind: policy.TransactionRecord, Start: start, End: start.Add(time.Second), Session: session, Greeting: greeting,
			Envelope: &filters.Envelope{ID: "38G29KFPR000V.1", ReversePath: "alice@example.com", Params: []filters.Param{{Key: "SIZE", Value: "4711", HasValue: true}, {Key: "SMTPUTF8"}}, Size: 4711, UTF8: true, Started: start},
			Recipients: []policy.RecipientRecord{
				{Address: "bob@example.org", Params: []filters.Param{{Key: "NOTIFY", Value: "NEVER", HasValue: true}}, Reply: rules.Reply{Code: 250}, Asked: true, Score: 1},
				{Address: "eve@example.org", Reply: rules.Reply{Code: 550, Enhanced: "5.7.1", Text: "no\nreally"}, Ours: true, Action: rules.Reject, Rule: testRules[0], Score: 2,
					Filters: []policy.FilterRecord{{Name: "quota", Stage: filters.AtRcpt, Status: "ok", Duration: time.Millisecond, Facts: &rcptFacts{Full: true, Note: "n"}}}}},
			Facts: facts, Filters: []policy.FilterRecord{{Name: "dnsbl", Stage: filters.AtConnect, Status: "ok", Duration: 7 * time.Millisecond, Facts: list}, {Name: "spf", Stage: filters.AtMail, Status: "timeout", Error: "too slow", Duration: time.Second}},
			Matched: []policy.Match{{Rule: testRules[1], Observed: true}, {Rule: testRules[0], Recipient: "eve@example.org"}},
			Ending: policy.Ending{Reply: rules.Reply{Code: 451, Enhanced: "4.7.1", Text: "later"}, Ours: true, Backend: "127.0.0.1:10025", QueueID: "4Zq", Size: 22, Note: "n", Normalized: "bare LF: 1",
				Digest: [32]byte{1, 31: 255}, Suppressed: "38G29KFPP00XD.1"},
			Reached: policy.StepEnd, Refused: &policy.Decision{Action: rules.Greylist, Rule: testRules[1], Reply: rules.Reply{Code: 451, Enhanced: "4.7.1", Text: "later"}},
			Bypassed: policy.Bypassed{Greet: true, Transaction: true},
			Attempt:  &policy.Attempt{Recipient: 1, GreylistAttempt: filters.GreylistAttempt{State: filters.GreylistEarly, First: start.Add(-time.Hour)}, Failed: true},
			Headers:  []string{"Subject", "X-None"}, Settings: &policy.Settings{Greylist: 1<<64 - 1, RateLimit: 7}},
		{ID: "38G29KFPR000V", Kind: policy.SessionRecord, Start: start, End: start.Add(2 * time.Second), Session: session, Facts: failed,
			Ending: policy.Ending{Note: "quit"}, Reached: policy.StepHelo, Transactions: 1},
	}
}

// A file that the first release wrote is read by every later one, to the last value.
func TestVersion1IsReadForever(t *testing.T) {
	golden := filepath.Join("testdata", "v1.journal")
	if *writeGolden {
		folder := t.TempDir()
		path := writeBlocks(t, folder, goldenRecords())
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, segmentName(1, time.Now())), text, 0o640); err != nil {
		t.Fatal(err)
	}
	entries := readAll(t, folder, Query{})
	records := goldenRecords()
	if len(entries) != len(records) {
		t.Fatalf("%d entries, want %d", len(entries), len(records))
	}
	for i := range records {
		for _, d := range differences(records[i], entries[i]) {
			t.Error(d)
		}
	}
}

// A reader passes over what a later release has added: kinds of entries, fields, values at the end of a field, parts of a
// block. It is what makes an older release read a newer one's files.
func TestWhatIsNewIsPassedOver(t *testing.T) {
	records := goldenRecords()
	b := newBuilder(nil)
	start := b.begin() // an entry of another kind
	b.count(99)
	b.text("something new")
	b.end(start)
	b.span(records[0].Start, records[0].End)
	start = b.begin()
	b.content(records[0], "accept")
	b.field(77, func(b *builder) { b.text("a new field"); b.count(5) })
	b.end(start)
	b.span(records[0].Start, records[0].End)
	body := b.appendBody([]byte{88, 3, 'n', 'e', 'w'})
	k, err := parseBlock(body)
	if err != nil {
		t.Fatal(err)
	}
	var e Entry
	var kinds []int
	u := k.entries
	for range k.count {
		p := u.part()
		kind, _ := k.entry(&p, &e)
		kinds = append(kinds, kind)
	}
	if k.garbled || len(kinds) != 2 || kinds[0] != 99 || kinds[1] != transactionEntry {
		t.Fatalf("garbled %t, kinds %v", k.garbled, kinds)
	}
	for _, d := range differences(records[0], &e) {
		t.Error(d)
	}
}

// goldenChanges must never change: the file in testdata was written from them.
func goldenChanges() []Change {
	at := time.Date(2026, 11, 22, 7, 24, 44, 123456789, time.UTC)
	return []Change{{ID: "38G29KFPR000V", At: at, What: Block, By: "root", Kind: "client", About: "192.0.2.0/24", Until: at.Add(time.Hour), Why: "why", Note: "note"},
		{At: at.Add(time.Second), What: Start}}
}

// Changes that the release which brought them wrote are read by every later one.
func TestChangesAreReadForever(t *testing.T) {
	golden := filepath.Join("testdata", "v1-changes.journal")
	folder := t.TempDir()
	if *writeGolden {
		b := newBuilder(nil)
		b.change(&goldenChanges()[0], nil)
		b.change(&goldenChanges()[1], testRules)
		body := b.appendBody(nil)
		open, err := newSegment(osDisk{}, t.TempDir(), 1, time.Now(), body)
		if err == nil {
			err = open.append(b.appendHead(nil, len(body)), body, time.Now())
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(open.path)
		if err == nil {
			err = os.WriteFile(golden, text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, segmentName(1, time.Now())), text, 0o640); err != nil {
		t.Fatal(err)
	}
	entries := readAll(t, folder, Query{Changes: ChangesOnly})
	if len(entries) != 2 || len(entries[1].Change.Rules) != len(testRules) || entries[1].Change.Rules[2].When != testRules[2].When {
		t.Fatalf("%+v", entries)
	}
	for i, want := range goldenChanges() {
		got := *entries[i].Change
		if got.At.Equal(want.At) && got.Until.Equal(want.Until) {
			got.At, got.Until, got.Rules = want.At, want.Until, nil
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("wrote %+v, read %+v", want, got)
		}
	}
}
