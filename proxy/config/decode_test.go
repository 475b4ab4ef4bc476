package config

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/rules"
)

type innerConfig struct {
	Zone  string             `yaml:"zone"`
	Codes map[string]float64 `yaml:"codes"`
}

type embedded struct {
	Enabled bool `yaml:"enabled"`
}

type outerConfig struct {
	embedded `yaml:",inline"`

	Hostname string           `yaml:"hostname"`
	Delay    filters.Duration `yaml:"delay"`
	Size     filters.Size     `yaml:"size"`
	Trusted  []netip.Prefix   `yaml:"trusted"`
	Zones    []innerConfig    `yaml:"zones"`
	Count    int              `yaml:"count"`
	Key      filters.Secret   `yaml:"key"`
	When     rules.Source     `yaml:"when"`
}

func decodeText(t *testing.T, text string) (outerConfig, Problems) {
	t.Helper()
	d := parse("t.yaml", []byte(text))
	var c outerConfig
	if d.root != nil {
		d.decode(d.root, reflect.ValueOf(&c), "")
	}
	d.problems.sort()
	return c, d.problems
}

func TestDecodeReadsEveryKindOfValue(t *testing.T) {
	c, problems := decodeText(t, `
enabled: yes
hostname: mx.example.org   # ours
delay: 1d12h
size: 50MiB
trusted: [192.0.2.0/28, "2001:db8::1"]
zones:
  - zone: list.example.net
    codes: {127.0.0.2-127.0.0.11: 4, 127.0.0.3: -1.5}
  - {zone: other.example.net}
count: 12
key: s3cret
when: client.ip
`)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if !c.Enabled || c.Hostname != "mx.example.org" || c.Delay.String() != "1d12h" || c.Size != 50<<20 || c.Count != 12 {
		t.Errorf("scalars: %+v", c)
	}
	if len(c.Trusted) != 2 || c.Trusted[1].String() != "2001:db8::1/128" {
		t.Errorf("trusted: %v", c.Trusted)
	}
	if len(c.Zones) != 2 || c.Zones[0].Codes["127.0.0.2-127.0.0.11"] != 4 || c.Zones[0].Codes["127.0.0.3"] != -1.5 {
		t.Errorf("zones: %+v", c.Zones)
	}
	if c.Key.Reveal() != "s3cret" || c.When.Text != "client.ip" {
		t.Errorf("key or when: %+v", c)
	}
}

func TestDecodeTakesALoneValueForAList(t *testing.T) {
	c, problems := decodeText(t, "trusted: 192.0.2.1")
	if len(problems) > 0 || len(c.Trusted) != 1 || c.Trusted[0].String() != "192.0.2.1/32" {
		t.Fatal(c.Trusted, problems)
	}
}

func TestDecodeReportsEveryMistakeWithItsPlace(t *testing.T) {
	_, problems := decodeText(t, `hostnam: x
delay: soon
trusted: [192.0.2.7/24, nonsense]
zones:
  - zone: a
    code: {}
  - 7
count: many
count: 3
enabled: perhaps
when: [a]
`)
	want := []string{
		`t.yaml:1:1: unknown key "hostnam"; did you mean hostname?`,
		`t.yaml:2:8: delay: "soon" is not a duration such as 10s, 5m, 24h or 35d`,
		`t.yaml:3:11: trusted[0]: 192.0.2.7/24 has host bits set; the network is 192.0.2.0/24`,
		`t.yaml:3:25: trusted[1]: "nonsense" is not an address or a network such as 192.0.2.0/24`,
		`t.yaml:6:5: unknown key "code" in zones[0]; did you mean codes?`,
		`t.yaml:7:5: zones[1]: a mapping with keys such as zone, codes is expected here`,
		`t.yaml:8:8: count: "many" is not a whole number`,
		`t.yaml:9:1: count is already set in line 8`,
		`t.yaml:10:10: enabled: "perhaps" is neither true nor false`,
		`t.yaml:11:7: when: a single value is expected here`,
	}
	for i, p := range problems {
		first, excerpt, _ := strings.Cut(p.String(), "\n")
		if i >= len(want) || first != want[i] {
			t.Errorf("problem %d: %s", i, first)
		}
		if !strings.Contains(excerpt, "^") {
			t.Errorf("no caret in %q", excerpt)
		}
	}
	if len(problems) != len(want) {
		t.Errorf("%d problems, want %d", len(problems), len(want))
	}
}

