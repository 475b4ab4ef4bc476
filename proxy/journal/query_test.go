package journal

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"gatepost/filters/all"
	"gatepost/policy"
	"gatepost/proxy/telemetry"
	"gatepost/rules"
)

func idsOf(entries []*Entry) (ids []string) {
	for _, e := range entries {
		ids = append(ids, e.ID)
	}
	return ids
}

// Every query finds what a look at all entries finds.
func TestQueries(t *testing.T) {
	folder := t.TempDir()
	records := realRecords(t, 3000)
	for _, r := range records {
		r.ID = newID(r.Start)
		r.Session.ID = r.ID
		r.ID += ".1"
	}
	writeAll(t, testConfig(folder), records...)
	first := records[0].End
	for name, c := range map[string]struct {
		query Query
		want  func(*policy.Record) bool
	}{
		"all":       {Query{}, func(*policy.Record) bool { return true }},
		"since":     {Query{Since: first.Add(1500 * time.Millisecond)}, func(r *policy.Record) bool { return !r.End.Before(first.Add(1500 * time.Millisecond)) }},
		"until":     {Query{Until: first.Add(time.Second)}, func(r *policy.Record) bool { return r.End.Before(first.Add(time.Second)) }},
		"id":        {Query{ID: records[1234].ID}, func(r *policy.Record) bool { return r == records[1234] }},
		"session":   {Query{ID: records[1234].Session.ID}, func(r *policy.Record) bool { return r == records[1234] }},
		"client":    {Query{Client: netip.MustParseAddr("192.0.2.9")}, func(r *policy.Record) bool { return r.Session.Client.IP == netip.MustParseAddr("192.0.2.9") }},
		"sender":    {Query{Address: "Newsletter-77@lists77.example.net"}, func(r *policy.Record) bool { return r == records[77] }},
		"recipient": {Query{Address: "user5@example.org"}, func(r *policy.Record) bool { return r.Recipients[0].Address == "user5@example.org" }},
		"nobody":    {Query{Address: "nobody@example.org"}, func(*policy.Record) bool { return false }},
	} {
		var want []string
		for _, r := range records {
			if c.want(r) {
				want = append(want, r.ID)
			}
		}
		if got := idsOf(readAll(t, folder, c.query)); !slices.Equal(got, want) {
			t.Errorf("%s: %d entries, want %d", name, len(got), len(want))
		}
		c.query.Newest = true
		slices.Reverse(want)
		if got := idsOf(readAll(t, folder, c.query)); !slices.Equal(got, want) {
			t.Errorf("%s, newest first: %d entries, want %d", name, len(got), len(want))
		}
	}
}

// newID makes an id as the proxy does, without the random part.
func newID(at time.Time) string {
	value := uint64(at.UnixMilli()) << idBelow
	text := make([]byte, idLength)
	for i := idLength - 1; i >= 0; i-- {
		text[i] = idAlphabet[value&31]
		value >>= 5
	}
	return string(text)
}

