package proxy

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/policy"
)

// TestExcerpt: what is left out, put in between and put in place of the body comes to what it comes to on plain bytes, and
// the size is told right before.
func TestExcerpt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "text")
		m := filters.NewMessage(1<<20, nil)
		defer m.Release()
		m.Write(text)
		m.Complete()
		var edits policy.Edits
		var want []byte
		end := int64(len(text))
		if rapid.Bool().Draw(t, "new body") {
			end = rapid.Int64Range(0, end).Draw(t, "body at")
			edits.Body, edits.BodyAt = []byte("BODY"), end
		}
		for at := int64(0); ; {
			if rapid.IntRange(0, 3).Draw(t, "insert") == 0 {
				edits.Insert = append(edits.Insert, policy.Insertion{At: at, Text: []byte("<new>")})
				want = append(want, "<new>"...)
			}
			if at == end {
				break
			}
			next := rapid.Int64Range(at+1, end).Draw(t, "next")
			if rapid.Bool().Draw(t, "cut") {
				edits.Cut = append(edits.Cut, policy.Span{Start: at, End: next})
			} else {
				want = append(want, text[at:next]...)
			}
			at = next
		}
		want = append(want, edits.Body...)
		var got bytes.Buffer
		e := excerpt{m, edits}
		if n, err := e.WriteTo(&got); err != nil || n != e.size() || n != int64(got.Len()) {
			t.Fatalf("%d bytes of %d written, %d announced: %v", n, got.Len(), e.size(), err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Fatalf("got %q, want %q", got.Bytes(), want)
		}
	})
}
