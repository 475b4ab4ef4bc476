package wire

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"testing"

	"gatepost/filters/filtertest/suites"

	"pgregory.net/rapid"
)

// decodeAll runs src through a decoder in one call per packet; cut says how long the next packet and the next
// destination are.
func decodeAll(framing Framing, src []byte, cut func(limit int) int) (message, rest []byte, found Oddities, done bool) {
	d := NewDataDecoder(framing)
	for len(src) > 0 && !done {
		packet := src[:cut(len(src))]
		src = src[len(packet):]
		for len(packet) > 0 && !done {
			dst := make([]byte, max(MinSpace, cut(len(packet)+1)))
			var w, n int
			w, n, done = d.Decode(dst, packet)
			message = append(message, dst[:w]...)
			packet = packet[n:]
		}
		if done {
			src = append(packet[:len(packet):len(packet)], src...)
		}
	}
	tail := make([]byte, MinSpace)
	message = append(message, tail[:d.Finish(tail)]...)
	return message, src, d.Found(), done
}

func whole(limit int) int { return limit }

func TestDecodeData(t *testing.T) {
	for _, c := range []struct {
		name, in, message, rest string
		done                    bool
		found                   Oddities
	}{
		{"empty message", ".\r\n", "", "", true, Oddities{}},
		{"ordinary", "a\r\nb\r\n.\r\nQUIT\r\n", "a\r\nb\r\n", "QUIT\r\n", true, Oddities{LongestLine: 3}},
		{"empty lines", "\r\n\r\n.\r\n", "\r\n\r\n", "", true, Oddities{LongestLine: 2}},
		{"stuffed dots", "..\r\n..a\r\n...\r\n.b\r\n.\r\n", ".\r\n.a\r\n..\r\nb\r\n", "", true, Oddities{LongestLine: 4}},
		{"dot inside a line", "a.\r\n.\r\n", "a.\r\n", "", true, Oddities{LongestLine: 4}},
		{"LF.LF", "a\n.\nb\r\n.\r\n", "a\r\n.\r\nb\r\n", "", true, Oddities{BareLF: 2, LongestLine: 3}},
		{"LF.CRLF", "a\n.\r\nb\r\n.\r\n", "a\r\n.\r\nb\r\n", "", true, Oddities{BareLF: 1, LongestLine: 3}},
		{"CRLF.LF", "a\r\n.\nb\r\n.\r\n", "a\r\n\r\nb\r\n", "", true, Oddities{BareLF: 1, LongestLine: 3}},
		{"CRLF.CR", "a\r\n.\rb\r\n.\r\n", "a\r\n b\r\n", "", true, Oddities{BareCR: 1, LongestLine: 4}},
		{"CR.CR", "a\r.\rb\r\n.\r\n", "a . b\r\n", "", true, Oddities{BareCR: 2, LongestLine: 7}},
		{"CR.CRLF", "a\r.\r\nb\r\n.\r\n", "a .\r\nb\r\n", "", true, Oddities{BareCR: 1, LongestLine: 5}},
		{"CRLF.CRCRLF", "a\r\n.\r\r\nb\r\n.\r\n", "a\r\n \r\nb\r\n", "", true, Oddities{BareCR: 1, LongestLine: 3}},
		{"CRCRLF.CRCRLF", "a\r\r\n.\r\r\n.\r\n", "a \r\n \r\n", "", true, Oddities{BareCR: 2, LongestLine: 4}},
		{"CRCRLF.CRLF", "a\r\r\n.\r\n", "a \r\n", "", true, Oddities{BareCR: 1, LongestLine: 4}},
		{"LF..CRLF", "a\n..\r\n.\r\n", "a\r\n..\r\n", "", true, Oddities{BareLF: 1, LongestLine: 4}},
		{"NUL", "a\x00\r\n\x00.\r\n.\r\n", "a\x00\r\n\x00.\r\n", "", true, Oddities{NUL: 2, LongestLine: 4}},
		{"no end", "a\r\n.", "a\r\n", "", false, Oddities{LongestLine: 3}},
	} {
		message, rest, found, done := decodeAll(Dots, []byte(c.in), whole)
		if string(message) != c.message || string(rest) != c.rest || found != c.found || done != c.done {
			t.Errorf("%s: %q, %q, %+v, %v; want %q, %q, %+v, %v", c.name, message, rest, found, done, c.message, c.rest, c.found, c.done)
		}
	}
}

