package journal

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/all"
	"gatepost/filters/filtertest"
	"gatepost/policy"
	"gatepost/rules"
)

// changed is a journal with mail and changes between it.
func changed(t *testing.T, c Config, changes ...Change) {
	t.Helper()
	j, err := Open(c, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range someRecords(3) {
		j.Record(r)
	}
	j.InForce(Change{What: Start}, testRules)
	for _, one := range changes {
		j.Changed(one)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAChangeIsReadAsItWasWritten(t *testing.T) {
	folder := t.TempDir()
	at := time.Date(2026, 11, 22, 7, 0, 0, 5, time.UTC)
	want := Change{ID: newID(at), At: at, What: Block, By: "root", Kind: "client", About: "192.0.2.0/24", Until: at.Add(time.Hour), Why: "näher", Note: "n"}
	changed(t, testConfig(folder), want)
	all := readAll(t, folder, Query{Changes: ChangesOnly})
	if len(all) != 2 || all[0].Kind != ChangeEntry || all[0].Session != nil || all[0].Verdict != "" {
		t.Fatalf("%+v", all)
	}
	if c := all[0].Change; c.What != Start || len(c.Rules) != len(testRules) || c.Rules[1].When != testRules[1].When || c.Rules[1].Place() != "/etc/gatepost/gatepost.yaml:2" {
		t.Errorf("%+v", c)
	}
	got := *all[1].Change
	if !got.At.Equal(want.At) || !got.Until.Equal(want.Until) {
		t.Errorf("%+v", got)
	}
	got.At, got.Until = want.At, want.Until
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	if text := all[1].Change.Text(func(time.Time) string { return "then" }); text != "the client 192.0.2.0/24 was blocked by root until then, because: näher (n)" {
		t.Error(text)
	}
}

func TestMailAloneIsReadUnlessChangesAreAskedFor(t *testing.T) {
	folder := t.TempDir()
	changed(t, testConfig(folder), Change{What: Bypass})
	for wanted, n := range map[Wanted]int{MailOnly: 3, MailAndChanges: 5, ChangesOnly: 2} {
		for _, newest := range []bool{false, true} {
			if got := readAll(t, folder, Query{Changes: wanted, Newest: newest, Confirmations: true}); len(got) != n {
				t.Errorf("%d: %d entries, want %d", wanted, len(got), n)
			}
		}
	}
}

// What a query is for finds the changes that concern it, whatever form they name it in.
func TestChangesAreFoundByWhatTheyConcern(t *testing.T) {
	folder := t.TempDir()
	message := newID(time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)) + ".1"
	abouts := []string{"203.0.113.7", "203.0.113.0/24", "joe@example.net", "example.net", ".net", "203.0.113.7 ann@example.org", message, "2001:db8::/32", "net", ""}
	changes := make([]Change, len(abouts))
	for i := range abouts {
		changes[i] = Change{ID: newID(time.UnixMilli(int64(1_700_000_000_000 + i))), What: Allow, About: abouts[i]}
	}
	changed(t, testConfig(folder), changes...)
	for _, c := range []struct {
		query Query
		want  []string
	}{
		{Query{Client: netip.MustParseAddr("203.0.113.7")}, []string{abouts[0], abouts[1], abouts[5]}},
		{Query{Client: netip.MustParseAddr("203.0.113.8")}, []string{abouts[1]}},
		{Query{Client: netip.MustParseAddr("2001:db8::8")}, []string{abouts[7]}},
		{Query{Address: "Joe@example.net"}, []string{abouts[2], abouts[3], abouts[4]}},
		{Query{Address: "ann@example.org"}, []string{abouts[5]}},
		{Query{ID: message}, []string{message}},
		{Query{ID: message[:idLength]}, []string{message}},
		{Query{ID: changes[3].ID}, []string{abouts[3]}},
	} {
		c.query.Changes = ChangesOnly
		var got []string
		for _, e := range readAll(t, folder, c.query) {
			got = append(got, e.Change.About)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.query, got, c.want)
		}
	}
}

func TestAChangeHidesLocalPartsAsMailDoes(t *testing.T) {
	folder := t.TempDir()
	c := testConfig(folder)
	c.Addresses = Keyed
	changed(t, c, Change{What: Pass, About: "192.0.2.7 joe@example.net", Why: "joe called"})
	kept, err := Disguise(c, "joe@example.net")
	if err != nil {
		t.Fatal(err)
	}
	all := readAll(t, folder, Query{Changes: ChangesOnly, Address: kept})
	if len(all) != 1 || all[0].Change.About != "192.0.2.7 "+kept || all[0].Change.Why == "joe called" {
		t.Fatalf("%+v", all)
	}
}

func TestChangesConcernEntries(t *testing.T) {
	start := time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC)
	e := &Entry{ID: "X.1", Start: start, End: start.Add(time.Second), Session: &filters.Session{Client: filters.ClientAt(client("192.0.2.7:25"))},
		Envelope: &filters.Envelope{ReversePath: "joe@example.net"}, Recipients: []Recipient{{Address: "ann@example.org"}}, Bypassed: policy.Bypassed{Transaction: true}}
	for _, c := range []struct {
		change Change
		want   bool
	}{
		{Change{About: "192.0.2.7"}, true}, {Change{Kind: "sender", About: "example.net"}, true}, {Change{Kind: "recipient", About: "example.net"}, false},
		{Change{Kind: "recipient", About: "ann@example.org"}, true}, {Change{Kind: "sender", About: "ann@example.org"}, false}, {Change{About: "X.1"}, true}, {Change{About: "X.2"}, false},
		{Change{What: Bypass, At: start.Add(-time.Hour), Until: start.Add(time.Hour)}, true}, {Change{What: Bypass, At: start.Add(-time.Hour), Until: start}, false},
		{Change{What: Start}, false},
	} {
		if got := c.change.ConcernsEntry(e); got != c.want {
			t.Errorf("%+v: %t", c.change, got)
		}
	}
}

