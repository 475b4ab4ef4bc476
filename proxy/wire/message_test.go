package wire

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"gatepost/filters"
	"pgregory.net/rapid"
)

// receive decodes what a client sends after DATA into a message, as a session does.
func receive(t testing.TB, m *filters.Message, packets ...[]byte) {
	d := NewDataDecoder(Dots)
	for _, src := range packets {
		for done := false; len(src) > 0 && !done; {
			var w, n int
			w, n, done = d.Decode(m.Space(), src)
			if err := m.Commit(w); err != nil {
				t.Fatal(err)
			}
			src = src[n:]
		}
	}
	m.Complete()
}

// A message from client to backend: decoder, rope and Stuffer together give what the client sent.
func TestMessageFromClientToBackend(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		line := rapid.SampledFrom([]string{"x", ".", "..x", strings.Repeat("y", 998)}).Draw(rt, "line") + "\r\n"
		sent := stuff(rt, bytes.Repeat([]byte(line), rapid.IntRange(0, 300).Draw(rt, "lines")))
		cut := rapid.IntRange(0, len(sent)).Draw(rt, "cut")
		m := filters.NewMessage(1<<20, nil)
		defer m.Release()
		receive(t, m, sent[:cut], sent[cut:])
		var got bytes.Buffer
		s := NewStuffer(&got)
		if _, err := m.WriteRange(s, 0, m.Size()); err != nil {
			rt.Fatal(err)
		}
		if err := s.End(); err != nil || !bytes.Equal(got.Bytes(), sent) {
			rt.Fatalf("%q became %q, %v", sent, got.Bytes(), err)
		}
	})
}

func BenchmarkMessageFromClientToBackend(b *testing.B) {
	for _, c := range []struct {
		name string
		size int
	}{{"4KiB", 4 << 10}, {"1MiB", 1 << 20}} {
		line := strings.Repeat("x", 74) + "\r\n"
		src := []byte(strings.Repeat(line, c.size/len(line)) + ".\r\n")
		var packets [][]byte
		for rest := src; len(rest) > 0; {
			k := min(len(rest), 32<<10)
			packets, rest = append(packets, rest[:k]), rest[k:]
		}
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			b.ReportAllocs()
			for b.Loop() {
				m := filters.NewMessage(2<<20, nil)
				receive(b, m, packets...)
				if _, err := m.WriteRange(io.Discard, 0, m.Size()); err != nil {
					b.Fatal(err)
				}
				m.Release()
			}
		})
	}
}
