package wire

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestNewReply(t *testing.T) {
	for _, c := range []struct {
		code                 int
		enhanced, text, want string
	}{
		{250, "2.0.0", "OK", "250 2.0.0 OK\r\n"},
		{354, "", "Go ahead", "354 Go ahead\r\n"},
		{550, "5.7.1", "one\ntwo\nthree", "550-5.7.1 one\r\n550-5.7.1 two\r\n550 5.7.1 three\r\n"},
		{250, "2.0.0", "", "250 2.0.0\r\n"},
		{250, "", "", "250 \r\n"},
		{550, "5.7.1", "a\r\n250 OK\x00\x1b[2J\x7f\u00e9", "550-5.7.1 a\r\n550 5.7.1 250 OK??[2J??\r\n"},
		{550, "5.7.1", "a\rb", "550 5.7.1 a?b\r\n"},
		{550, "", strings.Repeat("x", 600), "550 " + strings.Repeat("x", 506) + "\r\n"},
		{550, "5.7.1", strings.Repeat("x", 600), "550 5.7.1 " + strings.Repeat("x", 500) + "\r\n"},
	} {
		if got := string(NewReply(c.code, c.enhanced, c.text).AppendTo(nil)); got != c.want {
			t.Errorf("NewReply(%d, %q, %q) = %q, want %q", c.code, c.enhanced, c.text, got, c.want)
		}
	}
}

func TestParseReply(t *testing.T) {
	for _, c := range []struct {
		in    string
		code  int
		lines []string
		n     int
		err   error
	}{
		{"250 OK\r\n", 250, []string{"OK"}, 8, nil},
		{"250\r\n", 250, []string{""}, 5, nil},
		{"250 \r\n", 250, []string{""}, 6, nil},
		{"250 OK\n220 x\r\n", 250, []string{"OK"}, 7, nil},
		{"250-a\r\n250-b\r\n250 c\r\n354 go\r\n", 250, []string{"a", "b", "c"}, 21, nil},
		{"250-\r\n250\r\n", 250, []string{"", ""}, 11, nil},
		{"250-a\r\n550 b\r\n", 550, []string{"a", "b"}, 14, nil},
		{"250-a\r\n", 0, nil, 0, ErrIncomplete},
		{"250 O", 0, nil, 0, ErrIncomplete},
		{"", 0, nil, 0, ErrIncomplete},
		{"25\r\n", 0, nil, 0, ErrNotReply},
		{"150 x\r\n", 0, nil, 0, ErrNotReply},
		{"600 x\r\n", 0, nil, 0, ErrNotReply},
		{"2x0 x\r\n", 0, nil, 0, ErrNotReply},
		{"250x\r\n", 0, nil, 0, ErrNotReply},
		{"SSH-2.0-OpenSSH\r\n", 0, nil, 0, ErrNotReply},
		{"\r\n", 0, nil, 0, ErrNotReply},
		{"250 " + strings.Repeat("x", 100), 0, nil, 0, ErrLineTooLong},
		{"250 " + strings.Repeat("x", 100) + "\r\n", 0, nil, 0, ErrLineTooLong},
		{strings.Repeat("250-x\r\n", 4), 0, nil, 0, ErrReplyTooLong},
	} {
		r, n, err := ParseReply([]byte(c.in), 64, 4)
		if r.Code != c.code && err == nil || !slices.Equal(r.Lines, c.lines) || n != c.n || !errors.Is(err, c.err) {
			t.Errorf("ParseReply(%q) = %+v, %d, %v", c.in, r, n, err)
		}
	}
}