func TestDecodeChunks(t *testing.T) {
	for _, c := range []struct {
		in, message string
		found       Oddities
	}{
		{"", "", Oddities{}},
		{".\r\n..\r\n.\r\n", ".\r\n..\r\n.\r\n", Oddities{LongestLine: 4}},
		{"a\nb\rc\r", "a\r\nb c ", Oddities{BareLF: 1, BareCR: 2, LongestLine: 4}},
		{"a\r\n\x00", "a\r\n\x00", Oddities{NUL: 1, LongestLine: 3}},
	} {
		message, _, found, done := decodeAll(Chunks, []byte(c.in), whole)
		if string(message) != c.message || found != c.found || done {
			t.Errorf("%q: %q, %+v, %v", c.in, message, found, done)
		}
	}
	binary := "a\n\r\x00.\r\n.\r\n\r"
	if message, _, found, _ := decodeAll(Binary, []byte(binary), whole); string(message) != binary || found != (Oddities{}) {
		t.Errorf("BINARYMIME: %q, %+v", message, found)
	}
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		found             Oddities
		normalize, strict bool
	}{
		{Oddities{LongestLine: 99}, false, false},
		{Oddities{BareLF: 1}, false, true},
		{Oddities{BareCR: 1}, false, true},
		{Oddities{NUL: 1}, true, true},
	} {
		if Normalize.Refuses(c.found) != c.normalize || Strict.Refuses(c.found) != c.strict {
			t.Errorf("%+v", c.found)
		}
	}
	var m LineEndings
	if err := m.UnmarshalText([]byte("strict")); err != nil || m != Strict {
		t.Error(m, err)
	}
	if m.UnmarshalText([]byte("lenient")) == nil {
		t.Error("an unknown mode is let through")
	}
}

// mail draws bytes that are full of what matters to line ends and dots.
func mail(t *rapid.T) []byte {
	pieces := rapid.SliceOf(rapid.SampledFrom([]string{
		"\r\n", "\r", "\n", ".", "\x00", "a", "ordinary text", "\r\n.", "\r\n.\r", ".\r\n", "\n.\n", "\r\r\n",
	})).Draw(t, "pieces")
	return []byte(strings.Join(pieces, ""))
}

// However the input and the output are cut, the result is that of one call a byte, which never takes the fast way.
func TestDecodeDoesNotDependOnPackets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		src := mail(t)
		framing := rapid.SampledFrom([]Framing{Dots, Chunks, Binary}).Draw(t, "framing")
		one := func(int) int { return 1 }
		cut := func(limit int) int { return rapid.IntRange(1, limit).Draw(t, "cut") }
		message, rest, found, done := decodeAll(framing, src, one)
		for name, cut := range map[string]func(int) int{"whole": whole, "cut": cut} {
			m, r, f, d := decodeAll(framing, src, cut)
			if !bytes.Equal(m, message) || !bytes.Equal(r, rest) || f != found || d != done {
				t.Fatalf("%s: %q, %q, %+v, %v; byte by byte %q, %q, %+v, %v", name, m, r, f, d, message, rest, found, done)
			}
		}
	})
}

// A message that keeps to the standard passes byte for byte, through DATA and through BDAT.
func TestCleanMailPasses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lines := rapid.SliceOf(rapid.StringMatching(`[a.\x01\x80-\xff ]{0,20}`)).Draw(t, "lines")
		message := []byte(strings.Join(append(lines, ""), "\r\n"))
		sent := stuff(t, message)
		cut := func(limit int) int { return rapid.IntRange(1, limit).Draw(t, "cut") }
		got, rest, found, done := decodeAll(Dots, sent, cut)
		found.LongestLine = 0
		if !bytes.Equal(got, message) || len(rest) > 0 || !done || found != (Oddities{}) {
			t.Fatalf("%q became %q, %q, %+v, %v", message, got, rest, found, done)
		}
		if got, _, _, _ := decodeAll(Chunks, message, cut); !bytes.Equal(got, message) {
			t.Fatalf("BDAT: %q became %q", message, got)
		}
	})
}