func TestSyntaxErrorsHaveAPlace(t *testing.T) {
	for _, text := range []string{"a: [1,2\nb: 2", "\ta: 1", "a: b: c", "a: \"x", "hostname: x\n---\nhostname: y\n", "a: &x 1\n", "hostname: \xff"} {
		_, problems := decodeText(t, text)
		if !problems.Failed() {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestCaretStandsUnderTheSpotBehindATab(t *testing.T) {
	p := Problem{Problem: rules.Problem{Pos: rules.Pos{File: "f", Line: 1, Column: 4}, Message: "m"}, excerpt: "\té x"}
	if got, want := p.String(), "f:1:4: m\n   1 | \té x\n     | \t  ^"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// A condition may be written in any of YAML's styles; a mistake in it is shown where it stands.
func TestPlacesInsideEveryScalarStyle(t *testing.T) {
	for _, c := range []struct{ name, yaml string }{
		{"plain", "when: one two SPOT three\n"},
		{"plain over lines", "when: one two\n  three four\n  SPOT five\n"},
		{"double quoted", `when: "one \"two\" \u00e9\t SPOT"` + "\n"},
		{"single quoted", "when: 'one ''two'' SPOT'\n"},
		{"folded", "when: >\n  one two\n  three SPOT four\nhostname: x\n"},
		{"folded, spot at a line's start", "when: >-\n  one two\n  SPOT four\n"},
		{"literal", "when: |\n  one two\n  three SPOT four\n"},
		{"literal, spot at a line's start", "when: |\n  one\n\n  SPOT four\n"},
		{"flow", "{count: 1, when: one SPOT}\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, problems := decodeText(t, c.yaml)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			at := got.When.At(strings.Index(got.When.Text, "SPOT"))
			line := strings.Split(c.yaml, "\n")[at.Line-1]
			if rest := string([]rune(line)[at.Column-1:]); !strings.HasPrefix(rest, "SPOT") {
				t.Errorf("%d:%d is %q", at.Line, at.Column, rest)
			}
		})
	}
}

func FuzzParseNeverPanics(f *testing.F) {
	f.Add("when: \"a\\x41\"\nzones: [{zone: a}]")
	f.Add("when: >\n\n  a\n   b\n\n")
	f.Add("trusted: [")
	f.Add("? a\n: b")
	f.Fuzz(func(t *testing.T, text string) {
		d := parse("f", []byte(text))
		var c outerConfig
		if d.root != nil {
			d.decode(d.root, reflect.ValueOf(&c), "")
		}
		for _, p := range d.problems {
			if !utf8.ValidString(text) && p.Pos.Line > 0 {
				t.Fatal("a place in a file that is no text")
			}
			_ = p.String()
		}
		if c.When.At != nil {
			for i := range len(c.When.Text) + 1 {
				if at := c.When.At(i); at.Line < 1 || at.Line > len(d.lines) || at.Column < 1 {
					t.Fatalf("offset %d of %q is at %v", i, c.When.Text, at)
				}
			}
		}
	})
}

func TestEditDistanceIsAMetric(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-z_]{0,12}`)
		a, b, c := word.Draw(t, "a"), word.Draw(t, "b"), word.Draw(t, "c")
		if editDistance(a, b) != editDistance(b, a) || (editDistance(a, b) == 0) != (a == b) ||
			editDistance(a, c) > editDistance(a, b)+editDistance(b, c) {
			t.Fatal(a, b, c)
		}
	})
}
