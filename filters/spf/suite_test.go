package spf

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"gatepost/filters/filtertest"
	"gatepost/filters/filtertest/suites"
)

// excluded are cases that do not apply, with the reason.
var excluded = map[string]string{
	"pyspf-extra/default-modifier":       "default= is from drafts before RFC 4408; unknown modifiers have no effect (RFC 7208, 6)",
	"pyspf-extra/default-modifier-harsh": "default= is from drafts before RFC 4408; unknown modifiers have no effect (RFC 7208, 6)",
}

type suiteGroup struct {
	Suite string
	Zone  json.RawMessage
	Tests []suiteCase
}

type suiteCase struct {
	ID, Helo, IP, MailFrom string
	Result                 []Result
	Explanation            *string
	Receiver               string
}

func TestSuites(t *testing.T) {
	for _, suite := range []string{"rfc7208", "pyspf-extra"} {
		var groups []suiteGroup
		suites.ReadJSON(t, "spf/"+suite+".json", &groups)
		passed, total := 0, 0
		for _, g := range groups {
			for _, test := range g.Tests {
				name := suite + "/" + test.ID
				if excluded[name] != "" {
					continue
				}
				total++
				if t.Run(name, func(t *testing.T) { runSuiteCase(t, g.Zone, test) }) {
					passed++
				}
			}
		}
		fmt.Printf("suite spf/%s: %d/%d\n", suite, passed, total)
	}
}

func runSuiteCase(t *testing.T, zoneData []byte, test suiteCase) {
	zone, err := filtertest.ParseZone(zoneData)
	if err != nil {
		t.Fatal(err)
	}
	o := Check(context.Background(), zone, Query{
		IP: netip.MustParseAddr(test.IP), Helo: test.Helo, Sender: test.MailFrom, Receiver: test.Receiver, Now: time.Unix(1e9, 0),
	})
	if !slices.Contains(test.Result, o.Result) {
		t.Errorf("%s from %s: got %+v, want %v", test.MailFrom, test.IP, o, test.Result)
	}
	if want := test.Explanation; want != nil && o.Explanation != *want && !(*want == "DEFAULT" && o.Explanation == "") {
		t.Errorf("explanation %q, want %q", o.Explanation, *want)
	}
	if o.Queries > maxQueries || zone.Queries() != o.Queries {
		t.Errorf("%d queries, %d counted", zone.Queries(), o.Queries)
	}
}
