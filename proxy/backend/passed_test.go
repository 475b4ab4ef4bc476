package backend

import (
	"strings"
	"testing"
)

func TestPassed(t *testing.T) {
	allowed := []string{"MT-PRIORITY", "RRVS", "X-LOCAL", "LIMITS"}
	e := parseExtensions(mustReply(t, "250-backend.test\r\n250-X-LOCAL a b\r\n250-rrvs\r\n250-MT-PRIORITY STANAG4406\r\n250-DELIVERBY 10\r\n250 PRDR\r\n"), allowed)
	if got := strings.TrimSpace(e.Passed[0].String() + ", " + e.Passed[1].String() + ", " + e.Passed[2].String()); got != "MT-PRIORITY STANAG4406, RRVS, X-LOCAL a b" || len(e.Passed) != 3 {
		t.Fatalf("passed: %v", e.Passed)
	}
	for key, want := range map[string][2]bool{"MT-PRIORITY": {true, false}, "mt-priority": {true, false}, "RRVS": {false, true}, "X-LOCAL": {true, true},
		"BY": {false, false}, "PRDR": {false, false}, "": {false, false}} {
		if got := [2]bool{e.PassesMail(key), e.PassesRcpt(key)}; got != want {
			t.Errorf("%s: %v, want %v", key, got, want)
		}
	}
	other := parseExtensions(mustReply(t, "250-b\r\n250-X-LOCAL c\r\n250 RRVS\r\n"), allowed)
	if both := e.and(other).Passed; len(both) != 1 || both[0].Name != "RRVS" {
		t.Errorf("of both: %v", both)
	}
	if got := other.missing(e); got != "MT-PRIORITY STANAG4406" {
		t.Errorf("missing: %q", got)
	}
}

func TestPassable(t *testing.T) {
	for keyword, want := range map[string]bool{"MT-PRIORITY": true, "deliverby": true, "X-LOCAL": true, "XVERP": true, "PRDR": false, "PIPECONNECT": false,
		"XCLIENT": false, "XEXDATA": false, "AUTH": false, "STARTTLS": false, "8BITMIM": false, "": false, "X": false, "X Y": false, "X=": false} {
		if got := passable(keyword); got != want {
			t.Errorf("%q: %t", keyword, got)
		}
	}
}

func TestLimits(t *testing.T) {
	for args, want := range map[string]string{
		"":                                  "LIMITS",
		"RCPTMAX=20 mailmax=5":              "LIMITS MAILMAX=5 RCPTMAX=20",
		"RCPTDOMAINMAX=1 FOO=7 RCPTMAX=x":   "LIMITS RCPTDOMAINMAX=1",
		"RCPTMAX=0 MAILMAX=9999999 RCPTMAX": "LIMITS",
	} {
		if got := parseLimits(args).String(); got != want {
			t.Errorf("%q: %q, want %q", args, got, want)
		}
	}
	a, b := Limits{Offered: true, Mail: 5, Rcpt: 20}, Limits{Offered: true, Rcpt: 10, Domains: 3}
	if got := a.and(b); got != (Limits{Offered: true, Mail: 5, Rcpt: 10, Domains: 3}) || b.and(a) != got {
		t.Errorf("both: %+v", got)
	}
	if got := a.and(Limits{}); got.Offered {
		t.Errorf("only one: %+v", got)
	}
	if got := (Limits{Offered: true}).WithRecipients(7).String(); got != "LIMITS RCPTMAX=7" {
		t.Error(got)
	}
}
