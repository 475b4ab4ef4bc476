package wire

import (
	"errors"
	"math"
	"testing"
)

func TestParseCommand(t *testing.T) {
	for _, c := range []struct {
		line string
		want Command
	}{
		{"", Command{Unknown, "", ""}},
		{"NOOP", Command{NOOP, "NOOP", ""}},
		{"noop  ", Command{NOOP, "NOOP", ""}},
		{"eHlO mx.example.org ", Command{EHLO, "EHLO", "mx.example.org"}},
		{"MAIL FROM:<a@example.org> SIZE=1", Command{MAIL, "MAIL", "FROM:<a@example.org> SIZE=1"}},
		{"MAIL\tFROM:<>", Command{MAIL, "MAIL", "FROM:<>"}},
		{"starttls", Command{STARTTLS, "STARTTLS", ""}},
		{"XCLIENT ADDR=192.0.2.1", Command{XCLIENT, "XCLIENT", "ADDR=192.0.2.1"}},
		{"MAILFROM:<>", Command{Unknown, "MAILFROM:<>", ""}},
		{" NOOP", Command{Unknown, "", "NOOP"}},
		{"G\xc9T / HTTP/1.1", Command{Unknown, "G?T", "/ HTTP/1.1"}},
		{"abcdefghijklmnopqrstuvwxyz x", Command{Unknown, "ABCDEFGHIJKLMNOPQRST", "x"}},
		{"UNKNOWN", Command{Unknown, "UNKNOWN", ""}},
	} {
		if got := ParseCommand([]byte(c.line)); got != c.want {
			t.Errorf("ParseCommand(%q) = %+v, want %+v", c.line, got, c.want)
		}
	}
	for v := HELO; int(v) < len(verbNames); v++ {
		if got := ParseCommand([]byte(v.String())); got.Verb != v {
			t.Errorf("%v is parsed as %v", v, got.Verb)
		}
	}
}

func TestParseBdat(t *testing.T) {
	for _, c := range []struct {
		arg  string
		size int64
		last bool
		ok   bool
	}{
		{"0", 0, false, true},
		{"0 LAST", 0, true, true},
		{"1000 last", 1000, true, true},
		{" 12  LAST ", 12, true, true},
		{"0000000000000000000000000012", 12, false, true},
		{"9223372036854775807", math.MaxInt64, false, true},
		{"9223372036854775808", 0, false, false},
		{"18446744073709551617", 0, false, false},
		{"99999999999999999999999999999", 0, false, false},
		{"", 0, false, false},
		{"LAST", 0, false, false},
		{"-1", 0, false, false},
		{"+1", 0, false, false},
		{"0x10", 0, false, false},
		{"10 LAS", 0, false, false},
		{"10 LAST LAST", 0, false, false},
		{"10,LAST", 0, false, false},
	} {
		size, last, err := ParseBdat(c.arg)
		var syntax *SyntaxError
		if size != c.size || last != c.last || (err == nil) != c.ok || err != nil && (!errors.As(err, &syntax) || syntax.Code != 501) {
			t.Errorf("ParseBdat(%q) = %d, %v, %v", c.arg, size, last, err)
		}
	}
}

func TestCommandAllocations(t *testing.T) {
	line := []byte("RCPT TO:<user@example.org>\r\n")
	noop := []byte("NOOP\r\n")
	for _, c := range []struct {
		name string
		want float64
		run  func()
	}{
		{"NextLine and a command without argument", 0, func() {
			l, _, _ := NextLine(noop, 512)
			ParseCommand(l)
		}},
		{"RCPT, from line to path", 1, func() { // the argument's string; path and address are parts of it
			l, _, _ := NextLine(line, 512)
			if _, _, err := ParseRcpt(ParseCommand(l).Arg); err != nil {
				t.Error(err)
			}
		}},
		{"BDAT", 0, func() { ParseBdat("1000 LAST") }},
	} {
		if got := testing.AllocsPerRun(100, c.run); got > c.want {
			t.Errorf("%s: %v allocations, want %v", c.name, got, c.want)
		}
	}
}

func BenchmarkCommand(b *testing.B) {
	line := []byte("MAIL FROM:<user@example.org> SIZE=4096 BODY=8BITMIME\r\n")
	b.ReportAllocs()
	for b.Loop() {
		l, _, _ := NextLine(line, 2048)
		if _, _, err := ParseMail(ParseCommand(l).Arg); err != nil {
			b.Fatal(err)
		}
	}
}