// Old entries are removed; the rules in force are told again before they are.
func TestRulesInForceAreRepeatedEveryDay(t *testing.T) {
	folder := t.TempDir()
	clock := filtertest.NewClock()
	j, err := Open(testConfig(folder), Options{Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	j.InForce(Change{What: Start}, testRules)
	j.repeatRules(clock.Now())
	clock.Advance(repeatInterval)
	j.repeatRules(clock.Now())
	j.repeatRules(clock.Now())
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range readAll(t, folder, Query{Changes: ChangesOnly}) {
		got = append(got, e.Change.What)
		if len(e.Change.Rules) != len(testRules) {
			t.Error("without its rules")
		}
	}
	if !slices.Equal(got, []string{Start, Rules}) {
		t.Error(got)
	}
}

func TestChangesAreSearched(t *testing.T) {
	schema, err := SearchSchema(all.Specs())
	if err != nil {
		t.Fatal(err)
	}
	if fact, _ := schema.Fact("change"); !slices.Equal(fact.Values, Changes) {
		t.Errorf("%q, and there are %q", fact.Values, Changes)
	}
	e := &Entry{Kind: ChangeEntry, Change: &Change{What: Block, By: "root", About: "192.0.2.7"}}
	for text, want := range map[string]bool{`change == "block" and by == "root"`: true, `kind == "change"`: true, `about == "192.0.2.7"`: true, `why == ""`: true,
		`verdict != "accept"`: false, `not known(verdict)`: true, `change == "allow"`: false, `known(client.ip)`: false} {
		where, problems := CompileWhere(schema, rules.Source{Text: text}, nil)
		if where == nil {
			t.Errorf("%s: %v", text, problems)
		} else if where.Match(e) != want {
			t.Errorf("%s is not %t", text, want)
		}
	}
	mail := &Entry{Kind: policy.TransactionRecord, Verdict: "reject"}
	if where, _ := CompileWhere(schema, rules.Source{Text: `known(change) or known(by)`}, nil); where.Match(mail) {
		t.Error("mail is no change")
	}
}

func TestAChangeAsJSON(t *testing.T) {
	out := NewEntryJSON(&Entry{ID: "X", Kind: ChangeEntry, Change: &Change{What: Start, Rules: []*Rule{{Name: "listed", File: "f", Line: 3, Mode: "observe"}}}})
	if out.Kind != ChangeEntry || out.Change == nil || out.Change.Rules[0] != (RuleInJSON{Name: "listed", Mode: "observe", Place: "f:3"}) || out.Verdict != "" {
		t.Errorf("%+v", out)
	}
}
