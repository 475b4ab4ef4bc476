package dmarc

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"gatepost/filters/filtertest"
	"gatepost/filters/filtertest/suites"

	"gatepost/filters"
)

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
	Result *struct {
		Result, Policy, P, SP, Domain string
		Alignment                     map[string]string
	} `json:"mailauth_result"`
}

func TestMailauth(t *testing.T) {
	var cases []mailauthCase
	suites.ReadJSON(t, "dmarc/mailauth-dmarc-verify.json", &cases)
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

// notOurs are assertions about what its function returns beside a judgement, by what they begin with.
var notOurs = map[string]string{
	"result.pct":                       "pct is gone (RFC 9989)",
	"result.error":                     "the words of its error",
	"result.status.comment":            "a comment in its header field; ours has a result of its own for ARC",
	"result.info":                      "its own header field, as text",
	"result.alignment.dkim.underSized": "l= never passes here, so there is no such signature",
	"relaxed.":                         "of two calls; each is judged by its own result",
	"strict.":                          "of two calls; each is judged by its own result",
}

var assertion = regexp.MustCompile(`^expect\(([\w.]+)\)\.to\.(be\.false|be\.true|not\.be\.ok|equal\('([^']*)('\)|$))`)

// run judges a call in both ways to find the organization: none of the cases makes a difference between them.
func (call *mailauthCall) run(t *testing.T, c mailauthCase) {
	for _, way := range []string{treeWalk, list} {
		config := Defaults()
		config.OrganizationalDomain = way
		f, err := judge(config, call.zone(t, c.Name), call.from(t), call.facts())
		if err != nil {
			t.Fatal(err)
		}
		call.compare(t, way, f)
		for _, a := range c.Asserts {
			call.assert(t, a, f)
		}
	}
}

func (call *mailauthCall) from(t *testing.T) (fields string) {
	for i, address := range call.addresses(t) {
		if !strings.Contains(address, "@") {
			address = "user@" + address // its function also takes a bare domain, which is no From field
		}
		fields += fmt.Sprintf("From: User %d <%s>\r\n", i, address)
	}
	return fields
}

func (call *mailauthCall) facts() filtertest.Facts {
	facts := verdicts()
	for _, d := range call.In.SPFDomains {
		facts["spf.result"], facts["spf.domain"], facts["spf.authenticated"] = "pass", d.Domain, d.Domain
	}
	for _, d := range call.In.DKIMDomains {
		facts["dkim.result"], facts["dkim.domains"] = "pass", []string{d.Domain}
	}
	return facts
}

// compare holds a judgement against the one that its function gave.
func (call *mailauthCall) compare(t *testing.T, way string, f judgement) {
	want := call.Result
	if want == nil { // "false": not evaluated at all
		if f.Result != "permerror" || f.Aligned != "" || f.Domain != "" {
			t.Errorf("%s: %+v %+v", way, f.Facts, f.RecordFacts)
		}
		return
	}
	var aligned []string
	for _, method := range []string{"spf", "dkim"} {
		if want.Alignment[method] != "" {
			aligned = append(aligned, method)
		}
	}
	if f.Result != want.Result || want.Policy != "" && f.Policy != want.Policy || f.Aligned != strings.Join(aligned, "+") {
		t.Errorf("%s: %+v %+v, want %+v", way, f.Facts, f.RecordFacts, want)
	}
	// Its "domain" is the organizational domain by the list.
	if way == list && want.Result != "temperror" && f.Organizational != want.Domain {
		t.Errorf("organization %s, want %s", f.Organizational, want.Domain)
	}
	if want.P != "" {
		r := parseRecord(f.RecordFacts.Record)
		if r.policy.String() != want.P || r.subdomains.String() != want.SP {
			t.Errorf("the record says %s and %s, want %+v", r.policy, r.subdomains, want)
		}
	}
}

// assert checks what the case itself asserts. What is not understood is a failure.
func (call *mailauthCall) assert(t *testing.T, text string, f judgement) {
	for start := range notOurs {
		if strings.HasPrefix(text, "expect("+start) {
			return
		}
	}
	m := assertion.FindStringSubmatch(text)
	if m == nil {
		t.Errorf("not understood: %s", text)
		return
	}
	r := parseRecord(f.RecordFacts.Record)
	ok := false
	switch m[1] {
	case "result":
		ok = m[2] == "be.false" && f.Result == "permerror"
	case "result.status.result":
		ok = f.Result == m[3]
	case "result.policy":
		ok = f.Policy == m[3]
	case "result.p":
		ok = r.policy.String() == m[3]
	case "result.sp":
		ok = r.subdomains.String() == m[3]
	case "result.rr":
		ok = strings.HasPrefix(f.RecordFacts.Record, m[3])
	case "result.domain":
		ok = filters.IsWithin(f.Organizational, m[3])
	case "result.status.header.from":
		ok = f.RecordFacts.Domain == m[3]
	case "result.status.header.d":
		ok = f.RecordDomain == m[3]
	case "result.alignment.dkim.strict":
		ok = r.strictDKIM == (m[2] == "be.true")
	case "result.alignment.spf.strict":
		ok = r.strictSPF == (m[2] == "be.true")
	case "result.alignment.dkim.result":
		ok = m[2] == "not.be.ok" && f.Aligned == "spf"
	case "result.alignment.spf.result":
		ok = strings.Contains(f.Aligned, "spf") && call.In.SPFDomains[0].Domain == m[3]
	}
	if !ok {
		t.Errorf("%s: %+v %+v", text, f.Facts, f.RecordFacts)
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
	data := suites.Read(t, "dmarc/psl-tests.txt")
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
				name, ok = filters.ASCIIName(name)
			}
			got := "null"
			if ok {
				if organization, found := listedOrganization(name); found {
					got = organization
				}
			}
			want := words[1]
			if want != "null" {
				want, _ = filters.ASCIIName(want)
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