// stuff sends message through a Stuffer in pieces.
func stuff(t *rapid.T, message []byte) []byte {
	var wire bytes.Buffer
	s := NewStuffer(&wire)
	for rest := message; len(rest) > 0; {
		k := rapid.IntRange(1, len(rest)).Draw(t, "piece")
		if n, err := s.Write(rest[:k]); n != k || err != nil {
			t.Fatal(n, err)
		}
		rest = rest[k:]
	}
	if err := s.End(); err != nil {
		t.Fatal(err)
	}
	return wire.Bytes()
}

// lenientEnds is what careless servers have been seen to take for the end of data.
var lenientEnds = []string{
	"\r\n.\r\n", "\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\r\n", "\r.\n", "\n.\r", "\r\n.\r", "\r\n.\r\r\n", "\r\r\n.\r\r\n", "\r\n.\x00\r\n", "\n.\x00",
}

// assertOneEnd fails if a server that takes any of lenientEnds for the end finds one before the end.
func assertOneEnd(t interface{ Fatalf(string, ...any) }, wire []byte) {
	// The CRLF of the DATA command stands before the message.
	stream := append([]byte("\r\n"), wire...)
	if !bytes.HasSuffix(stream, []byte("\r\n.\r\n")) {
		t.Fatalf("%q does not end", wire)
	}
	for _, end := range lenientEnds {
		if at := bytes.Index(stream, []byte(end)); at >= 0 && at < len(stream)-len("\r\n.\r\n") {
			t.Fatalf("%q is found at %d of %q", end, at, stream)
		}
	}
}

// Whatever a client sends, what the backend gets ends once, for strict and for careless backends.
func TestNothingSmugglesAnEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		framing := rapid.SampledFrom([]Framing{Dots, Chunks}).Draw(t, "framing")
		message, _, found, _ := decodeAll(framing, mail(t), whole)
		if Normalize.Refuses(found) {
			return
		}
		if bytes.Contains(bytes.ReplaceAll(message, []byte("\r\n"), nil), []byte("\n")) || bytes.Count(message, []byte("\r")) != bytes.Count(message, []byte("\r\n")) {
			t.Fatalf("bare line end in %q", message)
		}
		assertOneEnd(t, stuff(t, message))
	})
}

// The same for every string of up to eight bytes of those that matter, ended properly.
func TestNoShortStringSmugglesAnEnd(t *testing.T) {
	const alphabet = "\r\n.a"
	for length := 0; length <= 8; length++ {
		for number := range 1 << (2 * length) {
			src := make([]byte, 0, 16)
			for i := range length {
				src = append(src, alphabet[number>>(2*i)&3])
			}
			src = append(src, "\r\n.\r\n"...)
			message, rest, _, done := decodeAll(Dots, src, whole)
			end := len(src) - len(rest)
			// The first CRLF.CRLF, which may begin with the CRLF of the DATA command, and nothing else is the end.
			if want := bytes.Index(append([]byte("\r\n"), src...), []byte("\r\n.\r\n")) + 3; !done || end != want {
				t.Fatalf("%q ended at %d (%v), want %d", src, end, done, want)
			}
			var wire bytes.Buffer
			s := NewStuffer(&wire)
			s.Write(message)
			s.End()
			assertOneEnd(t, wire.Bytes())
		}
	}
}

func FuzzDataDecoder(f *testing.F) {
	for _, end := range lenientEnds {
		f.Add([]byte("Subject: x\r\n\r\nbody"+end+"MAIL FROM:<>\r\n.\r\n"), 3)
	}
	f.Fuzz(func(t *testing.T, src []byte, packet int) {
		packet = max(packet, 1)
		message, rest, found, done := decodeAll(Dots, src, whole)
		m, r, fo, d := decodeAll(Dots, src, func(limit int) int { return min(limit, packet) })
		if !bytes.Equal(m, message) || !bytes.Equal(r, rest) || fo != found || d != done {
			t.Fatalf("in packets of %d: %q, want %q", packet, m, message)
		}
		if !done || Normalize.Refuses(found) {
			return
		}
		if end := len(src) - len(rest); !bytes.HasSuffix(append([]byte("\r\n"), src[:end]...), []byte("\r\n.\r\n")) {
			t.Fatalf("%q was ended by something else than CRLF.CRLF", src[:end])
		}
		var wire bytes.Buffer
		s := NewStuffer(&wire)
		s.Write(message)
		s.End()
		assertOneEnd(t, wire.Bytes())
		again, _, _, _ := decodeAll(Dots, wire.Bytes(), whole)
		if !bytes.Equal(again, append(message, missingCRLF(message)...)) {
			t.Fatalf("%q comes back as %q", message, again)
		}
	})
}

