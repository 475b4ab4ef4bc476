package arc

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"strings"
	"testing"

	"gatepost/filters/filtertest"

	"pgregory.net/rapid"
)

// signedContent is everything in a message that a chain over From, To and Subject vouches for, in canonical form.
func signedContent(text string, canonicalField, canonicalBody func(string) string) string {
	header, body, _ := strings.Cut(text, "\r\n\r\n")
	var sets, signed []string
	fields := splitFields(header + "\r\n")
	for _, name := range []string{"from", "to", "subject"} {
		for _, f := range slices.Backward(fields) {
			if before, _, _ := strings.Cut(f, ":"); strings.EqualFold(strings.TrimRight(before, " \t"), name) {
				signed = append(signed, canonicalField(f))
				break
			}
		}
	}
	for _, f := range fields {
		if fieldKind(strings.TrimRight(strings.SplitN(f, ":", 2)[0], " \t")) >= 0 {
			sets = append(sets, relaxedField(f))
		}
	}
	slices.Sort(sets) // their order in the header means nothing
	return strings.Join(append(sets, signed...), "") + canonicalBody(body)
}

// TestNoChangedByteOfWhatIsSignedPasses changes each byte of a sealed message in turn. Whatever still passes must say
// the same; and what says the same must pass, or this test would be easy to satisfy.
func TestNoChangedByteOfWhatIsSignedPasses(t *testing.T) {
	for _, test := range []struct {
		canonical   string
		field, body func(string) string
	}{
		{"relaxed/relaxed", relaxedField, relaxedBody},
		{"simple/simple", simpleField, simpleBody},
	} {
		zone := filtertest.NewZone()
		text := letter
		for _, domain := range []string{"one.example", "two.example"} {
			s := newSigner(zone, domain)
			s.canonical = test.canonical
			text = s.seal(text)
		}
		want := signedContent(text, test.field, test.body)
		passed, failed := 0, 0
		for i := range text {
			for _, change := range []byte{1 << (i % 8), 0x20, text[i] ^ ' '} {
				if change == 0 {
					continue
				}
				changed := text[:i] + string([]byte{text[i] ^ change}) + text[i+1:]
				c := validateText(t, zone, changed)
				switch {
				case c.result == Pass:
					passed++
					if signedContent(changed, test.field, test.body) != want {
						t.Fatalf("%s: passes with byte %d as %q:\n%s", test.canonical, i, text[i]^change, changed)
					}
				default:
					failed++
					// In the chain itself even white space may count, which the reference does not see.
					if i > len(text)-len(letter) && c.reason != errLineEnds.Error() && signedContent(changed, test.field, test.body) == want {
						t.Fatalf("%s: %s (%s) with byte %d as %q:\n%s", test.canonical, c.result, c.reason, i, text[i]^change, changed)
					}
				}
			}
		}
		if passed == 0 || failed < len(text) {
			t.Errorf("%s: %d passed, %d failed", test.canonical, passed, failed)
		}
	}
}

func TestFieldIsCanonicalHoweverItIsFolded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOf(rapid.SampledFrom([]string{" ", "\t", "\r\n ", "\r\n\t", "a", "B", ":", "é"})).Draw(t, "value")
		field := "X-Name" + rapid.SampledFrom([]string{"", " ", "\t "}).Draw(t, "blanks") + ":" + strings.Join(parts, "") + "\r\n"
		if got := string(appendField(nil, []byte(field), true)); got != relaxedField(field) {
			t.Fatalf("%q: got %q, want %q", field, got, relaxedField(field))
		}
		if got := string(appendField(nil, []byte(field), false)); got != field {
			t.Fatalf("got %q", got)
		}
	})
}

func TestBodyHashHoweverItArrives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := []string{" ", "\t", "\r\n", "\r\n", "a", "bc", "  ", strings.Repeat("long", 300), strings.Repeat("\r\n", 1000)}
		body := strings.Join(rapid.SliceOf(rapid.SampledFrom(words)).Draw(t, "body"), "")
		header := rapid.SampledFrom([]string{"A: b\r\n", "A: b\r\nC: d\r\n"}).Draw(t, "header")
		for _, relaxed := range []bool{false, true} {
			want := sha256.Sum256([]byte(simpleBody(body)))
			if relaxed {
				want = sha256.Sum256([]byte(relaxedBody(body)))
			}
			h := newBodyHash(len(header), relaxed)
			for rest := []byte(header + "\r\n" + body); len(rest) > 0; {
				n := rapid.IntRange(1, len(rest)).Draw(t, "piece")
				if _, err := h.Write(rest[:n]); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			if got, err := h.sum(); err != nil || !bytes.Equal(got, want[:]) {
				t.Fatalf("relaxed %v: %v, %q", relaxed, err, body)
			}
		}
	})
}

func TestBareLineEndsAreSeenHoweverTheyArrive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{"\r\n", "\r\n", "a", "\r", "\n", " "})).Draw(t, "body"), "")
		bare := strings.ContainsAny(strings.ReplaceAll(body, "\r\n", ""), "\r\n")
		h := newBodyHash(0, rapid.Bool().Draw(t, "relaxed"))
		var err error
		for rest := []byte("\r\n" + body); len(rest) > 0 && err == nil; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "piece")
			_, err = h.Write(rest[:n])
			rest = rest[n:]
		}
		if err == nil {
			_, err = h.sum()
		}
		// Taking CRLF out may bring a CR and a LF together; counting tells it for sure.
		bare = bare || strings.Count(body, "\r") != strings.Count(body, "\r\n") || strings.Count(body, "\n") != strings.Count(body, "\r\n")
		if (err != nil) != bare {
			t.Fatalf("%q: %v", body, err)
		}
	})
}
