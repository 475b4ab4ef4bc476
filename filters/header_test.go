package filters

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func headerOf(t testing.TB, message string) *Header {
	t.Helper()
	m := NewMessage(1<<20, nil)
	defer m.Release()
	if _, err := m.Write([]byte(message)); err != nil {
		t.Fatal(err)
	}
	m.Complete()
	h, err := m.Header(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestHeader(t *testing.T) {
	for _, c := range []struct {
		name, message string
		fields        []string // "name|value"
		size          int
	}{
		{"empty message", "", nil, 0},
		{"no header", "\r\nbody: x\r\n", nil, 0},
		{"header only, without an empty line", "A: b\r\n", []string{"A|b"}, 6},
		{"without a last CRLF", "A: b", []string{"A|b"}, 4},
		{"ordinary", "From: a@example.org\r\nSubject:  x y \r\n\r\nbody: z\r\n", []string{"From|a@example.org", "Subject|x y"}, 37},
		{"folded", "Subject: one\r\n two\r\n\tthree\r\nTo:\r\n b\r\n\r\n", []string{"Subject|one two\tthree", "To|b"}, 37},
		{"folded by a line of blanks", "A: b\r\n \r\nC: d\r\n\r\n", []string{"A|b", "C|d"}, 15},
		{"blanks before the colon", "Subject \t: x\r\n\r\n", []string{"Subject|x"}, 14},
		{"empty value", "A:\r\nB: \r\n\r\n", []string{"A|", "B|"}, 9},
		{"colons in the value", "A: b: c\r\n\r\n", []string{"A|b: c"}, 9},
		{"a line without a colon", "A: b\r\njunk\r\nC: d\r\n\r\n", []string{"A|b", "|junk", "C|d"}, 18},
		{"an mbox line", "From a@example.org Mon Jan 1 00:00:00 2024\r\nA: b\r\n\r\n", []string{"|From a@example.org Mon Jan 1 00:00:00 2024", "A|b"}, 50},
		{"a continuation of nothing", " x\r\nA: b\r\n\r\n", []string{"|x", "A|b"}, 10},
		{"no name", ": x\r\n\r\n", []string{"|: x"}, 5},
		{"a name that is none", "B\xe9: x\r\n\r\n", []string{"|B\xe9: x"}, 7},
		{"a bare LF ends nothing", "A: b\nC: d\r\n\r\n", []string{"A|bC: d"}, 11},
		{"a bare CR ends nothing", "A: b\rC: d\r\n\r\n", []string{"A|bC: d"}, 11},
	} {
		h := headerOf(t, c.message)
		var fields []string
		for i := range h.Fields {
			fields = append(fields, h.Fields[i].Name+"|"+h.Fields[i].Value())
		}
		if !slices.Equal(fields, c.fields) || h.Size != c.size || h.Cut {
			t.Errorf("%s: %q, size %d, cut %v; want %q, %d", c.name, fields, h.Size, h.Cut, c.fields, c.size)
		}
		assertWhole(t, h, []byte(c.message))
	}
}

// assertWhole fails if the fields are not, one behind the other, the start of the message.
func assertWhole(t interface{ Fatalf(string, ...any) }, h *Header, message []byte) {
	at := 0
	for _, f := range h.Fields {
		if f.Offset != at || !bytes.HasPrefix(message[at:], f.Raw) || len(f.Raw) == 0 {
			t.Fatalf("field %q at %d, want %d", f.Raw, f.Offset, at)
		}
		at += len(f.Raw)
	}
	if at != h.Size {
		t.Fatalf("size %d, but the fields have %d bytes", h.Size, at)
	}
	if rest := message[at:]; !h.Cut && len(rest) > 0 && !bytes.HasPrefix(rest, []byte("\r\n")) {
		t.Fatalf("the header goes on with %q", rest)
	}
}

func TestHeaderValues(t *testing.T) {
	h := headerOf(t, "Received: one\r\nreceived: two\r\nX: y\r\nRECEIVED: three\r\n\r\n")
	if got := h.Values("Received"); !slices.Equal(got, []string{"one", "two", "three"}) {
		t.Errorf("Received: %q", got)
	}
	if got := h.Values("Subject"); got != nil {
		t.Errorf("Subject: %q", got)
	}
}

func TestHeaderLimits(t *testing.T) {
	line := "X: " + strings.Repeat("x", 95) + "\r\n"
	for _, c := range []struct {
		name, message string
		fields        int
		cut           bool
	}{
		{"just under the bytes", strings.Repeat(line, MaxHeader/100) + "\r\nbody", MaxHeader / 100, false},
		{"over the bytes", strings.Repeat(line, MaxHeader/100+2) + "\r\nbody", MaxHeader / 100, true},
		{"one endless field", "X: " + strings.Repeat("x\r\n ", MaxHeader), 0, true},
		{"one endless line", strings.Repeat("x", 2*MaxHeader), 0, true},
		{"as many fields as may be", strings.Repeat("a:\r\n", maxFields) + "\r\n", maxFields, false},
		{"too many fields", strings.Repeat("a:\r\n", maxFields+1) + "\r\n", maxFields, true},
	} {
		h := headerOf(t, c.message)
		if len(h.Fields) != c.fields || h.Cut != c.cut {
			t.Errorf("%s: %d fields, cut %v", c.name, len(h.Fields), h.Cut)
		}
		assertWhole(t, h, []byte(c.message))
	}
}

// The header is there as soon as its empty line is, is the same for all who ask, and does not depend on packets.
func TestHeaderWhileTheMessageArrives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fields := rapid.SliceOf(rapid.StringMatching(`[A-Z]{1,9}: [a-z.]{0,60}(\r\n [a-z]{1,9}){0,2}`)).Draw(t, "fields")
		header := strings.Join(append(fields, "", ""), "\r\n")
		if len(fields) == 0 {
			header = "\r\n"
		}
		spill := &memorySpill{}
		m := NewMessage(rapid.SampledFrom([]int64{0, 1 << 20}).Draw(t, "memory"), spill)
		var asking sync.WaitGroup
		var got [3]*Header
		for i := range got {
			asking.Go(func() { got[i], _ = m.Header(context.Background()) })
		}
		for rest := []byte(header); len(rest) > 0; {
			k := rapid.IntRange(1, len(rest)).Draw(t, "packet")
			m.Write(rest[:k])
			rest = rest[k:]
		}
		asking.Wait() // the message is not complete
		if got[0] == nil || got[1] != got[0] || got[2] != got[0] {
			t.Fatalf("three headers: %v", got)
		}
		if len(got[0].Fields) != len(fields) {
			t.Fatalf("%d fields, want %d", len(got[0].Fields), len(fields))
		}
		assertWhole(t, got[0], []byte(header))
		m.Abort(fmt.Errorf("client left"))
		m.Release()
		if h, err := m.Header(context.Background()); h != got[0] || err != nil {
			t.Fatalf("after Release: %v, %v", h, err)
		}
	})
}

