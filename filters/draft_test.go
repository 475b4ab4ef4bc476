package filters

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func draftMessage(fields ...string) *Header {
	var text string
	for _, f := range fields {
		text += f + "\r\n"
	}
	return parseHeader([]byte(text), false)
}

// spliced does to the message's header what the draft came to.
func spliced(h *Header, d *Draft) string {
	var text, out []byte
	for _, f := range h.Fields {
		text = append(text, f.Raw...)
	}
	at := int64(0)
	for _, s := range d.Splices() {
		out = append(append(out, text[at:s.Start]...), s.Text...)
		at = s.End
	}
	return string(append(out, text[at:]...))
}

func field(name, value string) []byte { return []byte(name + ": " + value + "\r\n") }

func TestDraft(t *testing.T) {
	h := draftMessage("Received: by b", "Received: by a", "junk without a colon", "Authentication-Results: forged", "Subject: one", "X: 1", "x: 2")
	drop := func(f *Field) bool { return f.Name == "Authentication-Results" }
	insert := func(index int, text string) FieldEdit {
		name, value, _ := strings.Cut(text, ": ")
		return FieldEdit{Kind: InsertField, Index: index, Name: name, Raw: field(name, value)}
	}
	first := &Changes{Fields: []FieldEdit{insert(1, "A: 1"), insert(1, "B: 2"), {Kind: DeleteField, Index: 2, Name: "X"}}}
	for name, test := range map[string]struct {
		changes []*Changes
		want    string
	}{
		"nothing":  {nil, "Received: by b|Received: by a|junk without a colon|Subject: one|X: 1|x: 2|"},
		"on top":   {[]*Changes{first}, "B: 2|A: 1|Received: by b|Received: by a|junk without a colon|Subject: one|X: 1|"},
		"in order": {[]*Changes{{Fields: []FieldEdit{insert(3, "A: 1"), insert(3, "B: 2"), insert(99, "C: 3")}}}, "Received: by b|Received: by a|junk without a colon|B: 2|A: 1|Subject: one|X: 1|x: 2|C: 3|"},
		"change": {[]*Changes{{Fields: []FieldEdit{{ChangeField, 1, "SUBJECT", field("Subject", "two")}, {ChangeField, 3, "X", field("X", "3")}, {DeleteField, 1, "X", nil}, {ChangeField, 1, "X", field("X", "2a")}}}},
			"Received: by b|Received: by a|junk without a colon|Subject: two|X: 2a|X: 3|"},
		"the forged one is not theirs":    {[]*Changes{{Fields: []FieldEdit{{DeleteField, 1, "Authentication-Results", nil}, {ChangeField, 1, "Authentication-Results", field("Authentication-Results", "y")}}}}, "Received: by b|Received: by a|junk without a colon|Subject: one|X: 1|x: 2|Authentication-Results: y|"},
		"independent of each other":       {[]*Changes{first, {Fields: []FieldEdit{{DeleteField, 1, "A", nil}, insert(2, "C: 3"), {DeleteField, 2, "x", nil}}}}, "B: 2|A: 1|Received: by b|C: 3|Received: by a|junk without a colon|Subject: one|X: 1|"},
		"one after the other":             {[]*Changes{{After: first, Fields: []FieldEdit{{DeleteField, 1, "A", nil}, insert(2, "C: 3"), {ChangeField, 2, "x", field("X", "new")}}}}, "B: 2|C: 3|Received: by b|Received: by a|junk without a colon|Subject: one|X: 1|X: new|"},
		"the first of a pair given twice": {[]*Changes{first, first}, "B: 2|A: 1|Received: by b|Received: by a|junk without a colon|Subject: one|X: 1|"},
	} {
		d := NewDraft(h, drop)
		for _, c := range test.changes {
			d.Apply(c)
		}
		if got := strings.ReplaceAll(spliced(h, d), "\r\n", "|"); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, test.want)
		}
	}
	open := parseHeader([]byte("A: 1"), false)
	d := NewDraft(open, nil)
	d.Apply(&Changes{Fields: []FieldEdit{{AppendField, 0, "B", field("B", "2")}}})
	if got := spliced(open, d); got != "A: 1\r\nB: 2\r\n" {
		t.Errorf("behind a field without an end: %q", got)
	}
}

// TestDraftIsTheNaiveModel: one editor's changes, and those of a chain of editors, come to what they come to on a plain
// list; what independent ones insert is all there.
func TestDraftIsTheNaiveModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SampledFrom([]string{"A", "a", "B", "C"})
		var h Header
		var model [][]byte
		for i := range rapid.IntRange(0, 6).Draw(t, "fields") {
			raw := field(names.Draw(t, "name"), fmt.Sprint("own ", i))
			name, _, _ := bytes.Cut(raw, []byte(":"))
			h.Fields = append(h.Fields, Field{Name: string(name), Raw: raw, Offset: h.Size})
			h.Size += len(raw)
			model = append(model, raw)
		}
		d := NewDraft(&h, nil)
		var last *Changes
		for editor := range rapid.IntRange(1, 3).Draw(t, "editors") {
			c := &Changes{After: last}
			for i := range rapid.IntRange(0, 6).Draw(t, "edits") {
				e := FieldEdit{Kind: EditKind(rapid.IntRange(0, 3).Draw(t, "kind")), Index: rapid.IntRange(0, 8).Draw(t, "index"), Name: names.Draw(t, "name")}
				if e.Kind != DeleteField {
					e.Raw = field(e.Name, fmt.Sprint("new ", editor, " ", i))
				}
				c.Fields = append(c.Fields, e)
				model = naive(model, e)
			}
			d.Apply(c)
			last = c
			var seen [][]byte
			for _, raw := range d.After(c) {
				seen = append(seen, raw)
			}
			if !slices.EqualFunc(seen, model, bytes.Equal) {
				t.Fatalf("editor %d sees %q, want %q", editor, seen, model)
			}
		}
		if got, want := spliced(&h, d), string(bytes.Join(model, nil)); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}

func naive(list [][]byte, e FieldEdit) [][]byte {
	switch e.Kind {
	case InsertField:
		return slices.Insert(slices.Clone(list), min(max(e.Index, 1)-1, len(list)), e.Raw)
	case AppendField:
		return append(slices.Clone(list), e.Raw)
	}
	left := max(e.Index, 1)
	for i, raw := range list {
		if name, _, _ := bytes.Cut(raw, []byte(":")); strings.EqualFold(string(name), e.Name) {
			if left--; left == 0 {
				if e.Kind == DeleteField {
					return slices.Delete(slices.Clone(list), i, i+1)
				}
				list = slices.Clone(list)
				list[i] = e.Raw
				return list
			}
		}
	}
	if e.Kind == ChangeField {
		return append(slices.Clone(list), e.Raw)
	}
	return list
}