func TestConfirmations(t *testing.T) {
	folder := t.TempDir()
	j, err := Open(testConfig(folder), Options{})
	if err != nil {
		t.Fatal(err)
	}
	records := realRecords(t, 2000)
	at := records[0].End.Add(time.Second)
	for i, r := range records {
		j.Record(r)
		if i >= 10 && i%2 == 0 {
			j.Confirmed(records[i-10].ID, at) // some are in another block than their transaction
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for _, q := range []Query{{}, {Newest: true}, {ID: records[6].ID}, {ID: records[7].ID}, {Client: records[8].Session.Client.IP}} {
		q.Confirmations = true
		for _, e := range readAll(t, folder, q) {
			i := slices.IndexFunc(records, func(r *policy.Record) bool { return r.ID == e.ID })
			want := i%2 == 0 && i < len(records)-10
			if e.Confirmed.IsZero() == want || want && !e.Confirmed.Equal(at) {
				t.Fatalf("%+v: entry %d is confirmed at %v", q, i, e.Confirmed)
			}
		}
	}
}

// Follow hands on what is written while it waits, also into another file.
func TestFollow(t *testing.T) {
	folder := t.TempDir()
	records := someRecords(3)
	writeAll(t, testConfig(folder), records[0])
	r, err := NewReader(folder, func(d Damage) { t.Error(d) })
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	defer stop()
	seen := make(chan string, 3)
	done := make(chan error, 1)
	go func() {
		done <- r.Each(ctx, Query{Follow: true}, func(e *Entry) bool { seen <- e.ID; return true })
	}()
	for i := range records {
		if i > 0 {
			writeAll(t, testConfig(folder), records[i])
		}
		select {
		case id := <-seen:
			if id != records[i].ID {
				t.Errorf("%s comes as number %d", id, i)
			}
		case <-ctx.Done():
			t.Fatal("it does not come")
		}
	}
	stop()
	if err := <-done; err != nil && err != context.Canceled {
		t.Error(err)
	}
}

func TestFindID(t *testing.T) {
	id := newID(time.Date(2026, 11, 22, 7, 24, 44, 0, time.UTC))
	for text, want := range map[string]string{
		id: id, id + ".12": id + ".12", "(id " + id + ".1); see https://x": id + ".1", "id=" + id + ".": id,
		"X" + id: "", id + "7": "", "CONSTRUCTIONS": "", "0000000000000": "", "": "", "no id": "",
		"550 5.7.1 refused\r\n (id " + id + ".3)": id + ".3",
	} {
		if got, end, ok := FindID(text); got != want || ok != (want != "") || end > len(text) {
			t.Errorf("%q: %q", text, got)
		}
	}
	if at, ok := IDTime(id + ".4"); !ok || !at.Equal(time.Date(2026, 11, 22, 7, 24, 44, 0, time.UTC)) {
		t.Errorf("its time: %v", at)
	}
}

// A search asks for facts and for the entry itself; what is absent does not match.
func TestWhere(t *testing.T) {
	folder := t.TempDir()
	records := realRecords(t, 3)
	records[1].Ending.Reply = rules.Reply{Code: 550, Enhanced: "5.7.1", Text: "no"}
	records[1].Refused = &policy.Decision{Action: rules.Greylist, Rule: records[0].Matched[0].Rule}
	records[2].Facts.Fail(mustGroup(t, records[2].Facts.Schema(), "spf"))
	writeAll(t, testConfig(folder), records...)
	entries := readAll(t, folder, Query{})
	schema, err := SearchSchema(all.Specs())
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string][]int{
		`verdict == "accept"`: {0, 2}, `reply.code == 550 and reply.text == "no"`: {1}, `rule == "suspicious"`: {1}, `action == "greylist"`: {1},
		`"suspicious" in observed`: {0}, `size > 48000 and kind == "transaction"`: {0, 1, 2}, `"user1@example.org" in recipients`: {1},
		`spf.result == "pass"`: {0, 1}, `not (spf.result == "pass")`: nil, `known(rule)`: {1}, `backend == "127.0.0.1:10025"`: {0, 1, 2},
		`took < 1 and in_network(client.ip, "192.0.2.0/24")`: nil, `known(digest)`: nil, `queue_id == "4Zq2X"`: {2},
	} {
		where, problems := CompileWhere(schema, rules.Source{Text: text}, nil)
		if where == nil {
			t.Errorf("%s: %v", text, problems)
			continue
		}
		var got []int
		for i, e := range entries {
			if where.Match(e) {
				got = append(got, i)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s is true of %v, not of %v", text, got, want)
		}
	}
}

// All verdicts that there are can be searched for.
func TestEveryVerdictIsAFact(t *testing.T) {
	schema, err := SearchSchema(all.Specs())
	if err != nil {
		t.Fatal(err)
	}
	if fact, _ := schema.Fact("verdict"); !slices.Equal(fact.Values, telemetry.Verdicts[:]) {
		t.Errorf("%q, and there are %q", fact.Values, telemetry.Verdicts)
	}
}

func mustGroup(t *testing.T, s *rules.Schema, name string) int {
	t.Helper()
	for i, g := range s.Groups() {
		if g.Name == name && slices.ContainsFunc(s.Columns(i), func(c rules.Column) bool { return c.Fact().Name == name+".result" }) {
			return i
		}
	}
	t.Fatal("no group " + name)
	return 0
}

// Earlier releases wrote "abandon" where a rule had closed the connection.
func TestADropOfAnEarlierReleaseIsOne(t *testing.T) {
	drop := &policy.Decision{Action: rules.Drop, Rule: testRules[0]}
	records := goldenRecords()[1:]
	records[0].Refused = drop
	b := newBuilder(nil)
	start := b.begin()
	b.content(records[0], "abandon")
	b.end(start)
	b.span(records[0].Start, records[0].End)
	k, err := parseBlock(b.appendBody(nil))
	if err != nil {
		t.Fatal(err)
	}
	var e Entry
	u := k.entries
	p := u.part()
	if k.entry(&p, &e); e.Verdict != "drop" {
		t.Error(e.Verdict)
	}
}
