package policy

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// mayImport says which packages of this module a package may import. The folders are the layers, and imports point one
// way: cmd → proxy → policy → {filters, rules}.
func mayImport(from, to string) bool {
	parts := strings.Split(from, "/")
	if len(parts) < 2 {
		return false
	}
	switch parts[1] {
	case "cmd":
		return true
	case "proxy":
		return !under(to, "gatepost/cmd")
	case "policy":
		return under(to, "gatepost/policy") || under(to, "gatepost/filters") || under(to, "gatepost/rules")
	case "rules":
		return under(to, "gatepost/rules")
	case "filters":
		return len(parts) > 2 && filterMayImport(parts[2], to)
	default:
		return false
	}
}

// filterMayImport: a filter knows the contract, what several filters are built from, and nothing of other filters. The
// table and the test kit know all.
func filterMayImport(name, to string) bool {
	switch {
	case to == "gatepost/filters", under(to, "gatepost/filters/"+name),
		to == "gatepost/filters/authres", to == "gatepost/filters/canonical":
		return true
	default:
		return (name == "all" || name == "filtertest") && under(to, "gatepost/filters")
	}
}

func under(path, folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }

func TestImportsPointOneWay(t *testing.T) {
	command := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	command.Dir = ".."
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	seen := 0
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		for _, imported := range p.Imports {
			if under(imported, "gatepost") && !mayImport(p.ImportPath, imported) {
				t.Errorf("%s must not import %s", p.ImportPath, imported)
			}
		}
	}
	if seen < 4 {
		t.Errorf("go list found %d packages", seen)
	}
}

func TestImportRules(t *testing.T) {
	for _, test := range []struct {
		from, to string
		may      bool
	}{
		{"gatepost/cmd/gatepost", "gatepost/proxy/wire", true},
		{"gatepost/proxy", "gatepost/policy", true},
		{"gatepost/proxy/wire", "gatepost/filters", true},
		{"gatepost/policy", "gatepost/filters/authres", true},
		{"gatepost/policy", "gatepost/proxy", false},
		{"gatepost/rules", "gatepost/filters", false},
		{"gatepost/filters", "gatepost/rules", false},
		{"gatepost/filters", "gatepost/filters/spf", false},
		{"gatepost/filters/spf", "gatepost/filters", true},
		{"gatepost/filters/spf", "gatepost/filters/authres", true},
		{"gatepost/filters/dkim", "gatepost/filters/canonical", true},
		{"gatepost/filters/dmarc", "gatepost/filters/spf", false},
		{"gatepost/filters/spf/macro", "gatepost/filters/spf", true},
		{"gatepost/filters/all", "gatepost/filters/spf", true},
		{"gatepost/filters/spf", "gatepost/policy", false},
		{"gatepost/filters/filtertest", "gatepost/filters/authres", true},
		{"gatepost/elsewhere", "gatepost/rules", false},
	} {
		if got := mayImport(test.from, test.to); got != test.may {
			t.Errorf("%s imports %s: %v", test.from, test.to, got)
		}
	}
}
