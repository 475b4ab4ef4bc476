package dmarc

import (
	"strings"
	"testing"
)

func TestIsRecord(t *testing.T) {
	for text, want := range map[string]bool{
		"v=DMARC1": true, "v=DMARC1;": true, "v=DMARC1;p=none": true, "v = DMARC1 ; p=none": true, "v\t=DMARC1": true,
		"": false, "v": false, "v=": false, "v=dmarc1": false, "V=DMARC1": false, "v=DMARC1 p=none": false, "v=DMARC12; p=none": false,
		" v=DMARC1": false, "p=none; v=DMARC1": false, "v=spf1 -all": false, "v=DMARC1,p=none": false,
	} {
		if isRecord(text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}

func TestParseRecord(t *testing.T) {
	const none, quarantine, reject = policyNone, policyQuarantine, policyReject
	for text, want := range map[string]record{
		"p=reject":                               {policy: reject, subdomains: reject, absent: reject},
		"P=reject":                               {},
		"p=REJECT; sp=None":                      {policy: reject, subdomains: none, absent: none},
		"p = reject ; sp\t= quarantine; np=none": {policy: reject, subdomains: quarantine, absent: none},
		"np=reject;p=none":                       {policy: none, subdomains: none, absent: reject},
		"":                                       {},
		"rua=mailto:a@example.org":               {},
		"sp=reject":                              {subdomains: reject, absent: reject},
		"p=reject; adkim=S; aspf=s; t=Y; psd=N":  {policy: reject, subdomains: reject, absent: reject, strictDKIM: true, strictSPF: true, testing: true, psd: psdNo},
		"p=none; adkim=r; aspf=x; t=n; psd=y":    {psd: psdYes},
		"p=none; psd=u; pct=0; rf=afrf; ri=0; x=y": {},
		"p=reject; junk; =; ;;":                    {policy: reject, subdomains: reject, absent: reject},

		"p=refuse":                             {unusable: true},
		"p=":                                   {unusable: true},
		"p=reject; sp=what":                    {unusable: true},
		"p=reject; np=what; adkim=s":           {unusable: true, strictDKIM: true},
		"p=reject; p=reject":                   {unusable: true},
		"p=refuse; rua=mailto:a@example.org":   {},
		"p=reject; sp=; rua=x, https://x.test": {},
		"p=refuse; rua=mailto:example.org":     {unusable: true},
		"p=refuse; rua=mailto:":                {unusable: true},
		"p=refuse; rua=1x:y":                   {unusable: true},
		"p=refuse; rua=mailto:a b@example.org": {unusable: true},
		"p=reject; t=y; t=y; adkim=s; adkim=s": {policy: reject, subdomains: reject, absent: reject},
	} {
		if got := parseRecord("v=DMARC1; " + text); got != want {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
	long := "v=DMARC1; " + strings.Repeat("x=1; ", 100_000) + "p=reject"
	if got := parseRecord(long); got.policy != none {
		t.Errorf("a tag beyond the limit was read: %+v", got)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add("v=DMARC1; p=quarantine; sp=reject; np=none; t=y; psd=n; adkim=s; aspf=r; rua=mailto:a@example.org,https://x.test; fo=d:s")
	f.Add("v = DMARC1")
	f.Fuzz(func(t *testing.T, text string) {
		if !isRecord(text) {
			return
		}
		r := parseRecord(text)
		if r.policy > policyReject || r.subdomains > policyReject || r.absent > policyReject {
			t.Errorf("%q: %+v", text, r)
		}
		if r.unusable && r.policy+r.subdomains+r.absent > 0 {
			t.Errorf("%q: unusable, but %+v", text, r)
		}
		if wider := parseRecord(text + ";"); len(text) < maxRecord-1 && wider != r {
			t.Errorf("%q: a last semicolon changes %+v to %+v", text, r, wider)
		}
	})
}

// What the facts say of a record is read as the record itself is.
func TestPrintableRecords(t *testing.T) {
	long := "v=DMARC1; p=reject; x=" + strings.Repeat("y", maxRecord-60) + "; adkim=s; rua=mailto:a@example.org,mailto:b@example.org; aspf=s"
	for _, test := range []struct{ text, want string }{
		{"v=DMARC1; p=reject", "v=DMARC1; p=reject"},
		{"v=DMARC1;\tp=reject\t;", "v=DMARC1; p=reject ;"},
		{"v=DMARC1; p=reject; x=\x1b[31m\x00\xff", "v=DMARC1; p=reject; x=?[31m??"},
		{long, long[:strings.Index(long, " rua")]},
	} {
		got := printable(test.text)
		if got != test.want || parseRecord(got) != parseRecord(test.text) {
			t.Errorf("%q: %q", test.text, got)
		}
	}
	if r := parseRecord(long); !r.strictDKIM || r.strictSPF {
		t.Errorf("a long record: %+v", r)
	}
}
