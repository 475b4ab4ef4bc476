package config

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Whatever stands in a configuration, `gatepost config` prints it so that it is read back as itself, behind a key, in
// a list and in a mapping.
func TestQuotedTextIsReadBackAsItself(t *testing.T) {
	read := func(t *rapid.T, yaml string, into any) {
		d := parse("printed", []byte(yaml))
		if d.root == nil || len(d.problems) > 0 {
			t.Fatalf("%s\nis not YAML: %v", yaml, d.problems)
		}
		d.decode(d.root, reflect.ValueOf(into), "")
		if len(d.problems) > 0 {
			t.Fatalf("%s\ncannot be read: %v", yaml, d.problems)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[-~a-z0-9.:/{}\[\]#&*!|>'"%@,?= \n\t]{0,12}`),
			rapid.SampledFrom([]string{"null", "Null", "~", "true", "on", "-", "---", "...", "0x1F", "1e3", "08", "-1", "2001:db8::/32", ":25", "a: b", "unix:/x", "1_000", ".inf", "<<"})).Draw(t, "text")
		quoted := quote(text)
		var behindKey struct {
			Value string `yaml:"value"`
		}
		read(t, "value: "+quoted+"\n", &behindKey)
		var inList struct {
			Values []string `yaml:"values"`
		}
		read(t, "values: [first, "+quoted+", last]\n", &inList)
		var inMapping struct {
			Values map[string]string `yaml:"values"`
		}
		read(t, "values: {first: 1, "+quoted+": "+quoted+"}\n", &inMapping)
		if behindKey.Value != text || len(inList.Values) != 3 || inList.Values[1] != text {
			t.Fatalf("%q is written %s and read %q, %q", text, quoted, behindKey.Value, inList.Values)
		}
		if got, ok := inMapping.Values[text]; !ok && text != "first" || got != text && text != "first" {
			t.Fatalf("%q is written %s and read %q", text, quoted, inMapping.Values)
		}
	})
}

func TestWrapKeepsEveryWord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOf(rapid.StringMatching(`[a-z]{1,30}`)).Draw(t, "words")
		lines := wrap(strings.Join(words, " "), 20)
		if got := strings.Fields(strings.Join(lines, " ")); len(got) != len(words) || len(words) > 0 && !reflect.DeepEqual(got, words) {
			t.Fatal(lines)
		}
		for _, line := range lines {
			if len(line) > 20 && strings.Contains(line, " ") {
				t.Fatalf("%q is too long", line)
			}
		}
	})
}