// memorySpill keeps a file in memory.
type memorySpill struct {
	mu   sync.Mutex // guards data
	data []byte
}

func (s *memorySpill) Create() (SpillFile, error) { return s, nil }
func (s *memorySpill) Reserve(int64) bool         { return true }
func (s *memorySpill) Unreserve(int64)            {}
func (s *memorySpill) Close() error               { return nil }

func (s *memorySpill) ReadAt(p []byte, offset int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return copy(p, s.data[offset:]), nil
}

func (s *memorySpill) WriteAt(p []byte, offset int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data = append(s.data[:offset], p...)
	return len(p), nil
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte("From: a\r\n b\r\nSubject : x\r\njunk\r\n\r\nbody"), false)
	f.Add([]byte("\r\n"), false)
	f.Add([]byte("a\r:\n\r\n \r\n:"), true)
	f.Fuzz(func(t *testing.T, message []byte, cut bool) {
		end := headerEnd(message, 0)
		if end < 0 {
			end = len(message)
		}
		h := parseHeader(message[:end], cut)
		assertWhole(t, h, message)
		for i := range h.Fields {
			field := &h.Fields[i]
			if strings.ContainsAny(field.Value(), "\r\n") || strings.ContainsAny(field.Name, " \t\r\n:") {
				t.Fatalf("%q: %q", field.Name, field.Value())
			}
			if field.Name != "" && len(h.Values(field.Name)) == 0 {
				t.Fatalf("%q is not found", field.Name)
			}
		}
	})
}

