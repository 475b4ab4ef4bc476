package arc

import (
	"crypto/ed25519"
	"slices"
	"strings"
	"testing"

	"gatepost/filters/filtertest"
)

func FuzzTags(f *testing.F) {
	for _, seed := range []string{"", ";", "a=1", "a=1;", "a=1; b = 2 ;\r\n c=", "a=1;;b=2", "a=1; a=2", "=1", "1=a", "a", "a=b=c", "a=1; \r\n\t"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tags, ok := parseTags(text)
		if ok != (len(tags) > 0) || len(tags) > maxTags {
			t.Fatalf("%v with %d tags", ok, len(tags))
		}
		end := 0
		for i, tag := range tags {
			if tag.start < end || tag.end < tag.start || tag.end > len(text) || strings.Trim(text[tag.start:tag.end], white) != tag.value {
				t.Fatalf("%+v", tag)
			}
			if strings.Contains(tag.value, ";") || !isTagName(tag.name) || slices.IndexFunc(tags, hasName(tag.name)) != i {
				t.Fatalf("%+v", tag)
			}
			end = tag.end
		}
	})
}

func hasName(name string) func(tag) bool { return func(t tag) bool { return t.name == name } }

func FuzzKeyRecord(f *testing.F) {
	for _, seed := range []string{"v=DKIM1; k=rsa; p=MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAIWmlgix", "p=", "k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, record string) {
		if public, kind, err := parseKey(record); (public != nil) != (err == nil) || err == nil && kind == "" {
			t.Fatalf("%v, %q, %v", public, kind, err)
		}
	})
}

// FuzzValidate changes sealed messages. What passes must say what one of the sealed ones said: the key is a fixed one, so
// that all fuzzing processes agree on it, but the fuzzer cannot sign.
func FuzzValidate(f *testing.F) {
	zone := filtertest.NewZone()
	sealed := map[string]bool{}
	text := letter
	for _, domain := range []string{"one.example", "two.example", "three.example"} {
		s := newSigner(zone, domain)
		s.key = ed25519.NewKeyFromSeed([]byte(strings.Repeat(domain[:2], ed25519.SeedSize/2)))
		s.publish(zone)
		text = s.seal(text)
		sealed[signedContent(text, relaxedField, relaxedBody)] = true
		f.Add(text)
	}
	for _, name := range []string{"validation-half.json", "sign.json"} {
		for _, g := range readSuite(f, name) {
			for _, test := range g.Tests {
				f.Add(test.Message)
			}
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := validateText(t, zone, text)
		switch c.result {
		case Pass:
			if !sealed[signedContent(text, relaxedField, relaxedBody)] {
				t.Fatalf("passes:\n%s", text)
			}
		case None, Fail:
		default:
			t.Fatalf("%s (%s)", c.result, c.reason)
		}
	})
}
