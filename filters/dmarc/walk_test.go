package dmarc

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gatepost/filters/filtertest"

	"gatepost/filters"
)

func TestWalk(t *testing.T) {
	for _, test := range []struct{ domain, names string }{
		{"com", "com"},
		{"a.mail.example.com", "a.mail.example.com mail.example.com example.com com"},
		{"1.2.3.4.5.6.7.8", "1.2.3.4.5.6.7.8 2.3.4.5.6.7.8 3.4.5.6.7.8 4.5.6.7.8 5.6.7.8 6.7.8 7.8 8"},
		{"a.b.c.d.e.f.g.h.i.j.mail.example.com", "a.b.c.d.e.f.g.h.i.j.mail.example.com g.h.i.j.mail.example.com h.i.j.mail.example.com " +
			"i.j.mail.example.com j.mail.example.com mail.example.com example.com com"}, // RFC 9989, 4.10
	} {
		zone := filtertest.NewZone()
		tree := &tree{ctx: t.Context(), resolver: zone}
		if found, err := tree.walk(test.domain); err != nil || len(found) > 0 {
			t.Errorf("%s: %v, %v", test.domain, found, err)
		}
		var names []string
		for _, p := range tree.asked {
			names = append(names, p.domain)
			if zone.Asked("TXT", "_dmarc."+p.domain) != 1 {
				t.Errorf("%s was not asked for", p.domain)
			}
		}
		if got := strings.Join(names, " "); got != test.names || zone.Queries() != len(names) {
			t.Errorf("%s: %s (%d queries)", test.domain, got, zone.Queries())
		}
	}
}

func TestWalkEndsAtPSD(t *testing.T) {
	for _, psd := range []string{"y", "n"} {
		zone := filtertest.MustParseZone("_dmarc.example.org TXT v=DMARC1; psd=" + psd + "\n_dmarc.org TXT v=DMARC1; p=reject")
		mustJudge(t, zone, "a.example.org", verdicts())
		if zone.Asked("TXT", "_dmarc.org") != 0 {
			t.Errorf("psd=%s: the walk went on", psd)
		}
	}
}

// Whatever the signers choose, the number of questions is bounded, and no name is asked for twice.
func TestQueriesOfOneMessage(t *testing.T) {
	zone := filtertest.MustParseZone("*.example TXT v=DMARC1; p=reject; np=none")
	author := strings.Repeat("a.", 100) + "example"
	var signers []string
	for _, label := range []string{"b.", "c.", "d.", "e.", "f."} {
		signers = append(signers, strings.Repeat(label, 100)+"example")
	}
	facts := dkimPass(signers...)
	facts["spf.result"], facts["spf.authenticated"] = "pass", strings.Repeat("g.", 100)+"example"
	mustJudge(t, zone, author, facts)
	if n := zone.Queries(); n > 8+1+6*7 {
		t.Errorf("%d queries", n)
	}
	// Strangers cost nothing.
	zone = filtertest.MustParseZone("_dmarc.example.org TXT v=DMARC1; p=reject")
	mustJudge(t, zone, "example.org", dkimPass("example.net", "a.example.com"))
	if n := zone.Queries(); n != 2 {
		t.Errorf("%d queries", n)
	}
}

// In whatever tree of records: who passes is the author's domain, or within its organizational domain, and then each
// would pass for the other.
func TestOnlyTheOrganizationPasses(t *testing.T) {
	label := rapid.SampledFrom([]string{"a", "b"})
	name := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(append(rapid.SliceOfN(label, 0, 3).Draw(t, "labels"), "example"), ".")
	})
	passes := 0
	rapid.Check(t, func(t *rapid.T) {
		zone := filtertest.NewZone()
		for _, domain := range rapid.SliceOfN(name, 0, 5).Draw(t, "records") {
			zone.Add("_dmarc."+domain, "TXT", "v=DMARC1; p=reject; psd="+rapid.SampledFrom([]string{"u", "y", "n"}).Draw(t, "psd"))
		}
		one, other := name.Draw(t, "one"), name.Draw(t, "other")
		f, err := judge(Defaults(), zone, "From: x@"+one+"\r\n", dkimPass(other))
		if err != nil {
			t.Fatal(err)
		}
		if f.Result != "pass" || one == other {
			return
		}
		passes++
		if f.Organizational == "" || !filters.IsWithin(one, f.Organizational) || !filters.IsWithin(other, f.Organizational) {
			t.Fatalf("%s passes for %s: %+v", other, one, f)
		}
		if back, err := judge(Defaults(), zone, "From: x@"+other+"\r\n", dkimPass(one)); err != nil || back.Result != "pass" || back.Organizational != f.Organizational {
			t.Fatalf("%s passes for %s, but not the other way round: %+v, %v", other, one, back, err)
		}
	})
	if passes == 0 {
		t.Error("nothing passed")
	}
}
