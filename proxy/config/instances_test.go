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
		`[{name: a, address: "unix:/x", edits: [envelope]}]`:                       `filters.milter[0].edits: "envelope" is none of headers, body, recipients and sender`,
		`[{name: a, address: "unix:/x", mode: off}]`:                               `filters.milter[0].mode: "off" is neither enforce nor observe`,
		`[{name: a, address: "unix:/x", reuse: never}]`:                            `filters.milter[0].reuse: "never" is neither session nor always`,
		`[{name: spf, address: "unix:/x"}]`:                                        "there are facts called spf.… already",
		`[{name: mail, address: "unix:/x"}]`:                                       "there are facts called mail.… already",
		`[{name: milter, address: "unix:/x"}]`:                                     "there are facts called milter.… already",
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

// TestReaddressing: what the way of handing mail over does to recipients that a milter adds is told at its place.
func TestReaddressing(t *testing.T) {
	const milters = "filters:\n  milter:\n    - name: a\n      address: unix:/x\n      edits: [headers, recipients]\n"
	for front, want := range map[string]string{
		"backend: 127.0.0.1:10025\n": "t.yaml:7:14: warning: filters.milter[0].edits: recipients that a adds: the backend knows the client's address (client_address: xclient)",
		"backend: {address: 127.0.0.1:10025, client_address: none, relay_check: off}\n":             "may relay to wherever they are",
		"milter: [{address: unix:/y}]\n":                                                            "an MTA that calls Gatepost takes them without a look",
		"policy_server: [{address: unix:/y}]\n":                                                     "a policy server sees no message",
		"backend: {address: 127.0.0.1:10025, client_address: proxy-v2}\nlisten: [{address: :25}]\n": "client_address: proxy-v2",
	} {
		c, problems := config.Parse("t.yaml", []byte("domains: [example.org]\n"+front+milters), all.Specs())
		if c == nil || len(problems) != 1 || !strings.Contains(problems.Error(), want) {
			t.Errorf("%s\n got %v\nwant %s", front, problems, want)
		}
	}
	quiet := strings.Replace("domains: [example.org]\nbackend: 127.0.0.1:10025\n"+milters, "edits:", "mode: observe\n      edits:", 1)
	if _, problems := config.Parse("t.yaml", []byte(quiet), all.Specs()); len(problems) > 0 {
		t.Errorf("observed: %v", problems)
	}
}
