package journal

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A text has one place, wherever in memory it stands, and every other text another one.
func TestTextsHaveOnePlaceEach(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var table textTable
		for range 2 {
			places := map[string]uint64{}
			for _, s := range rapid.SliceOfN(rapid.StringMatching(`[ab]{1,6}|[a-z]{1,40}`), 0, 3000).Draw(t, "texts") {
				place, known := places[s]
				if got := table.place(strings.Clone(s)); known && got != place || !known && got != uint64(len(places)+1) {
					t.Fatalf("%q is at %d, not %d of %d", s, got, place, len(places))
				} else {
					places[s] = got
				}
			}
			k := &block{}
			k.parseTexts(&unpacker{buf: slices.Clone(table.table), garbled: &k.garbled}, int(table.count))
			if k.garbled || len(k.texts) != len(places) {
				t.Fatalf("%d texts are read back, garbled: %v; %d were put in", len(k.texts), k.garbled, len(places))
			}
			for s, place := range places {
				if k.texts[place-1] != s {
					t.Fatalf("%q is read at the place of %q", k.texts[place-1], s)
				}
			}
			table.reset()
		}
	})
}

// What was cut from a text of the same start is another text.
func TestTextsThatBeginAtTheSamePlaceInMemory(t *testing.T) {
	var table textTable
	whole := strings.Repeat("x", 10)
	if a, b, c := table.place(whole), table.place(whole[:5]), table.place(whole); a != 1 || b != 2 || c != 1 {
		t.Errorf("places %d, %d, %d", a, b, c)
	}
}

func TestKeysAreKeptOnce(t *testing.T) {
	b := newBuilder(nil)
	for range 3 {
		for i := range 40 {
			b.key(idKey, fmt.Sprint(i))
		}
		b.addKey(0)
	}
	for i := range 40 {
		if !slices.Contains(b.keys, hashKey(idKey, fmt.Sprint(i))) {
			t.Errorf("%d is missing", i)
		}
	}
	if len(b.keys) > 80 || !slices.Contains(b.keys, 0) {
		t.Errorf("%d keys for 41", len(b.keys))
	}
	b.reset()
	if b.key(idKey, "1"); len(b.keys) != 1 || !bytes.Equal(makeBloom(b.keys), makeBloom([]uint64{hashKey(idKey, "1")})) {
		t.Errorf("the next block has keys %v", b.keys)
	}
}
