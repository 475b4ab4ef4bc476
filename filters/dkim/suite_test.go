package dkim

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/filters/filtertest"
	"gatepost/filters/filtertest/suites"
)

const domainKeys = "DomainKeys (RFC 4870) is historic: it has no DKIM-Signature, so the result must be none"

// excluded are cases that do not count, with the reason. They run all the same: none of them may pass.
var excluded = map[string]string{
	"mail-dkim/good_dk_gmail": domainKeys, "mail-dkim/good_dk_yahoo": domainKeys, "mail-dkim/good_dk_1": domainKeys,
	"mail-dkim/good_dk_2": domainKeys, "mail-dkim/good_dk_3": domainKeys, "mail-dkim/good_dk_4": domainKeys,
	"mail-dkim/good_dk_5": domainKeys, "mail-dkim/good_dk_6": domainKeys, "mail-dkim/good_dk_7": domainKeys,
	"mail-dkim/dk_headers_1": domainKeys, "mail-dkim/dk_headers_2": domainKeys, "mail-dkim/bad_dk_1": domainKeys,
	"mail-dkim/bad_dk_2": domainKeys, "mail-dkim/bad_dk_3": domainKeys, "mail-dkim/bad_dk_4": domainKeys,
	"mail-dkim/bad_dk_5": domainKeys, "mail-dkim/dk_multiple_1": domainKeys,

	// The other two cases of policy are decided as the suite has them: five signatures are looked at (02), and each of
	// several key records is tried (07).
	"chasquid/09-limited_body": "l= never passes here: anybody can append to such a message (RFC 6376, 8.2); two of three",
}

type suiteCase struct {
	ID, Expect, File string
	Modern           string `json:"expect_modern"`
}

func TestSuites(t *testing.T) {
	root := suites.Path(t, "dkim")
	runSuite(t, "mail-dkim", []string{filepath.Join(root, "mail-dkim")}, judgeMailDKIM)
	folders, err := filepath.Glob(filepath.Join(root, "chasquid-[0-9][0-9]"))
	if err != nil || len(folders) == 0 {
		t.Fatal(folders, err)
	}
	runSuite(t, "chasquid", folders, judgeChasquid)
}

func runSuite(t *testing.T, suite string, folders []string, judge func(suiteCase, *Facts) string) {
	passed, total := 0, 0
	for _, folder := range folders {
		var cases []suiteCase
		if err := json.Unmarshal(read(t, folder, "cases.json"), &cases); err != nil {
			t.Fatal(err)
		}
		zone, err := filtertest.ParseZone(read(t, folder, "zone.json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range cases {
			name := suite + "/" + test.ID
			ok := t.Run(name, func(t *testing.T) {
				text := strings.ReplaceAll(strings.ReplaceAll(string(read(t, folder, test.File)), "\r\n", "\n"), "\n", "\r\n")
				f := observe(t, zone, text)
				switch excluded[name] {
				case "":
					if problem := judge(test, f); problem != "" {
						t.Errorf("%s: %s %q (%s)", problem, f.Result, f.Results, f.Reason)
					}
				case domainKeys:
					if f.Result != "none" {
						t.Errorf("%s (%s)", f.Result, f.Reason)
					}
				default:
					if fmt.Sprint(f.Results) != "[policy pass pass]" {
						t.Errorf("%q (%s)", f.Results, f.Reason)
					}
				}
			})
			if excluded[name] == "" {
				total++
				if ok {
					passed++
				}
			}
		}
	}
	fmt.Printf("suite dkim/%s: %d/%d\n", suite, passed, total)
}

func read(t *testing.T, folder, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// judgeMailDKIM goes by expect_modern. Nothing with SHA-1 or a weak key is verified at all, so that "fail" can be any
// refusal there.
func judgeMailDKIM(test suiteCase, f *Facts) string {
	verified := strings.Contains(test.File, "ed25519")
	switch expect, _, _ := strings.Cut(test.Modern, " "); {
	case expect == "pass" && f.Result != "pass",
		expect != "pass" && f.Result == "pass",
		expect == "fail" && verified && f.Result != "fail",
		expect == "invalid" && f.Result == "fail":
		return "want " + test.Modern
	}
	return ""
}

// judgeChasquid compares how many of the signatures that were looked at pass. A message that is an error there has no
// signature here.
func judgeChasquid(test suiteCase, f *Facts) string {
	passes := 0
	for _, r := range f.Results {
		if r == "pass" {
			passes++
		}
	}
	got := fmt.Sprintf("%dof%d", passes, len(f.Results))
	if test.Expect == "error" && f.Result == "none" || got == test.Expect {
		return ""
	}
	return got + ", want " + test.Expect
}
