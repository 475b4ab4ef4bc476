package journal

import (
	"context"
	"reflect"
	"testing"

	"gatepost/policy"
	"gatepost/rules"
)

// What is played again from the journal is what would have been from the record.
func TestRecordingsAreThoseOfTheRecord(t *testing.T) {
	folder := t.TempDir()
	records := realRecords(t, 3)
	records[0].Refused = &policy.Decision{Action: rules.Drop, Rule: testRules[0], Reply: rules.Reply{Code: 550}}
	records[1].Recipients[0].Action, records[1].Recipients[0].Rule, records[1].Recipients[0].Ours = rules.Greylist, testRules[1], true
	records[2].Filters[3].Status, records[2].Filters[3].Facts = "timeout", nil
	writeAll(t, testConfig(folder), records...)
	reader, err := NewReader(folder, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	i := 0
	err = reader.Each(context.Background(), Query{}, func(e *Entry) bool {
		want, got := policy.RecordingOf(records[i]), e.Recording()
		i++
		if len(got.Looks) != len(want.Looks) || got.Message == nil || want.Message == nil || got.Message.Size != want.Message.Size {
			t.Fatalf("got %+v\nwant %+v", got, want)
		}
		for k := range got.Looks {
			g, w := &got.Looks[k], &want.Looks[k]
			if (g.Facts != nil) != (w.Facts != nil) {
				t.Errorf("%s: facts %v, want %v", g.Filter, g.Facts, w.Facts)
			}
			g.Facts, w.Facts = nil, nil
		}
		got.Message, want.Message = nil, nil
		got.Start, want.Start = got.Start.UTC(), want.Start.UTC()
		got.Session, got.Envelope, want.Session, want.Envelope = nil, nil, nil, nil
		if got.Refused != nil {
			got.Refused.Reply, want.Refused.Reply = rules.Reply{}, rules.Reply{}
		}
		for k := range got.Recipients {
			got.Recipients[k].Looks, want.Recipients[k].Looks = nil, nil
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
		return true
	})
	if err != nil || i != len(records) {
		t.Fatal(i, err)
	}
}

func TestDisguiseIsRecognized(t *testing.T) {
	keyed, cut := newDisguise(Keyed, make([]byte, keyBytes)), newDisguise(Cut, nil)
	for _, address := range []string{"joe@example.org", "a.very.long.name@example.org", "joe"} {
		if IsDisguise(address) || !IsDisguise(keyed.address(address)) || !IsDisguise(cut.address(address)) {
			t.Errorf("%s: %s %s", address, keyed.address(address), cut.address(address))
		}
	}
	for _, address := range []string{"", "postmaster@example.org", "Abuse@example.org"} {
		if IsDisguise(keyed.address(address)) || IsDisguise(cut.address(address)) {
			t.Errorf("%s", address)
		}
	}
}