func missingCRLF(message []byte) []byte {
	if len(message) == 0 || bytes.HasSuffix(message, []byte("\r\n")) {
		return nil
	}
	return []byte("\r\n")
}

// The smuggling suite: fake ends of data that have worked somewhere.
func TestSmugglingSuite(t *testing.T) {
	var cases []struct{ ID, B64 string }
	suites.ReadJSON(t, "smuggling/eod.json", &cases)
	passed := 0
	for _, c := range cases {
		fake, err := base64.StdEncoding.DecodeString(c.B64)
		if err != nil {
			t.Fatal(err)
		}
		in := "Subject: outer\r\n\r\nouter" + string(fake) + "MAIL FROM:<inner@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\ninner\r\n.\r\n"
		message, rest, found, done := decodeAll(Dots, []byte(in), whole)
		switch {
		case !done || len(rest) > 0:
			t.Errorf("%s: ended early, left %q", c.ID, rest)
			continue
		case Normalize.Refuses(found): // a NUL: nothing of it goes on
		default:
			var wire bytes.Buffer
			s := NewStuffer(&wire)
			s.Write(message)
			if err := s.End(); err != nil {
				t.Fatal(err)
			}
			assertOneEnd(t, wire.Bytes())
			if bytes.Contains(wire.Bytes()[:wire.Len()-5], fake) {
				t.Errorf("%s: %q is still there: %q", c.ID, fake, wire.Bytes())
				continue
			}
		}
		passed++
	}
	fmt.Printf("suite smuggling: %d/%d\n", passed, len(cases))
}

// Time must grow with the size only, also where ordinary text is interrupted all the time.
func BenchmarkDecode(b *testing.B) {
	line := strings.Repeat("x", 74) + "\r\n"
	for _, c := range []struct{ name, unit string }{
		{"lines", line},
		{"stuffed", ".." + line},
		{"bareLF", strings.Repeat("x", 74) + "\n"},
		{"allLF", "\n"},
		{"allCR", "\r"},
		{"allNUL", "\x00"},
		{"allDots", "..\r\n"},
		{"base64long", strings.Repeat("x", 8000) + "\r\n"},
	} {
		src := []byte(strings.Repeat(c.unit, 1<<20/len(c.unit)))
		dst := make([]byte, 64<<10)
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			b.ReportAllocs()
			for b.Loop() {
				d := NewDataDecoder(Dots)
				// Packets of 32 KiB, as a socket gives them.
				for rest := src; len(rest) > 0; {
					_, n, _ := d.Decode(dst, rest[:min(len(rest), 32<<10)])
					rest = rest[n:]
				}
			}
		})
	}
}

// The body of a message passes through both: what they allocate is there once a message, whatever its size.
func TestDataAllocates(t *testing.T) {
	src, dst := bytes.Repeat([]byte("The quick brown fox jumps over the lazy dog.\r\n"), 2000), make([]byte, 64<<10)
	decode := testing.AllocsPerRun(20, func() {
		d := NewDataDecoder(Dots)
		for rest := src; len(rest) > 0; {
			_, n, _ := d.Decode(dst, rest[:min(len(rest), 32<<10)])
			rest = rest[n:]
		}
	})
	stuff := testing.AllocsPerRun(20, func() {
		s := NewStuffer(io.Discard)
		for rest := src; len(rest) > 0; {
			n, _ := s.Write(rest[:min(len(rest), 32<<10)])
			rest = rest[n:]
		}
		s.End()
	})
	if decode > 0 || stuff > 2 {
		t.Errorf("%v allocations by the decoder, %v by the stuffer", decode, stuff)
	}
}

func BenchmarkStuffer(b *testing.B) {
	line := strings.Repeat("x", 74) + "\r\n"
	for _, c := range []struct{ name, unit string }{{"lines", line}, {"dots", "." + line}, {"allDots", ".\r\n"}} {
		src := []byte(strings.Repeat(c.unit, 1<<20/len(c.unit)))
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			b.ReportAllocs()
			for b.Loop() {
				s := NewStuffer(io.Discard)
				for rest := src; len(rest) > 0; {
					k := min(len(rest), 64<<10)
					s.Write(rest[:k])
					rest = rest[k:]
				}
				if err := s.End(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
