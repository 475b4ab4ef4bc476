package dmarc

import (
	"strings"
	"testing"

	"gatepost/filters/filtertest"
)

func TestParseDestination(t *testing.T) {
	for _, test := range []struct {
		uri, address string
		limit        int64
	}{
		{"mailto:dmarc@example.org", "dmarc@example.org", 0},
		{"MAILTO:Dmarc@Example.ORG", "Dmarc@example.org", 0},
		{"mailto:dmarc@example.org!10m", "dmarc@example.org", 10 << 20},
		{"mailto:dmarc@example.org!50K", "dmarc@example.org", 50 << 10},
		{"mailto:dmarc@example.org!1g", "dmarc@example.org", 1 << 30},
		{"mailto:dmarc@example.org!2t", "dmarc@example.org", 2 << 40},
		{"mailto:dmarc@example.org!123", "dmarc@example.org", 123},
		{"mailto:dmarc%2Brua@example.org", "dmarc+rua@example.org", 0},
		{"mailto:dmarc@b\u00fccher.example", "dmarc@xn--bcher-kva.example", 0},
		{"mailto:dmarc@example.org?bcc=victim@example.net", "dmarc@example.org", 0},

		{"mailto:dmarc@example.org!10x", "", 0},
		{"mailto:dmarc@example.org!", "", 0},
		{"mailto:dmarc@example.org!m", "", 0},
		{"mailto:dmarc@example.org!0", "", 0},
		{"mailto:dmarc@example.org!99999999999999999999t", "", 0},
		{"mailto:dmarc@example.org%0D%0ABcc:victim@example.net", "", 0},
		{"mailto:a%0A@example.org", "", 0},
		{"mailto:%22a b%22@example.org", "", 0},
		{"mailto:-oQ/tmp@example.org", "", 0},
		{"mailto:|sh@example.org", "", 0},
		{"mailto:a%40b@example.org", "", 0},
		{"mailto:a,b@example.org", "", 0},
		{"mailto:a@[192.0.2.1]", "", 0},
		{"mailto:a@localhost", "", 0},
		{"mailto:@example.org", "", 0},
		{"mailto:a@exam\xffple.org", "", 0},
		{"mailto:", "", 0},
		{"https://example.org/dmarc", "", 0},
		{"dmarc@example.org", "", 0},
	} {
		d := parseDestination(test.uri)
		if d.Address != test.address || (d.Problem == "") != (d.Address != "") || test.address != "" && d.Limit != test.limit || d.URI != test.uri {
			t.Errorf("%s: %+v", test.uri, d)
		}
	}
}

func TestDestinations(t *testing.T) {
	zone := filtertest.MustParseZone(`
_dmarc.example.org                               TXT v=DMARC1; p=reject
example.org._report._dmarc.yes.example.net       TXT v=DMARC1
example.org._report._dmarc.semicolon.example.net TXT v=DMARC1;
*._report._dmarc.anybody.example                 TXT v=DMARC1
example.org._report._dmarc.other.example.net     TXT v=spf1 -all
example.org._report._dmarc.moved.example.net     TXT v=DMARC1; rua=mailto:new@moved.example.net!1m, https://moved.example.net/
example.org._report._dmarc.away.example.net      TXT v=DMARC1; rua=mailto:x@victim.example
example.org._report._dmarc.slow.example.net      TIMEOUT
_dmarc.broken.test                               SERVFAIL
`)
	config := Defaults()
	f, err := New(config, filtertest.NewEnv(zone))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ rua, want string }{
		{"mailto:a@example.org", "a@example.org"},
		{"mailto:a@reports.example.org", "a@reports.example.org"}, // one organization
		{"mailto:a@example.net", "!"},
		{"mailto:a@yes.example.net", "a@yes.example.net"},
		{"mailto:a@semicolon.example.net", "a@semicolon.example.net"},
		{"mailto:a@anybody.example", "a@anybody.example"},
		{"mailto:a@other.example.net", "!"},
		{"mailto:a@moved.example.net", "new@moved.example.net !"},
		{"mailto:a@away.example.net", "!"},
		{"mailto:a@slow.example.net", "!"},
		{"mailto:a@broken.test", "!"},
		{"mailto:a@" + strings.Repeat("a.", 110) + "example", "!"},
		{" mailto:a@example.org , mailto:a@example.org,mailto:b@example.net,, mailto:c@example.org", "a@example.org ! c@example.org"},
		{"", ""},
	} {
		var got []string
		for _, d := range f.destinations(t.Context(), "example.org", test.rua) {
			if d.Problem != "" {
				got = append(got, "!")
			} else {
				got = append(got, d.Address)
			}
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%q: %q, want %q", test.rua, got, test.want)
		}
	}
	many := strings.Repeat("mailto:a@yes.example.net,", 100)
	before := zone.Queries()
	f.destinations(t.Context(), "example.org", many)
	if n := zone.Queries() - before; n > 8+maxDestinations {
		t.Errorf("%d queries", n)
	}
}

func FuzzDestination(f *testing.F) {
	f.Add("mailto:a%2Bb@example.org!10m")
	f.Add("mailto:a@b.example?x,https:")
	f.Fuzz(func(t *testing.T, rua string) {
		for _, uri := range splitURIs(rua) {
			d := parseDestination(uri)
			if strings.ContainsAny(d.Address, "\r\n\x00 <>\"\\|`$();,:") || d.Address != "" && strings.Count(d.Address, "@") != 1 || d.Limit < 0 {
				t.Errorf("%q: %+v", uri, d)
			}
		}
	})
}
