package canonical

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gatepost/filters"
)

// The canonical forms in the words of RFC 6376, 3.4, whatever they cost.
var (
	blanks     = regexp.MustCompile(`[ \t]+`)
	folds      = regexp.MustCompile(`\r\n([ \t])`)
	lineBlanks = regexp.MustCompile(`[ \t]+\r\n`)
)

func relaxedField(field string) string {
	name, value, _ := strings.Cut(field, ":")
	value = blanks.ReplaceAllString(folds.ReplaceAllString(strings.TrimSuffix(value, "\r\n"), "$1"), " ")
	return strings.ToLower(strings.TrimRight(name, " \t")) + ":" + strings.Trim(value, " ") + "\r\n"
}

func simpleBody(body string) string {
	for strings.HasSuffix(body, "\r\n") {
		body = strings.TrimSuffix(body, "\r\n")
	}
	return body + "\r\n"
}

func relaxedBody(body string) string {
	body = simpleBody(blanks.ReplaceAllString(lineBlanks.ReplaceAllString(body+"\r\n", "\r\n"), " "))
	if body == "\r\n" {
		return ""
	}
	return body
}

func TestFieldIsCanonicalHoweverItIsFolded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOf(rapid.SampledFrom([]string{" ", "\t", "\r\n ", "\r\n\t", "a", "B", ":", "é"})).Draw(t, "value")
		field := "X-Name" + rapid.SampledFrom([]string{"", " ", "\t "}).Draw(t, "blanks") + ":" + strings.Join(parts, "")
		for _, raw := range []string{field, field + "\r\n"} {
			if got, want := string(Relaxed.AppendField(nil, []byte(raw))), relaxedField(field+"\r\n"); got != want {
				t.Fatalf("%q: got %q, want %q", raw, got, want)
			}
			if got := string(Simple.AppendField(nil, []byte(raw))); got != field+"\r\n" {
				t.Fatalf("%q: got %q", raw, got)
			}
		}
	})
}

func TestTheSignatureIsSignedWithoutItsValue(t *testing.T) {
	for _, test := range []struct{ field, simple, relaxed string }{
		{"S: a; b=VAL\r\n UE\r\n", "S: a; b=", "s:a; b="},
		{"S: b=VALUE ; c\r\n", "S: b=; c", "s:b=; c"},
		{"S: b=VALUE;\r\n\t\r\n", "S: b=;\r\n\t", "s:b=;"},
	} {
		start := strings.Index(test.field, "=") + 1
		end := len(test.field)
		if semicolon := strings.IndexByte(test.field[start:], ';'); semicolon >= 0 {
			end = start + semicolon
		}
		for a, want := range map[Algorithm]string{Simple: test.simple, Relaxed: test.relaxed} {
			if got := string(a.AppendUnsigned(nil, []byte(test.field), start, end)); got != want {
				t.Errorf("%q: got %q, want %q", test.field, got, want)
			}
		}
	}
}

func TestSignedFieldsAreTakenFromTheBottom(t *testing.T) {
	raws := []string{"S: 0", "X: 1", "x: 2", "S: 3", "junk", "Y: 4", "X: 5"}
	fields := make([]filters.Field, len(raws))
	for i, raw := range raws {
		fields[i].Raw = []byte(raw + "\r\n")
		if name, _, found := strings.Cut(raw, ":"); found {
			fields[i].Name = name
		}
	}
	for names, want := range map[string]string{
		"x":         "X: 5",
		"x:Y:X:y:x": "X: 5, Y: 4, x: 2, X: 1",
		"x:x:x:x:x": "X: 5, x: 2, X: 1",
		"s:s":       "S: 0", // the signature is 3
		"":          "",
		":junk:z:y": "Y: 4",
	} {
		got := string(Simple.AppendSigned(nil, fields, strings.Split(names, ":"), &fields[3]))
		if got = strings.ReplaceAll(strings.TrimSuffix(got, "\r\n"), "\r\n", ", "); got != want {
			t.Errorf("%s: got %s, want %s", names, got, want)
		}
	}
}

