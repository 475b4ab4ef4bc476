package config_test

import (
	"bytes"
	"strings"
	"testing"

	"gatepost/filters/all"
	"gatepost/filters/filtertest"
	"gatepost/filters/milter"
	"gatepost/proxy/config"
)

const twoMilters = `
domains: [example.org]
backend: 127.0.0.1:10025
filters:
  milter:
    - {name: first, address: "unix:/run/first", timeout: 5s, on_error: defer}
    - name: second
      address: inet:127.0.0.1:11332
      after: first
      edits: []
rules:
  - {name: r, when: milter.first.rejects or milter.second.action == "discard", then: reject, reply: "{milter.first.reply}"}
`

func TestFiltersThatAreThereSeveralTimes(t *testing.T) {
	c, problems := config.Parse("t.yaml", []byte(twoMilters), all.Specs())
	if c == nil || len(problems) > 0 {
		t.Fatal(problems)
	}
	for range 2 { // the second time as it is printed
		first, second := c.Filters["milter.first"], c.Filters["milter.second"]
		if first.Common.Timeout.String() != "5s" || first.Common.OnError != "defer" || first.Place != 0 || second.Place != 1 || second.Common.Timeout.String() != "30s" {
			t.Errorf("%+v, %+v", first, second)
		}
		if s := second.Settings.(*milter.Config); s.After != "first" || len(s.Edits) != 0 || s.Address.String() != "inet:127.0.0.1:11332" || s.Connections != 50 {
			t.Errorf("%+v", s)
		}
		if engine, problems := c.Compile(all.Specs(), filtertest.NewEnv(filtertest.NewZone())); engine == nil || len(problems) > 0 {
			t.Fatal(problems)
		}
		var out bytes.Buffer
		if err := c.Write(&out, nil); err != nil {
			t.Fatal(err)
		}
		if c, problems = config.Parse("printed.yaml", out.Bytes(), all.Specs()); c == nil || len(problems) > 0 {
			t.Fatalf("%v\n%s", problems, out.String())
		}
	}
}

func TestInstancesThatCannotBe(t *testing.T) {
	const least = "domains: [example.org]\nbackend: 127.0.0.1:10025\nfilters:\n  milter: "
	good := `{name: a, address: "unix:/x"}`
	for text, want := range map[string]string{
		good:                                 "filters.milter: a list is expected here",
		`[{address: "unix:/x"}]`:             `filters.milter[0].name: "": a name is made of`,
		`[{name: Not, address: "unix:/x"}]`:  `filters.milter[0].name: "Not": a name is made of`,
		`[{name: not, address: "unix:/x"}]`:  `filters.milter[0].name: "not": a name is made of`,
		`[{name: a}]`:                        "filters.milter[0].address: is missing",
		`[{name: a, address: "10.0.0.1:2"}]`: "filters.milter[0].address: a milter's address looks like this",
		`[{name: a, address: "unix:/x", edits: [sender]}]`:                         "a milter cannot change the sender here",
		"[" + good + ", " + good + "]":                                             `filters.milter[1].name: there is a "a" above`,
		`[{name: b, address: "unix:/x", after: c}]`:                                `filters.milter[0].after: there is no "c" above`,
		`[{name: b, address: "unix:/x", after: b}]`:                                `filters.milter[0].after: there is no "b" above`,
		`[{name: b, address: "unix:/x", on_error: x}]`:                             `filters.milter[0].on_error: "x" is neither pass nor defer`,
		"[" + strings.Repeat(good+", ", 16) + good + "]":                           "at most 16 are possible",
		"[" + good + "]\n  milter.a: {enabled: true}":                              `there is no filter "milter.a"`,
		"[" + good + "]\nrules: [{name: r, when: milter.b.rejects, then: reject}]": "there is no fact milter.b.rejects, did you mean milter.a.rejects?",
	} {
		_, problems := config.Parse("t.yaml", []byte(least+text+"\n"), all.Specs())
		if len(problems) == 0 {
			c, _ := config.Parse("t.yaml", []byte(least+text+"\n"), all.Specs())
			_, problems = c.Compile(all.Specs(), filtertest.NewEnv(filtertest.NewZone()))
		}
		if !strings.Contains(problems.Error(), want) {
			t.Errorf("%s:\n got %v\nwant %s", text, problems, want)
		}
	}
}
