package dmarc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"gatepost/filters"
	"gatepost/filters/authres"
	"gatepost/filters/filtertest"
)

// verdicts are facts of spf and dkim in which nothing is authenticated.
func verdicts(changes ...any) filtertest.Facts {
	f := filtertest.Facts{
		"spf.result": "none", "spf.domain": "", "spf.authenticated": "",
		"dkim.result": "none", "dkim.domains": []string(nil), "dkim.undecided": []string(nil),
	}
	for i := 0; i < len(changes); i += 2 {
		if name := changes[i].(string); changes[i+1] == nil {
			delete(f, name)
		} else {
			f[name] = changes[i+1]
		}
	}
	return f
}

func spfPass(domain string) filtertest.Facts {
	return verdicts("spf.result", "pass", "spf.domain", domain, "spf.authenticated", domain)
}

func dkimPass(domains ...string) filtertest.Facts {
	return verdicts("dkim.result", "pass", "dkim.domains", domains)
}

func messageFrom(fields string) *filters.Message {
	m := filters.NewMessage(1<<20, nil)
	m.Write([]byte(fields + "\r\nbody\r\n"))
	m.Complete()
	return m
}

// judgement is what both looks at a message found.
type judgement struct {
	*RecordFacts
	*Facts
}

// look takes a message through both looks, as the house does.
func look(ctx context.Context, f *Filter, v filters.View) (judgement, error) {
	r, err := f.Record(ctx, v)
	if err != nil {
		return judgement{}, err
	}
	facts := filtertest.Facts{
		"dmarc.domain": r.Domain, "dmarc.record_domain": r.RecordDomain, "dmarc.record": r.Record, "dmarc.organizational": r.Organizational,
		"dmarc.policy": r.Policy, "dmarc.testing": r.Testing, "dmarc.record_problem": r.RecordProblem,
	}
	maps.Copy(facts, v.Facts.(filtertest.Facts))
	v.Facts = facts
	judged, err := f.Message(ctx, v)
	return judgement{r, judged}, err
}

func judge(config Config, resolver filters.Resolver, fields string, facts filtertest.Facts) (judgement, error) {
	f, err := New(config, filtertest.NewEnv(resolver))
	if err != nil {
		return judgement{}, err
	}
	m := messageFrom(fields)
	defer m.Release()
	v := filtertest.Mailed("192.0.2.1", "mail.example.org", "joe@example.org")
	v.Message, v.Facts = m, facts
	return look(context.Background(), f, v)
}

