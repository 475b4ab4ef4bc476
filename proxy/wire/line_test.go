package wire

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestNextLine(t *testing.T) {
	for _, c := range []struct {
		in, line string
		n        int
		err      error
	}{
		{"", "", 0, ErrIncomplete},
		{"NOOP", "", 0, ErrIncomplete},
		{"NOOP\r", "", 0, ErrIncomplete},
		{"NOOP\n", "", 0, ErrIncomplete},
		{"NOOP\r\n", "NOOP", 6, nil},
		{"NOOP\r\nQUIT\r\n", "NOOP", 6, nil},
		{"\r\n", "", 2, nil},
		{"NOOP\tx\r\n", "NOOP\tx", 8, nil},
		{"NOOP \xc3\xa9\r\n", "NOOP \xc3\xa9", 9, nil},
		{"NOOP\nQUIT\r\n", "NOOP\nQUIT", 11, ErrBareLineEnd},
		{"NOOP\rQUIT\r\n", "NOOP\rQUIT", 11, ErrBareLineEnd},
		{"NOOP\r\r\n", "NOOP\r", 7, ErrBareLineEnd},
		{"\n\r\n", "\n", 3, ErrBareLineEnd},
		{"A\x00B\n\r\n", "A\x00B\n", 6, ErrBareLineEnd},
		{"A\x00B\r\n", "A\x00B", 5, ErrControlByte},
		{"A\x7f\r\n", "A\x7f", 4, ErrControlByte},
		{"\x16\x03\x01\r\n", "\x16\x03\x01", 5, ErrControlByte},
		{"123456789012345678\r\n", "123456789012345678", 20, nil},
		{"1234567890123456789\r\n", "", 0, ErrLineTooLong},
		{"12345678901234567890", "", 0, ErrLineTooLong},
		{"1234567890123456789\r", "", 0, ErrLineTooLong},
	} {
		line, n, err := NextLine([]byte(c.in), 20)
		if string(line) != c.line || n != c.n || err != c.err {
			t.Errorf("NextLine(%q) = %q, %d, %v; want %q, %d, %v", c.in, line, n, err, c.line, c.n, c.err)
		}
	}
}

// A line that is too long is thrown away exactly up to its CRLF, wherever the packets are cut.
func TestDiscardLineEndsAtTheCRLF(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		long := rapid.StringMatching(`[a\r\n.]{0,40}`).Draw(t, "line")
		if i := strings.Index(long+"\r\n", "\r\n"); i < len(long) {
			long = long[:i]
		}
		stream := []byte(long + "\r\nQUIT\r\n")
		var buf []byte
		for done := false; !done; {
			if len(stream) == 0 {
				t.Fatal("the end of the line was not found")
			}
			k := rapid.IntRange(1, len(stream)).Draw(t, "packet")
			buf, stream = append(buf, stream[:k]...), stream[k:]
			var n int
			n, done = DiscardLine(buf)
			buf = buf[n:]
			if !done && len(buf) > 1 {
				t.Fatalf("%d bytes kept back", len(buf))
			}
		}
		if rest := string(buf) + string(stream); rest != "QUIT\r\n" {
			t.Fatalf("left over: %q", rest)
		}
	})
}

func FuzzNextLine(f *testing.F) {
	f.Add([]byte("MAIL FROM:<a@example.org>\r\nRCPT"), 64)
	f.Add([]byte("a\r\r\n\n"), 4)
	f.Fuzz(func(t *testing.T, buf []byte, limit int) {
		limit = min(max(limit, 2), 1<<16)
		line, n, err := NextLine(buf, limit)
		switch {
		case errors.Is(err, ErrIncomplete) || errors.Is(err, ErrLineTooLong):
			if n != 0 || line != nil || bytes.Contains(buf[:min(len(buf), limit)], []byte("\r\n")) {
				t.Fatalf("%q: a line was missed", buf)
			}
		case n != len(line)+2 || n > limit || string(buf[n-2:n]) != "\r\n" || bytes.Contains(line, []byte("\r\n")):
			t.Fatalf("%q: line %q of %d bytes", buf, line, n)
		case err == nil && bytes.ContainsAny(line, "\r\n\x00"):
			t.Fatalf("%q let through", line)
		}
		ParseCommand(line)
	})
}
