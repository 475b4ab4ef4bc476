package arc

import (
	"slices"
	"strings"
	"testing"

	"gatepost/filters/canonical"
	"gatepost/filters/filtertest"
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
					if i > len(text)-len(letter) && c.reason != canonical.ErrLineEnds.Error() && signedContent(changed, test.field, test.body) == want {
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