func TestReplyParts(t *testing.T) {
	for _, c := range []struct{ in, enhanced, text, str string }{
		{"250 2.1.5 OK\r\n", "2.1.5", "OK", "250 2.1.5 OK"},
		{"550-5.7.1 a\r\n550 5.7.1 b\r\n", "5.7.1", "a\nb", "550 5.7.1 a\n5.7.1 b"},
		{"550-5.7.1 a\r\n550 b\r\n", "5.7.1", "a\nb", "550 5.7.1 a\nb"},
		{"250 2.0.0\r\n", "2.0.0", "", "250 2.0.0"},
		{"250 OK\r\n", "", "OK", "250 OK"},
		{"250 5.0.0 no\r\n", "", "5.0.0 no", "250 5.0.0 no"},
		{"354 3.0.0 no\r\n", "", "3.0.0 no", "354 3.0.0 no"},
		{"250 2.0.0x\r\n", "", "2.0.0x", "250 2.0.0x"},
		{"250 2.0000.1 x\r\n", "", "2.0000.1 x", "250 2.0000.1 x"},
		{"250 2..1xxx x\r\n", "", "2..1xxx x", "250 2..1xxx x"},
	} {
		r, _, err := ParseReply([]byte(c.in), 512, 9)
		if err != nil || r.Enhanced() != c.enhanced || r.Text() != c.text || r.String() != c.str {
			t.Errorf("%q: %q, %q, %q, %v", c.in, r.Enhanced(), r.Text(), r.String(), err)
		}
	}
}

// Our own replies read back as they were meant, are short enough and clean, whatever text they are made of.
func TestReplyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := string(rapid.SliceOfN(rapid.OneOf(rapid.ByteRange(0, 40), rapid.Byte()), 0, 1200).Draw(t, "text"))
		r := NewReply(rapid.IntRange(200, 599).Draw(t, "code"), rapid.SampledFrom([]string{"", "5.7.1"}).Draw(t, "enhanced"), text)
		out := r.AppendTo(nil)
		for line := range bytes.SplitSeq(bytes.TrimSuffix(out, []byte("\r\n")), []byte("\r\n")) {
			if len(line) > 510 || bytes.ContainsFunc(line, func(c rune) bool { return c != '\t' && (c < ' ' || c > '~') }) {
				t.Fatalf("line %q", line)
			}
		}
		back, n, err := ParseReply(out, 512, len(r.Lines))
		if err != nil || n != len(out) || back.Code != r.Code || !slices.Equal(back.Lines, r.Lines) {
			t.Fatalf("%+v comes back as %+v, %v", r, back, err)
		}
	})
}

// A hostile backend's reply becomes exactly one reply towards the client.
func FuzzParseReply(f *testing.F) {
	f.Add([]byte("250-a\r\n250 b\r\n"))
	f.Add([]byte("250 a\rb\x00\n"))
	f.Add([]byte("550-\n550"))
	f.Fuzz(func(t *testing.T, buf []byte) {
		r, n, err := ParseReply(buf, 128, 8)
		if err != nil {
			return
		}
		r.Enhanced()
		out := r.AppendTo(nil)
		if bytes.Count(out, []byte("\n")) != len(r.Lines) || bytes.Count(out, []byte("\r")) != len(r.Lines) || n > len(buf) {
			t.Fatalf("%q becomes %q", buf, out)
		}
		back, m, err := ParseReply(out, 256, 8)
		if err != nil || m != len(out) || back.Code != r.Code || len(back.Lines) != len(r.Lines) {
			t.Fatalf("%q becomes %q: %v", buf, out, err)
		}
	})
}

func TestParseKeyword(t *testing.T) {
	for _, c := range []struct{ line, name, args string }{
		{"SIZE 35882577", "SIZE", "35882577"},
		{"size", "SIZE", ""},
		{"AUTH PLAIN LOGIN ", "AUTH", "PLAIN LOGIN"},
		{"", "", ""},
	} {
		if name, args := ParseKeyword(c.line); name != c.name || args != c.args {
			t.Errorf("ParseKeyword(%q) = %q, %q", c.line, name, args)
		}
	}
}

func TestReplyAllocations(t *testing.T) {
	in, out := []byte("250-2.1.5 one\r\n250 2.1.5 two\r\n"), make([]byte, 0, 512)
	// One string for all lines, one slice of them.
	if got := testing.AllocsPerRun(100, func() {
		r, _, _ := ParseReply(in, 512, 9)
		out = r.AppendTo(out[:0])
		r.Enhanced()
	}); got > 2 {
		t.Errorf("%v allocations", got)
	}
}

func BenchmarkReply(b *testing.B) {
	in, out := []byte("250 2.1.5 Recipient OK\r\n"), make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		r, _, _ := ParseReply(in, 512, 9)
		out = r.AppendTo(out[:0])
	}
}
