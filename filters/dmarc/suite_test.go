package dmarc

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gatepost/filters/filtertest"
)

// suites is where the foreign material is, or the test is skipped.
func suites(t *testing.T) string {
	root := os.Getenv("GATEPOST_SUITES")
	if root == "" {
		root = "../../../shared/suites"
	}
	root = filepath.Join(root, "dmarc")
	if _, err := os.Stat(root); err != nil {
		t.Skip("no foreign suites here")
	}
	return root
}

type mailauthCase struct {
	Name    string
	Calls   []mailauthCall
	Asserts []string
}

type mailauthCall struct {
	In struct {
		HeaderFrom              json.RawMessage
		SPFDomains, DKIMDomains []struct{ Domain string }
	}
	Zone   json.RawMessage
	Result *struct{ Result, Policy, P, SP, Domain string } `json:"mailauth_result"`
}

func TestMailauth(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(suites(t), "mailauth-dmarc-verify.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []mailauthCase
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	passed := 0
	for _, c := range cases {
		if t.Run(c.Name, func(t *testing.T) {
			for _, call := range c.Calls {
				call.run(t, c)
			}
		}) {
			passed++
		}
	}
	fmt.Printf("suite dmarc/mailauth: %d/%d\n", passed, len(cases))
}

var assertedPolicy = regexp.MustCompile(`result\.policy\)\.to\.equal\('(\w+)'\)`)

func (call *mailauthCall) run(t *testing.T, c mailauthCase) {
	var from string
	for i, address := range call.addresses(t) {
		if !strings.Contains(address, "@") {
			address = "user@" + address // its function also takes a bare domain, which is no From field
		}
		from += fmt.Sprintf("From: User %d <%s>\r\n", i, address)
	}
	facts := verdicts()
	for _, d := range call.In.SPFDomains {
		facts["spf.result"], facts["spf.domain"], facts["spf.authenticated"] = "pass", d.Domain, d.Domain
	}
	for _, d := range call.In.DKIMDomains {
		facts["dkim.result"], facts["dkim.domains"] = "pass", []string{d.Domain}
	}
	f, err := judge(Defaults(), call.zone(t, c.Name), from, facts)
	if err != nil {
		t.Fatal(err)
	}
	if call.Result == nil { // "false": not evaluated at all
		if f.Result != "permerror" {
			t.Errorf("%+v", f)
		}
		return
	}
	if f.Result != call.Result.Result || call.Result.Policy != "" && f.Policy != call.Result.Policy {
		t.Errorf("%+v, want %+v", f, call.Result)
	}
	for _, a := range c.Asserts {
		if m := assertedPolicy.FindStringSubmatch(a); m != nil && m[1] != f.Policy {
			t.Errorf("policy %s: %s", f.Policy, a)
		}
	}
}

func (call *mailauthCall) addresses(t *testing.T) (list []string) {
	if json.Unmarshal(call.In.HeaderFrom, &list) == nil {
		return list
	}
	list = make([]string, 1)
	if err := json.Unmarshal(call.In.HeaderFrom, &list[0]); err != nil {
		t.Fatal(err)
	}
	return list
}

// zone is the case's own, or where the suite has lost it, made from what it says was read there and from its name.
func (call *mailauthCall) zone(t *testing.T, name string) *filtertest.Zone {
	if len(call.Zone) > 0 && string(call.Zone) != "null" {
		zone, err := filtertest.ParseZone(call.Zone)
		if err != nil {
			t.Fatal(err)
		}
		return zone
	}
	zone := filtertest.NewZone()
	if call.Result == nil {
		zone.Add("_dmarc.example.com", "TXT", "v=DMARC1; p=reject")
		return zone
	}
	r, domain := call.Result, call.Result.Domain
	switch {
	case strings.Contains(name, "no DMARC record exists"):
		return zone
	case strings.Contains(name, "DNS failure"):
		zone.Add("_dmarc."+domain, "TIMEOUT", "")
		return zone
	case strings.Contains(name, "has its own record"):
		zone.Add("_dmarc."+domain, "TXT", "v=DMARC1; p=none")
		domain = "mail." + domain
	}
	text := "v=DMARC1; p=" + r.P
	if r.SP != r.P {
		text += "; sp=" + r.SP
	}
	for _, strict := range []string{"adkim=s", "aspf=s"} {
		if strings.Contains(name, strict) {
			text += "; " + strict
		}
	}
	if strings.Contains(name, "all common tags") {
		text += "; pct=50; rua=mailto:dmarc@example.com; ruf=mailto:dmarc@example.com; adkim=r; aspf=r; fo=1; ri=3600"
	}
	zone.Add("_dmarc."+domain, "TXT", text)
	return zone
}

func TestPublicSuffixes(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(suites(t), "psl-tests.txt"))
	if err != nil {
		t.Fatal(err)
	}
	passed, total := 0, 0
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(line)
		if len(words) != 2 || strings.HasPrefix(words[0], "//") {
			continue
		}
		total++
		if t.Run(words[0], func(t *testing.T) {
			name, ok := words[0], words[0] != "null"
			if ok {
				name, ok = asciiName(name)
			}
			got := "null"
			if ok {
				if organization, found := listedOrganization(name); found {
					got = organization
				}
			}
			want := words[1]
			if want != "null" {
				want, _ = asciiName(want)
			}
			if got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}) {
			passed++
		}
	}
	fmt.Printf("suite dmarc/psl: %d/%d\n", passed, total)
}
