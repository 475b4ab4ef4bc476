package filtertest

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/filters"
)

const sample = `
# a small world
Example.ORG              MX   10 mx.example.org.
example.org              TXT  v=spf1 mx -all
example.org              TXT  "two " "parts; \"quoted\""
mx.example.org           A    192.0.2.25
mx.example.org           AAAA 2001:db8::25
192.0.2.25               PTR  mx.example.org
2001:db8::25             PTR  mx.example.org
null.example             MX   0 .
*.wild.example           A    127.0.0.2
real.wild.example        TXT  here
alias.example            CNAME mx.example.org
loop.example             CNAME loop.example
dangling.example         CNAME nowhere.example
slow.example             TIMEOUT
half.example             TXT  answered
half.example             TIMEOUT
broken.example           SERVFAIL
`

func TestZoneText(t *testing.T) {
	z := MustParseZone(sample)
	a := func(name string) (any, error) { return listed(z.LookupA(t.Context(), name)) }
	txt := func(name string) (any, error) { return listed(z.LookupTXT(t.Context(), name)) }
	mx := func(name string) (any, error) { return listed(z.LookupMX(t.Context(), name)) }
	ptr := func(ip string) (any, error) { return listed(z.LookupPTR(t.Context(), netip.MustParseAddr(ip))) }
	for _, c := range []struct {
		name string
		ask  func(string) (any, error)
		of   string
		want any
		err  error
	}{
		{"address", a, "mx.example.org", []netip.Addr{netip.MustParseAddr("192.0.2.25")}, nil},
		{"case and final dot do not count", a, "MX.example.org.", []netip.Addr{netip.MustParseAddr("192.0.2.25")}, nil},
		{"texts", txt, "example.org", []string{"v=spf1 mx -all", `two parts; "quoted"`}, nil},
		{"exchanger", mx, "example.org", []filters.MX{{Preference: 10, Host: "mx.example.org"}}, nil},
		{"null exchanger", mx, "null.example", []filters.MX{{}}, nil},
		{"IPv4 backwards", ptr, "192.0.2.25", []string{"mx.example.org"}, nil},
		{"IPv4 in IPv6 backwards", ptr, "::ffff:192.0.2.25", []string{"mx.example.org"}, nil},
		{"IPv6 backwards", ptr, "2001:db8::25", []string{"mx.example.org"}, nil},
		{"no such record", txt, "mx.example.org", []string(nil), nil},
		{"no such name", a, "nowhere.example", nil, filters.ErrNXDomain},
		{"a name with others below", a, "org", []netip.Addr(nil), nil},
		{"empty label", a, "a..example", nil, filters.ErrNXDomain},
		{"long label", a, strings.Repeat("a", 64) + ".wild.example", nil, filters.ErrNXDomain},
		{"long name", a, strings.Repeat("a.", 121) + "wild.example", nil, filters.ErrNXDomain},
		{"wildcard", a, "x.y.wild.example", []netip.Addr{netip.MustParseAddr("127.0.0.2")}, nil},
		{"a wildcard does not reach over a name", a, "x.real.wild.example", nil, filters.ErrNXDomain},
		{"alias", a, "alias.example", []netip.Addr{netip.MustParseAddr("192.0.2.25")}, nil},
		{"alias to nowhere", a, "dangling.example", nil, filters.ErrNXDomain},
		{"alias loop", a, "loop.example", nil, errLoop},
		{"time-out", a, "slow.example", nil, errTimeout},
		{"time-out of other types", a, "half.example", nil, errTimeout},
		{"answer beside a time-out", txt, "half.example", []string{"answered"}, nil},
		{"failure", a, "broken.example", nil, errServFail},
	} {
		got, err := c.ask(c.of)
		if !errors.Is(err, c.err) || (err == nil && !equal(got, c.want)) {
			t.Errorf("%s: %s gave %v, %v; want %v, %v", c.name, c.of, got, err, c.want, c.err)
		}
	}
	if n := z.Asked("A", "MX.example.org"); n != 2 {
		t.Errorf("A mx.example.org was counted %d times, want 2", n)
	}
	if z.Queries() != 23 {
		t.Errorf("%d queries, want 23", z.Queries())
	}
}

