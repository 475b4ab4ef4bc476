package journal

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// FuzzBlock reads any bytes as the body of a block, to the last fact.
func FuzzBlock(f *testing.F) {
	b := newBuilder(nil)
	for _, r := range goldenRecords() {
		b.record(r, "accept")
	}
	b.change(&Change{ID: "38G29KFPR000V", At: time.Unix(3, 0), What: Block, Kind: "client", About: "192.0.2.0/24"}, testRules)
	b.confirmation("38G29KFPR000V.1", time.Unix(1, 2))
	f.Add(b.appendBody(nil))
	f.Add([]byte{})
	schema := testSchema
	f.Fuzz(func(t *testing.T, body []byte) {
		k, err := parseBlock(body)
		if err != nil {
			return
		}
		binder, facts := NewBinder(schema), schema.NewFacts()
		var e Entry
		u := k.entries
		for range min(k.count, 1000) {
			p := u.part()
			raw := p.buf
			if kind, _ := k.entry(&p, &e); kind != sessionEntry && kind != transactionEntry && kind != changeEntry {
				continue
			}
			e.source, e.raw = k, raw
			binder.Reset()
			binder.Entry(facts, &e)
			e.Clone()
			if e.Change != nil {
				e.Change.Text(time.Time.String)
				e.Change.ConcernsEntry(&e)
			}
			e.Decisive()
			e.Lookup("dnsbl.score")
			for i := range e.Facts {
				e.Facts[i].All(func(string, any) {})
			}
			for i := range e.Filters {
				_ = e.Filters[i].Stage.String()
			}
		}
	})
}

// FuzzFile reads any bytes as a file: it comes to an end, and to no panic.
func FuzzFile(f *testing.F) {
	if text, err := os.ReadFile(filepath.Join("testdata", "v1.journal")); err == nil {
		f.Add(text)
		f.Add(bytes.Repeat(text, 2))
		f.Add(text[:len(text)-5])
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		folder := t.TempDir()
		if err := os.WriteFile(filepath.Join(folder, segmentName(1, time.Unix(0, 0))), text, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, newest := range []bool{false, true} {
			r, err := NewReader(folder, nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = r.Each(context.Background(), Query{Newest: newest, Confirmations: true}, func(*Entry) bool { return true })
			r.Close()
		}
	})
}

func FuzzFindID(f *testing.F) {
	f.Add("550 5.7.1 no (id 38G29KFPR000V.1)")
	f.Add("ſſſſſſſſſſſſſ\xff")
	f.Fuzz(func(t *testing.T, text string) {
		if id, end, ok := FindID(text); ok && (end > len(text) || len(id) < idLength) {
			t.Errorf("%q in %q ends at %d", id, text, end)
		}
	})
}
