package arc

import (
	"strings"
	"testing"

	"gatepost/filters/filtertest"
)

// TestWhoIsBelieved seals a message by these domains in turn; each records its own name as the domain in From.
func TestWhoIsBelieved(t *testing.T) {
	for _, test := range []struct {
		sealers, trusted, by string
	}{
		{"a", "a", "a"},
		{"a", "", ""},
		{"a", "b", ""},
		{"a b", "b", "b"},
		{"a b", "a", ""}, // b may have changed anything
		{"a b", "a b", "a"},
		{"a b c", "b c", "b"},
		{"a b c", "a c", "c"}, // what a recorded has gone through the hands of b
		{"a b c", "a b", ""},
		{"a b a", "a", "a"},
		{"A", "a", "a"},
		{"sub.a", "a", ""},
	} {
		zone := filtertest.NewZone()
		text := letter
		for domain := range strings.FieldsSeq(test.sealers) {
			s := newSigner(zone, domain+".example")
			s.results = "dmarc=pass header.from=" + strings.ToUpper(domain) + ".example; spf=softfail; dkim=none"
			text = s.seal(text)
		}
		var trusted []string
		for domain := range strings.FieldsSeq(test.trusted) {
			trusted = append(trusted, domain+".example")
		}
		facts := look(t, zone, trusted, text)
		by, dmarc, spf, dkim := "", "", "", ""
		if test.by != "" {
			by, dmarc, spf, dkim = test.by+".example", "pass", "softfail", "none"
		}
		if facts.Result != "pass" || *facts.Trusted != (by != "") || *facts.RecordedBy != by || *facts.RecordedFrom != by ||
			*facts.RecordedDMARC != dmarc || *facts.RecordedSPF != spf || *facts.RecordedDKIM != dkim {
			t.Errorf("%+v: %s, %v, %q %q %q %q %q", test, facts.Result, *facts.Trusted, *facts.RecordedBy, *facts.RecordedFrom,
				*facts.RecordedDMARC, *facts.RecordedSPF, *facts.RecordedDKIM)
		}
	}
}

// TestForeignFrom replays what a trusted server has sealed with another author on top.
func TestForeignFrom(t *testing.T) {
	forged := func(text string) string { return "From: Mallory <ceo@example.org>\r\n" + text }
	for _, test := range []struct {
		names   string
		message func(string) string
		result  Result
		trusted bool
	}{
		{"from:to", nil, Pass, true},
		{"from:to", forged, Pass, false},
		{"from:from:to", nil, Pass, true},
		{"from:from:to", forged, Fail, false},
		{"to:subject", nil, Pass, false},
		{"", nil, Pass, false},
	} {
		zone := filtertest.NewZone()
		s := newSigner(zone, "one.example")
		s.names = test.names
		text := s.seal(letter)
		if test.message != nil {
			text = test.message(text)
		}
		if facts := look(t, zone, []string{"one.example"}, text); facts.Result != string(test.result) || *facts.Trusted != test.trusted {
			t.Errorf("%+v: %s (%s), %v", test, facts.Result, facts.Reason, *facts.Trusted)
		}
	}
	zone := filtertest.NewZone()
	nobody := newSigner(zone, "one.example").seal(strings.Replace(letter, "From:", "X-From:", 1))
	if facts := look(t, zone, []string{"one.example"}, nobody); facts.Result != "pass" || *facts.Trusted {
		t.Errorf("no From: %s, %v", facts.Result, *facts.Trusted)
	}
}

func TestReadRecord(t *testing.T) {
	for payload, want := range map[string]record{
		" mx.example.org; dmarc=pass (p=none) header.from=example.com": {dmarc: "pass", from: "example.com"},
		" mx.example.org 1; none":                                      {},
		" mx.example.org; spf=fail smtp.helo=mx.example; spf=pass smtp.mfrom=a@example.com; dkim=fail header.d=a; dkim=pass header.d=b; dkim=fail": {spf: "pass", dkim: "pass"},
		" mx; spf=pass smtp.mailfrom=example.com; spf=fail smtp.helo=x":                                                                            {spf: "pass"},
		" mx; dmarc=fail header.from=\"a b\"; dmarc=pass":                                                                                          {dmarc: "fail"},
		" mx (dmarc=pass; spf=pass); dkim=fail reason=\"; dmarc=pass\"":                                                                            {dkim: "fail"},
		" spf=pass":       {spf: "pass"},
		" (":              {},
		" mx; DMARC=PASS": {dmarc: "pass"},
	} {
		if got := readRecord(payload); got != want {
			t.Errorf("%q: got %+v, want %+v", payload, got, want)
		}
	}
}
