package arc

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"gatepost/filters/filtertest"
	"gatepost/filters/filtertest/suites"
)

type suiteGroup struct {
	Zone  json.RawMessage
	Tests []struct{ ID, Message, CV string }
}

func readSuite(t testing.TB, name string) []suiteGroup {
	t.Helper()
	if suites.Find(t, "arc/"+name) == "" {
		return nil
	}
	var groups []suiteGroup
	suites.ReadJSON(t, "arc/"+name, &groups)
	return groups
}

// TestSuite leaves no case out. Where the suite expects nothing ("") a seal says cv=fail: there is nothing left to
// validate for the suite, and RFC 8617, 5.2 calls that a fail.
func TestSuite(t *testing.T) {
	groups := readSuite(t, "validation-half.json")
	if groups == nil {
		t.Skip("no foreign suites here")
	}
	passed, total := 0, 0
	for _, g := range groups {
		zone, err := filtertest.ParseZone(g.Zone)
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range g.Tests {
			want := Result(strings.ToLower(test.CV))
			if want == "" {
				want = Fail
			}
			total++
			if t.Run(test.ID, func(t *testing.T) {
				if c := validateText(t, zone, test.Message); c.result != want {
					t.Errorf("got %s (%s), want %s", c.result, c.reason, want)
				}
			}) {
				passed++
			}
		}
	}
	fmt.Printf("suite arc/validation: %d/%d\n", passed, total)
}
