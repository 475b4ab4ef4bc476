package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gatepost/filters"
	"gatepost/filters/all"
	"gatepost/policy"
	"gatepost/proxy/journal"
	"gatepost/proxy/telemetry"
)

// covered is what the corpus has shown, by the journals of its sites.
type covered struct {
	verdicts map[string]bool // as in the log
	ends     map[string]bool // "reject at rcpt"
	looks    map[string]bool // "spf timeout"
}

func newCovered() *covered {
	return &covered{map[string]bool{}, map[string]bool{}, map[string]bool{}}
}

func (c *covered) read(t *testing.T, folder string) {
	t.Helper()
	reader, err := journal.NewReader(folder, func(d journal.Damage) { t.Error(d) })
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	err = reader.Each(t.Context(), journal.Query{}, func(e *journal.Entry) bool {
		if e.Session == nil {
			return true
		}
		c.verdicts[e.Verdict] = true
		if e.Refused != nil {
			c.ends[e.Refused.Action+" at "+stageNames[e.Reached]] = true
		}
		for i := range e.Recipients {
			r := &e.Recipients[i]
			if c.looked(r.Filters); r.Ours {
				c.ends[r.Action+" at rcpt"] = true
			}
		}
		c.looked(e.Filters)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
}

var stageNames = map[policy.Step]string{
	policy.StepConnect: "connect", policy.StepGreet: "connect", policy.StepHelo: "helo", policy.StepMail: "mail", policy.StepRcpt: "rcpt",
	policy.StepData: "data", policy.StepMessage: "message", policy.StepEnd: "message",
}

func (c *covered) looked(list []journal.Filter) {
	for _, f := range list {
		name, _, _ := strings.Cut(f.Name, ".") // of a milter
		c.looks[name+" "+f.Status] = true
	}
}

// cannotBe is what the list of all that could be has too much, and why.
var cannotBe = map[string]string{
	"ratelimit timeout": inMemory, "ratelimit error": inMemory,
	"exception timeout": inMemory, "exception error": inMemory,
	"known timeout": inMemory, "known error": inMemory,
	"reputation timeout": inMemory, "reputation error": inMemory,
	"greylist timeout": inMemory, "greylist error": inMemory,
	"earlytalker timeout": "it looks at the clock", "earlytalker error": "it fails for an MTA that asks, which greets itself",
	"spf timeout": isAResult, "spf error": isAResult, "dnsbl timeout": "no list having answered in time is an error that names them",
	"dkim error": isAResult, "arc error": isAResult, "dmarc error": isAResult,
	"greylist at connect": atRcptFirst, "greylist at helo": atRcptFirst, "greylist at mail": atRcptFirst,
}

const (
	inMemory    = "the embedded store answers from memory, and a shared one that does not answer is stood for by what this proxy knows"
	isAResult   = "what cannot be looked up is a result (temperror)"
	atRcptFirst = "the backend is asked about a recipient first"
)

// complain names what no session of the corpus shows.
func (c *covered) complain(t *testing.T) {
	var wanted []string
	for _, spec := range all.Specs() {
		for _, status := range []string{"ok", "timeout", "error"} {
			wanted = append(wanted, spec.Name+" "+status)
		}
	}
	for _, stage := range []filters.Stage{filters.AtConnect, filters.AtHelo, filters.AtMail, filters.AtRcpt, filters.AtData, filters.AtMessage} {
		for _, action := range []string{"reject", "defer", "drop", "greylist"} {
			wanted = append(wanted, action+" at "+stage.String())
		}
	}
	wanted = append(wanted, "discard at message", "quarantine at message")
	wanted = slices.DeleteFunc(wanted, func(what string) bool { return cannotBe[what] != "" })
	wanted = append(wanted, telemetry.Verdicts[:]...)
	var missing []string
	for _, what := range wanted {
		if !c.verdicts[what] && !c.ends[what] && !c.looks[what] {
			missing = append(missing, what)
		}
	}
	if len(missing) > 0 {
		t.Errorf("no session of the corpus shows: %s", strings.Join(missing, ", "))
	}
	fmt.Printf("why: the corpus shows %s; %s; %s\n", list(c.verdicts), list(c.ends), list(c.looks))
}

func list(set map[string]bool) string { return strings.Join(slices.Sorted(maps.Keys(set)), ", ") }

func (c *corpusSite) journal() string { return filepath.Join(c.folder, "state-journal") }