func BenchmarkHeader(b *testing.B) {
	message := []byte(strings.Repeat("Received: from mx.example.org by mx.example.net;\r\n Mon, 1 Jan 2024 00:00:00 +0000\r\n", 20) + "\r\n" + strings.Repeat("x", 4000))
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		m := NewMessage(1<<20, nil)
		m.Write(message)
		m.Complete()
		if _, err := m.Header(context.Background()); err != nil {
			b.Fatal(err)
		}
		m.Release()
	}
}

// A header is found in the message's own memory; what it costs is its copy.
func TestHeaderAllocates(t *testing.T) {
	m := NewMessage(1<<20, nil)
	defer m.Release()
	io.WriteString(m, "Received: from a.example.net\r\n\tby b.example.net\r\nFrom: a@example.net\r\nSubject: hello\r\n\r\n"+strings.Repeat("body\r\n", 500))
	m.Complete()
	allocations := testing.AllocsPerRun(100, func() {
		m.head = headerScan{}
		if _, err := m.Header(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	if allocations > 4 {
		t.Errorf("%.0f allocations", allocations)
	}
}

// A header may end behind the first chunk, in the file behind a first chunk that is not full, or nowhere.
func TestHeaderAcrossChunks(t *testing.T) {
	for _, memory := range []int64{0, 4 << 10, 1 << 20} {
		for _, length := range []int{10, firstChunk - minSpace, firstChunk - 3, firstChunk - 1, firstChunk, firstChunk + 3, 3 * firstChunk} {
			for _, step := range []int{97, 1 << 20} {
				head := "A: " + strings.Repeat("x", length-len("A: \r\n")) + "\r\n"
				m := NewMessage(memory, newSpill(t, 1<<20))
				for text := head + "\r\nbody"; text != ""; text = text[min(step, len(text)):] {
					io.WriteString(m, text[:min(step, len(text))])
					if _, err := m.scanHeader(m.Size(), false); err != nil {
						t.Fatal(err)
					}
				}
				m.Complete()
				h, err := m.Header(t.Context())
				if err != nil || h.Size != length || len(h.Fields) != 1 || string(h.Fields[0].Raw) != head || h.Cut {
					t.Errorf("memory %d, header %d, step %d: %v, size %d", memory, length, step, err, h.Size)
				}
				m.Release()
			}
		}
	}
}

// One who asks may have waited for fewer bytes than another who asks at the same time has searched already.
func TestHeaderAskedForWithAnOlderSize(t *testing.T) {
	for _, memory := range []int64{0, 1 << 20} {
		m := NewMessage(memory, newSpill(t, 1<<20))
		io.WriteString(m, "Subject: hello\r\nFrom: a@example.org\r\n")
		for _, size := range []int64{30, 5, 1, 30, 4} {
			if h, err := m.scanHeader(size, false); h != nil || err != nil {
				t.Fatalf("with %d bytes: %v, %v", size, h, err)
			}
		}
		io.WriteString(m, "\r\nbody")
		if h, err := m.scanHeader(m.Size(), false); err != nil || h == nil || len(h.Fields) != 2 {
			t.Fatalf("%+v, %v", h, err)
		}
		m.Release()
	}
}
