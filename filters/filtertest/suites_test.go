package filtertest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"gatepost/filters/filtertest/suites"
)

// TestSuiteZones reads every zone of the foreign suites and asks for every name in it.
func TestSuiteZones(t *testing.T) {
	root := suites.Path(t, ".")
	var zones []json.RawMessage
	for _, name := range []string{"spf/rfc7208.json", "spf/pyspf-extra.json", "arc/validation-half.json", "arc/sign.json"} {
		var groups []struct{ Zone json.RawMessage }
		load(t, filepath.Join(root, name), &groups)
		for _, g := range groups {
			zones = append(zones, g.Zone)
		}
	}
	var cases []struct {
		Calls []struct{ Zone json.RawMessage }
	}
	load(t, filepath.Join(root, "dmarc/mailauth-dmarc-verify.json"), &cases)
	for _, c := range cases {
		for _, call := range c.Calls {
			if string(call.Zone) != "null" {
				zones = append(zones, call.Zone)
			}
		}
	}
	files, _ := filepath.Glob(filepath.Join(root, "dkim/*/zone.json"))
	for _, file := range files {
		var zone json.RawMessage
		load(t, file, &zone)
		zones = append(zones, zone)
	}

	passed := 0
	for _, data := range zones {
		z, err := ParseZone(data)
		if err != nil {
			t.Errorf("%.100s: %v", data, err)
			continue
		}
		var names map[string]json.RawMessage
		if err := json.Unmarshal(data, &names); err != nil {
			t.Fatal(err)
		}
		for name := range names {
			if _, exists := z.Find(name); !exists && askable(fold(name)) {
				t.Errorf("%s does not exist", name)
			}
		}
		passed++
	}
	fmt.Printf("suite zones: %d/%d\n", passed, len(zones))
}

func load(t *testing.T, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
