package wire

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// writes remembers each write.
type writes struct {
	sizes []int
	all   bytes.Buffer
	fail  error
}

func (w *writes) Write(p []byte) (int, error) {
	if w.fail != nil {
		return 0, w.fail
	}
	w.sizes = append(w.sizes, len(p))
	return w.all.Write(p)
}

func TestStuffer(t *testing.T) {
	for _, c := range []struct{ message, want string }{
		{"", ".\r\n"},
		{"a\r\n", "a\r\n.\r\n"},
		{"a", "a\r\n.\r\n"},
		{"a\n", "a\n\r\n.\r\n"},
		{"a\r", "a\r\r\n.\r\n"},
		{".", "..\r\n.\r\n"},
		{".\r\n..\r\na.\r\n", "..\r\n...\r\na.\r\n.\r\n"},
		{"\r\n.\r\n\r\n", "\r\n..\r\n\r\n.\r\n"},
		{"a\n.b\r\n", "a\n..b\r\n.\r\n"},
	} {
		for step := 1; step <= 3; step++ {
			var w writes
			s := NewStuffer(&w)
			for rest := []byte(c.message); len(rest) > 0; {
				k := min(step, len(rest))
				s.Write(rest[:k])
				rest = rest[k:]
			}
			if err := s.End(); err != nil || w.all.String() != c.want || len(w.sizes) != 1 {
				t.Errorf("%q: %q in %d writes, %v; want %q", c.message, w.all.String(), len(w.sizes), err, c.want)
			}
		}
	}
}

// The end of data is never a write of its own, also where the message fills the buffer exactly.
func TestStufferNeverWritesTheEndAlone(t *testing.T) {
	for size := stufferSize - 10; size <= stufferSize+2; size++ {
		var w writes
		s := NewStuffer(&w)
		s.Write([]byte(strings.Repeat("x", size-2)))
		s.Write([]byte("\r\n"))
		if err := s.End(); err != nil {
			t.Fatal(err)
		}
		if last := w.sizes[len(w.sizes)-1]; last <= 3 {
			t.Errorf("message of %d bytes: writes of %v", size, w.sizes)
		}
		if w.all.Len() != size+3 {
			t.Errorf("message of %d bytes: %d written", size, w.all.Len())
		}
	}
}

func TestStufferKeepsTheError(t *testing.T) {
	w := writes{fail: errors.New("connection reset")}
	s := NewStuffer(&w)
	if _, err := s.Write(make([]byte, 3*stufferSize)); err != w.fail {
		t.Errorf("Write: %v", err)
	}
	if _, err := s.Write([]byte("x")); err != w.fail {
		t.Errorf("second Write: %v", err)
	}
	if err := s.End(); err != w.fail {
		t.Errorf("End: %v", err)
	}
	if _, err := s.Write([]byte("x")); err == nil {
		t.Error("Write after End succeeds")
	}
}