func listed[T any](values []T, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return values, nil
}

func equal(a, b any) bool {
	switch a := a.(type) {
	case []netip.Addr:
		return slices.Equal(a, b.([]netip.Addr))
	case []string:
		return slices.Equal(a, b.([]string))
	case []filters.MX:
		return slices.Equal(a, b.([]filters.MX))
	}
	return false
}

func TestSilentNameWaitsForTheContext(t *testing.T) {
	z := MustParseZone("silent.example SILENT")
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := z.LookupA(ctx, "silent.example"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v, want a deadline", err)
	}
}

func TestZoneJSON(t *testing.T) {
	z := MustParseZone(`{
		"a.example": [{"t": "TXT", "v": ["v=spf1 ", "mx -all"]}, {"t": "MX", "v": [10, "mx.example"]}, {"t": "A", "v": "192.0.2.1"}],
		"slow.example": [{"t": "TIMEOUT"}],
		"_dmarc.a.example": {"TXT": [["v=DMARC1; p=reject"]]}
	}`)
	if got, err := z.LookupTXT(t.Context(), "a.example"); err != nil || !slices.Equal(got, []string{"v=spf1 mx -all"}) {
		t.Errorf("TXT: %q, %v", got, err)
	}
	if got, err := z.LookupTXT(t.Context(), "_dmarc.a.example"); err != nil || !slices.Equal(got, []string{"v=DMARC1; p=reject"}) {
		t.Errorf("TXT in an object: %q, %v", got, err)
	}
	if got, err := z.LookupMX(t.Context(), "a.example"); err != nil || !slices.Equal(got, []filters.MX{{Preference: 10, Host: "mx.example"}}) {
		t.Errorf("MX: %v, %v", got, err)
	}
	if _, err := z.LookupA(t.Context(), "slow.example"); !errors.Is(err, errTimeout) {
		t.Errorf("TIMEOUT: %v", err)
	}
}

func TestZoneMistakes(t *testing.T) {
	for _, text := range []string{
		"name", "name A", "name A 2001:db8::1", "name AAAA 192.0.2.1", "name MX mx.example", `name TXT "open`,
		`name TXT "a" b`, `{"a": 1}`, `{"a": [{"t": "A", "v": "x"}]}`, `{"a": {"A": "x"}}`, `{`,
	} {
		if _, err := ParseZone([]byte(text)); err == nil {
			t.Errorf("%q was taken for a zone", text)
		}
	}
}

func TestZoneChanges(t *testing.T) {
	z := NewZone()
	if err := z.Add("2.0.0.127.bl.example", "A", "127.0.0.2"); err != nil {
		t.Fatal(err)
	}
	if got, err := z.LookupA(t.Context(), "2.0.0.127.bl.example"); err != nil || len(got) != 1 {
		t.Errorf("added: %v, %v", got, err)
	}
	z.Remove("2.0.0.127.BL.example")
	if _, err := z.LookupA(t.Context(), "2.0.0.127.bl.example"); !errors.Is(err, filters.ErrNXDomain) {
		t.Errorf("removed: %v", err)
	}
}

func FuzzParseZone(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte(`{"a.example": [{"t": "MX", "v": [10, "mx"]}], "b": {"TXT": [["x"]]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		z, err := ParseZone(data)
		if err != nil {
			return
		}
		for name := range z.records {
			if strings.Contains(string(data), Silent) {
				return
			}
			z.LookupA(t.Context(), name)
			z.LookupAAAA(t.Context(), name)
			z.LookupMX(t.Context(), name)
			z.LookupTXT(t.Context(), "x."+name)
		}
	})
}