func mustJudge(t *testing.T, resolver filters.Resolver, domain string, facts filtertest.Facts) judgement {
	t.Helper()
	f, err := judge(Defaults(), resolver, "From: joe@"+domain+"\r\n", facts)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAlignment(t *testing.T) {
	zone := filtertest.MustParseZone(`
_dmarc.example.org        TXT v=DMARC1; p=reject; sp=quarantine
_dmarc.strict.example     TXT v=DMARC1; p=reject; adkim=s; aspf=s
_dmarc.dkim.example       TXT v=DMARC1; p=reject; adkim=s
_dmarc.dept.example.org   TXT v=DMARC1; p=none; psd=n
`)
	for _, test := range []struct {
		author  string
		facts   filtertest.Facts
		result  Result
		aligned string
	}{
		{"example.org", verdicts(), Fail, ""},
		{"example.org", spfPass("example.org"), Pass, "spf"},
		{"example.org", spfPass("bounce.example.org"), Pass, "spf"},
		{"example.org", dkimPass("example.org"), Pass, "dkim"},
		{"example.org", dkimPass("example.net", "a.b.example.org"), Pass, "dkim"},
		{"www.example.org", dkimPass("example.org"), Pass, "dkim"},
		{"www.example.org", dkimPass("mail.example.org"), Pass, "dkim"},
		{"example.org", spfPass("example.net"), Fail, ""},
		{"example.org", dkimPass("badexample.org"), Fail, ""},
		{"example.org", dkimPass("org"), Fail, ""},
		{"example.org", verdicts("spf.result", "pass", "spf.authenticated", "example.org", "dkim.result", "pass", "dkim.domains", []string{"a.example.org"}), Pass, "spf+dkim"},
		{"example.org", verdicts("spf.result", "softfail", "spf.domain", "example.org"), Fail, ""},
		{"example.org", verdicts("dkim.result", "fail", "dkim.signers", []string{"example.org"}), Fail, ""},

		// A department that is its own organization.
		{"example.org", dkimPass("x.dept.example.org"), Fail, ""},
		{"x.dept.example.org", dkimPass("example.org"), Fail, ""},
		{"x.dept.example.org", dkimPass("y.dept.example.org"), Pass, "dkim"},

		{"strict.example", dkimPass("strict.example"), Pass, "dkim"},
		{"strict.example", dkimPass("a.strict.example"), Fail, ""},
		{"strict.example", spfPass("a.strict.example"), Fail, ""},
		{"a.strict.example", spfPass("strict.example"), Fail, ""},
		{"dkim.example", spfPass("a.dkim.example"), Pass, "spf"},
		{"dkim.example", dkimPass("a.dkim.example"), Fail, ""},
	} {
		f := mustJudge(t, zone, test.author, test.facts)
		if f.Result != string(test.result) || f.Aligned != test.aligned || f.Problem != "" {
			t.Errorf("%s with %v: %+v", test.author, test.facts, f)
		}
	}
}

func TestRecordsAndPolicies(t *testing.T) {
	zone := filtertest.MustParseZone(`
_dmarc.example.org        TXT v=DMARC1; p=reject; sp=quarantine; np=reject
here.example.org          A   192.0.2.1
text.example.org          TXT no address, but it exists
slow.example.org          TIMEOUT
_dmarc.own.example.org    TXT v=DMARC1; p=none; sp=reject
_dmarc.np.example         TXT v=DMARC1; p=quarantine; np=none
_dmarc.test.example       TXT v=DMARC1; p=reject; sp=quarantine; np=none; t=y
www.test.example          A   192.0.2.1
_dmarc.two.example        TXT v=DMARC1; p=reject
_dmarc.two.example        TXT v=DMARC1; p=none
_dmarc.others.example     TXT v=spf1 -all
_dmarc.others.example     TXT v=DMARC1; p=reject
_dmarc.others.example     TXT v=dmarc1; p=none
_dmarc.bad.example        TXT v=DMARC1; p=refuse
_dmarc.report.example     TXT v=DMARC1; p=refuse; sp=reject; rua=mailto:dmarc@report.example
_dmarc.nop.example        TXT v=DMARC1; adkim=s
_dmarc.uk                 TXT v=DMARC1; p=none
_dmarc.co.uk              TXT v=DMARC1; p=reject; sp=quarantine; psd=y
_dmarc.sub.shop.co.uk     TXT v=DMARC1; p=none
_dmarc.bank.co.uk         TXT v=DMARC1; p=reject
`)
	for _, test := range []struct {
		author, result, policy, record, organization string
	}{
		{"example.org", "fail", "reject", "example.org", "example.org"},
		{"here.example.org", "fail", "quarantine", "example.org", "example.org"},
		{"text.example.org", "fail", "quarantine", "example.org", "example.org"},
		{"gone.example.org", "fail", "reject", "example.org", "example.org"},
		{"slow.example.org", "temperror", "quarantine", "example.org", "example.org"},
		{"own.example.org", "fail", "none", "own.example.org", "example.org"},
		{"below.own.example.org", "fail", "reject", "example.org", "example.org"}, // not what is between
		{"gone.np.example", "fail", "none", "np.example", "np.example"},
		{"test.example", "fail", "quarantine", "test.example", "test.example"},
		{"www.test.example", "fail", "none", "test.example", "test.example"},
		{"gone.test.example", "fail", "none", "test.example", "test.example"},
		{"two.example", "none", "none", "", ""},
		{"others.example", "fail", "reject", "others.example", "others.example"},
		{"bad.example", "none", "none", "", "bad.example"},
		{"report.example", "fail", "none", "report.example", "report.example"},
		{"www.report.example", "fail", "none", "report.example", "report.example"},
		{"nop.example", "fail", "none", "nop.example", "nop.example"},
		{"nothing.example", "none", "none", "", ""},

		// Below a public suffix: its record, if the organization has none, whatever there is further down.
		{"shop.co.uk", "fail", "quarantine", "co.uk", "shop.co.uk"},
		{"a.sub.shop.co.uk", "fail", "quarantine", "co.uk", "shop.co.uk"},
		{"sub.shop.co.uk", "fail", "none", "sub.shop.co.uk", "shop.co.uk"},
		{"www.bank.co.uk", "fail", "reject", "bank.co.uk", "bank.co.uk"},
		{"co.uk", "fail", "reject", "co.uk", "co.uk"},
		{"org.uk", "fail", "none", "uk", "uk"},
	} {
		f := mustJudge(t, zone, test.author, verdicts())
		got := fmt.Sprint(f.Result, " ", f.Policy, " ", f.RecordDomain, " ", f.Organizational)
		want := fmt.Sprint(test.result, " ", test.policy, " ", test.record, " ", test.organization)
		if got != want || f.Domain != test.author || f.Testing != strings.HasSuffix(test.author, "test.example") {
			t.Errorf("%s: %s; want %s", test.author, got, want)
		}
	}
}

func TestPublicSuffixNeighboursAreStrangers(t *testing.T) {
	zone := filtertest.MustParseZone(`
_dmarc.co.uk          TXT v=DMARC1; p=reject; psd=y
_dmarc.bank.co.uk     TXT v=DMARC1; p=reject
`)
	for author, facts := range map[string]filtertest.Facts{
		"bank.co.uk": dkimPass("evil.co.uk"), "shop.co.uk": dkimPass("evil.co.uk", "co.uk"), "www.bank.co.uk": spfPass("co.uk"),
	} {
		if f := mustJudge(t, zone, author, facts); f.Result != "fail" {
			t.Errorf("%s: %+v", author, f)
		}
	}
	if f := mustJudge(t, zone, "a.shop.co.uk", dkimPass("b.shop.co.uk")); f.Result != "pass" {
		t.Errorf("one organization without a record: %+v", f)
	}
}

func TestTemporaryErrors(t *testing.T) {
	const published = `
_dmarc.example.org      TXT v=DMARC1; p=reject
_dmarc.www.example.org  TXT v=DMARC1; p=reject
_dmarc.off.example.org  TIMEOUT
_dmarc.slow.example     SERVFAIL
_dmarc.above.example    TXT v=DMARC1; p=reject
_dmarc.example          TIMEOUT
`
	for _, test := range []struct {
		name, author string
		facts        filtertest.Facts
		want         Result
	}{
		{"the author's record", "slow.example", dkimPass("slow.example"), TempError},
		{"above the author's domain", "gone.above.example", dkimPass("above.example"), TempError},
		{"above, but not needed", "above.example", dkimPass("above.example"), Pass},
		{"above, and needed", "above.example", dkimPass("a.above.example"), TempError},
		{"above, and perhaps the organization", "above.example", dkimPass("other.example"), TempError},
		{"above, but of no use to a stranger", "above.example", dkimPass("example.net"), Fail},
		{"of an identifier", "example.org", dkimPass("off.example.org"), TempError},
		{"of one identifier, another passes", "example.org", dkimPass("off.example.org", "www.example.org"), Pass},

		{"SPF", "example.org", verdicts("spf.result", "temperror", "spf.domain", "bounce.example.org"), TempError},
		{"SPF of a stranger", "example.org", verdicts("spf.result", "temperror", "spf.domain", "example.net"), Fail},
		{"SPF, but DKIM passes", "example.org", verdicts("spf.result", "temperror", "spf.domain", "example.org", "dkim.result", "pass", "dkim.domains", []string{"example.org"}), Pass},
		{"DKIM", "example.org", verdicts("dkim.result", "temperror", "dkim.undecided", []string{"example.net", "example.org"}), TempError},
		{"DKIM of a stranger", "example.org", verdicts("dkim.result", "temperror", "dkim.undecided", []string{"example.net"}), Fail},
		{"DKIM behind a pass of a stranger", "example.org", verdicts("dkim.result", "pass", "dkim.domains", []string{"example.net"}, "dkim.undecided", []string{"example.org"}), TempError},
		{"DKIM, but SPF passes", "example.org", verdicts("spf.result", "pass", "spf.authenticated", "example.org", "dkim.result", "temperror", "dkim.undecided", []string{"example.org"}), Pass},
	} {
		f := mustJudge(t, filtertest.MustParseZone(published), test.author, test.facts)
		if f.Result != string(test.want) || (f.Problem != "") != (test.want == TempError) {
			t.Errorf("%s: %+v", test.name, f)
		}
	}
}

func TestOutOfTimeIsTempError(t *testing.T) {
	f, err := New(Defaults(), filtertest.NewEnv(filtertest.MustParseZone("_dmarc.example.org SILENT")))
	if err != nil {
		t.Fatal(err)
	}
	m := messageFrom("From: joe@example.org\r\n")
	defer m.Release()
	if _, err := m.Header(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 1)
	defer cancel()
	facts, err := look(ctx, f, filters.View{Message: m, Facts: verdicts()})
	if err != nil || facts.Result != "temperror" {
		t.Errorf("%+v, %v", facts, err)
	}
}

// A filter that is off or failed has no facts. That must not make a message fail.
func TestAbsentFacts(t *testing.T) {
	zone := filtertest.MustParseZone("_dmarc.example.org TXT v=DMARC1; p=reject")
	const from = "From: joe@example.org\r\n"
	f, _ := New(Defaults(), filtertest.NewEnv(zone))
	if facts, err := f.Message(t.Context(), filters.View{Facts: dkimPass("example.org")}); err == nil {
		t.Errorf("without a look at the record: %+v", facts)
	}
	for _, name := range []string{"spf.result", "dkim.result"} {
		if f, err := judge(Defaults(), zone, from, verdicts(name, nil)); err == nil {
			t.Errorf("without %s: %+v", name, f)
		}
		if f, err := judge(Defaults(), zone, "From: joe@example.net\r\n", verdicts(name, nil)); err != nil || f.Result != "none" {
			t.Errorf("without %s or a record: %+v, %v", name, f, err)
		}
	}
	pass := dkimPass("example.org")
	delete(pass, "spf.result")
	if f, err := judge(Defaults(), zone, from, pass); err != nil || f.Result != "pass" {
		t.Errorf("dkim alone: %+v, %v", f, err)
	}
}

func TestNoAuthorNeverPasses(t *testing.T) {
	zone := filtertest.MustParseZone("_dmarc.example.org TXT v=DMARC1; p=reject")
	for _, fields := range []string{
		"X: 1\r\n", "From: joe\r\n", "From: joe@example.org\r\nFrom: joe@example.org\r\n", "From: joe@example.org, eve@example.net\r\n", "From: x:;\r\n",
	} {
		f, err := judge(Defaults(), zone, fields, dkimPass("example.org"))
		if err != nil || f.Result != "permerror" || f.Problem == "" || f.Domain != "" || f.Policy != "none" {
			t.Errorf("%q: %+v, %v", fields, f, err)
		}
	}
}

func TestAbortedMessage(t *testing.T) {
	gone := errors.New("the client has left")
	m := filters.NewMessage(1<<20, nil)
	m.Abort(gone)
	f, _ := New(Defaults(), filtertest.NewEnv(filtertest.NewZone()))
	if _, err := f.Record(t.Context(), filters.View{Message: m}); !errors.Is(err, gone) {
		t.Errorf("err = %v", err)
	}
}

func TestPublicSuffixListInstead(t *testing.T) {
	zone := filtertest.MustParseZone(`
_dmarc.example.co.uk    TXT v=DMARC1; p=reject
_dmarc.own.example.org  TXT v=DMARC1; p=quarantine
_dmarc.org              TXT v=DMARC1; p=reject
_dmarc.slow.test        TIMEOUT
`)
	for _, test := range []struct {
		author string
		facts  filtertest.Facts
		want   string
	}{
		{"a.b.example.co.uk", dkimPass("c.example.co.uk"), "pass reject example.co.uk example.co.uk"},
		{"a.b.example.co.uk", dkimPass("evil.co.uk"), "fail reject example.co.uk example.co.uk"},
		{"own.example.org", dkimPass("example.org"), "pass quarantine own.example.org example.org"},
		{"example.org", dkimPass("example.org"), "none none  example.org"},
		{"a.slow.test", dkimPass("a.slow.test"), "temperror none  "},
		{"co.uk", dkimPass("example.co.uk"), "none none  co.uk"},
	} {
		f, err := judge(Config{OrganizationalDomain: "psl"}, zone, "From: x@"+test.author+"\r\n", test.facts)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(f.Result, " ", f.Policy, " ", f.RecordDomain, " ", f.Organizational); got != test.want {
			t.Errorf("%s: %s, want %s", test.author, got, test.want)
		}
	}
}

func TestAuthenticationResults(t *testing.T) {
	zone := filtertest.MustParseZone("_dmarc.example.org TXT v=DMARC1; p=reject; sp=none")
	for fields, want := range map[string]string{
		"From: joe@www.example.org\r\n":          "dmarc=fail header.from=www.example.org policy.dmarc=none",
		"From: joe@example.net\r\n":              "dmarc=none header.from=example.net",
		"From: a@example.org, b@example.net\r\n": `dmarc=permerror reason="the From field has addresses of more than one domain"`,
	} {
		f, err := judge(Defaults(), zone, fields, verdicts())
		if err != nil {
			t.Fatal(err)
		}
		got := string(authres.Format("mx.example.org", f.AuthResults(nil)))
		got = strings.ReplaceAll(strings.ReplaceAll(got, "\r\n\t", " "), "\r\n", "")
		if got != "Authentication-Results: mx.example.org; "+want {
			t.Errorf("%q: %s", fields, got)
		}
	}
}

func TestConfig(t *testing.T) {
	for way, ok := range map[string]bool{"tree_walk": true, "psl": true, "": false, "PSL": false} {
		c := Defaults()
		c.OrganizationalDomain = way
		if err := c.Validate(); (err == nil) != ok {
			t.Errorf("%q: %v", way, err)
		}
	}
	if c := Defaults(); c.Validate() != nil {
		t.Error("the defaults are not valid")
	}
}
