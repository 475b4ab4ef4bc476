// Package suites finds test material that was written elsewhere: public suites of SPF, DKIM, ARC, DMARC, SMTP and MIME.
// It is no part of this repository. Where it is not at hand, the tests that need it are skipped and say so.
package suites

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// Variable is the environment variable that names the folder of the suites. Without it they are looked for beside the
// module's folder, in ../shared/suites.
const Variable = "GATEPOST_SUITES"

// Find returns the path of a suite's file or folder, named with slashes, or an empty string where it is not at hand.
func Find(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(root(t), filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// Path returns what Find finds, or skips the test.
func Path(t testing.TB, name string) string {
	t.Helper()
	path := Find(t, name)
	if path == "" {
		t.Skipf("no foreign suites here: %s is missing", name)
	}
	return path
}

// Read returns the content of a suite's file, or skips the test.
func Read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(Path(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// ReadJSON decodes a suite's file, or skips the test.
func ReadJSON(t testing.TB, name string, into any) {
	t.Helper()
	if err := json.Unmarshal(Read(t, name), into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func root(t testing.TB) string {
	if folder := os.Getenv(Variable); folder != "" {
		return folder
	}
	folder, err := os.Getwd() // go test runs in the package's folder
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return filepath.Join(filepath.Dir(folder), "shared", "suites")
		}
		up := filepath.Dir(folder)
		if up == folder {
			t.Fatal("no go.mod in any folder above")
		}
		folder = up
	}
}