func TestBodyHashHoweverItArrives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := []string{" ", "\t", "\r\n", "\r\n", "a", "bc", "!", "\x00", "\x1f", "\x7f", "\x89", "\xa0", "  ", " word",
			strings.Repeat("long", 300), strings.Repeat("\r\n", 1000), strings.Repeat(" \r\n", 1000)}
		body := strings.Join(rapid.SliceOf(rapid.SampledFrom(words)).Draw(t, "body"), "")
		header := rapid.SampledFrom([]string{"A: b\r\n", "A: b\r\nC: d\r\n"}).Draw(t, "header")
		b := NewBody(len(header), Relaxed, Simple, Relaxed)
		for rest := []byte(header + "\r\n" + body); len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "piece")
			if written, err := b.Write(rest[:n]); written != n || err != nil {
				t.Fatal(written, err)
			}
			rest = rest[n:]
		}
		if err := b.End(); err != nil {
			t.Fatal(err)
		}
		for a, want := range map[Algorithm]string{Simple: simpleBody(body), Relaxed: relaxedBody(body)} {
			if sum := sha256.Sum256([]byte(want)); !bytes.Equal(b.Sum(a), sum[:]) {
				t.Fatalf("algorithm %d: %q", a, body)
			}
		}
	})
}

// Every pair of bytes at every place: what is looked at eight at a time is the same as what is looked at one at a time.
func TestUnsettledWhiteSpace(t *testing.T) {
	for at := range 20 {
		for first := range 256 {
			for second := range 256 {
				p := []byte(" aaaaaaaaaaaaaaaaaaaaaaa")
				p[at], p[at+1] = byte(first), byte(second)
				want := 0
				for want < len(p) && settled(p, want) {
					want++
				}
				if got := unsettled(p); got != want {
					t.Fatalf("%q: %d, want %d", p, got, want)
				}
			}
		}
	}
}

func FuzzBody(f *testing.F) {
	f.Add([]byte("a  b \t\r\n\r\n c\r\n \r\n"), 3)
	f.Add([]byte("a\rb"), 1)
	f.Fuzz(func(t *testing.T, text []byte, piece int) {
		b := NewBody(-2, Simple, Relaxed)
		bare := strings.Count(string(text), "\r") != strings.Count(string(text), "\r\n") || strings.Count(string(text), "\n") != strings.Count(string(text), "\r\n")
		err := error(nil)
		for rest := text; len(rest) > 0 && err == nil; {
			n := min(max(piece, 1), len(rest))
			_, err = b.Write(rest[:n])
			rest = rest[n:]
		}
		if err == nil {
			err = b.End()
		}
		if (err != nil) != bare {
			t.Fatal(err)
		}
		if bare {
			return
		}
		for a, want := range map[Algorithm]string{Simple: simpleBody(string(text)), Relaxed: relaxedBody(string(text))} {
			if sum := sha256.Sum256([]byte(want)); !bytes.Equal(b.Sum(a), sum[:]) {
				t.Fatalf("algorithm %d", a)
			}
		}
	})
}

func TestBareLineEndsAreSeenHoweverTheyArrive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{"\r\n", "\r\n", "a", "\r", "\n", " "})).Draw(t, "body"), "")
		bare := strings.Count(body, "\r") != strings.Count(body, "\r\n") || strings.Count(body, "\n") != strings.Count(body, "\r\n")
		b := NewBody(0, Algorithm(rapid.IntRange(0, 1).Draw(t, "algorithm")))
		var err error
		for rest := []byte("\r\n" + body); len(rest) > 0 && err == nil; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "piece")
			_, err = b.Write(rest[:n])
			rest = rest[n:]
		}
		if err == nil {
			err = b.End()
		}
		if (err != nil) != bare {
			t.Fatalf("%q: %v", body, err)
		}
	})
}

func TestTheBodyCostsNoMemory(t *testing.T) {
	b := NewBody(0, Simple, Relaxed)
	body := []byte(strings.Repeat("a  line \r\n\r\n", 1000))
	if n := testing.AllocsPerRun(10, func() { b.Write(body) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkBody(b *testing.B) {
	const size = 1 << 20
	for _, text := range []struct{ name, piece string }{
		{"text", "Hi. We lost the game. Are you hungry yet? Joe.\r\n"}, {"base64", strings.Repeat("QUJD", 19) + "\r\n"},
		{"quoted", "> and  so on\tand on\r\n"}, {"blank lines", " \r\n"}, {"letters and blanks", "a  "},
	} {
		body := []byte(strings.Repeat(text.piece, size/len(text.piece)))
		for name, algorithms := range map[string][]Algorithm{"simple": {Simple}, "relaxed": {Relaxed}, "both": {Simple, Relaxed}} {
			b.Run(fmt.Sprintf("%s/%s", text.name, name), func(b *testing.B) {
				b.SetBytes(int64(len(body)))
				for b.Loop() {
					h := NewBody(0, algorithms...)
					for rest := body; len(rest) > 0; {
						n := min(64<<10, len(rest))
						h.Write(rest[:n])
						rest = rest[n:]
					}
					h.End()
				}
			})
		}
	}
}
