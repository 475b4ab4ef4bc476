package arc

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/filters/filtertest"
)

type suiteGroup struct {
	Zone  json.RawMessage
	Tests []struct{ ID, Message, CV string }
}

func readSuite(t testing.TB, name string) []suiteGroup {
	t.Helper()
	root := os.Getenv("GATEPOST_SUITES")
	if root == "" {
		root = "../../../shared/suites"
	}
	data, err := os.ReadFile(filepath.Join(root, "arc", name))
	if os.IsNotExist(err) {
		return nil
	}
	var groups []suiteGroup
	if err == nil {
		err = json.Unmarshal(data, &groups)
	}
	if err != nil {
		t.Fatal(err)
	}
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
