package rdns

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

const zone = `
192.0.2.1       PTR  mx.example.com
mx.example.com  A    192.0.2.1
mx.example.com  A    192.0.2.2
192.0.2.2       PTR  other.example.com
other.example.com A  192.0.2.99
192.0.2.3       PTR  nowhere.example.com
192.0.2.4       PTR  slow.example.com
slow.example.com TIMEOUT
192.0.2.5       PTR  slow.example.com
192.0.2.5       PTR  Five.Example.COM.
five.example.com A   192.0.2.5
192.0.2.7       PTR  evil"\r\n.example.com
192.0.2.7       PTR  .
192.0.2.7       PTR  a..b
6.2.0.192.in-addr.arpa TIMEOUT
8.2.0.192.in-addr.arpa TXT no PTR here
2001:db8::1     PTR  six.example.com
six.example.com AAAA 2001:db8::1
192.0.2.11       PTR  192-0-2-11.Access.example.com
192-0-2-11.access.example.com A 192.0.2.11
192.0.2.12      PTR  192-0-2-12.access.example.com
`

func TestConnect(t *testing.T) {
	z := filtertest.MustParseZone(zone)
	f, err := New(Defaults(), filtertest.NewEnv(z))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		client string
		want   Facts
		iprev  string
		fails  bool
	}{
		{"confirmed", "192.0.2.1", Facts{Confirmed: true, Name: "mx.example.com", Names: []string{"mx.example.com"}}, "pass", false},
		{"IPv4 in IPv6", "::ffff:192.0.2.1", Facts{Confirmed: true, Name: "mx.example.com", Names: []string{"mx.example.com"}}, "pass", false},
		{"IPv6", "2001:db8::1", Facts{Confirmed: true, Name: "six.example.com", Names: []string{"six.example.com"}}, "pass", false},
		{"a name made of the address", "192.0.2.11", Facts{Confirmed: true, Name: "192-0-2-11.access.example.com", Generic: true, Names: []string{"192-0-2-11.access.example.com"}}, "pass", false},
		{"such a name, not confirmed", "192.0.2.12", Facts{Names: []string{"192-0-2-12.access.example.com"}}, "fail", false},
		{"the name has another address", "192.0.2.2", Facts{Names: []string{"other.example.com"}}, "fail", false},
		{"the name does not exist", "192.0.2.3", Facts{Names: []string{"nowhere.example.com"}}, "fail", false},
		{"the name does not answer", "192.0.2.4", Facts{}, "", true},
		{"another name answers", "192.0.2.5", Facts{Confirmed: true, Name: "five.example.com", Names: []string{"slow.example.com", "five.example.com"}}, "pass", false},
		{"no answer", "192.0.2.6", Facts{}, "", true},
		{"names that are none", "192.0.2.7", Facts{}, "permerror", false},
		{"no PTR record", "192.0.2.8", Facts{}, "permerror", false},
		{"no such name", "192.0.2.9", Facts{}, "permerror", false},
	} {
		got, err := f.Connect(t.Context(), filtertest.Connected(c.client))
		if c.fails {
			if err == nil || errors.Is(err, filters.ErrNXDomain) {
				t.Errorf("%s: %+v, %v", c.name, got, err)
			}
			continue
		}
		if err != nil || got.Confirmed != c.want.Confirmed || got.Name != c.want.Name || got.Generic != c.want.Generic || !slices.Equal(got.Names, c.want.Names) {
			t.Errorf("%s: %+v, %v; want %+v", c.name, got, err, c.want)
			continue
		}
		results := got.AuthResults(filtertest.Connected(c.client).Session)
		ip := netip.MustParseAddr(c.client).Unmap().String()
		if len(results) != 1 || results[0].Method != "iprev" || results[0].Result != c.iprev || results[0].Properties[0].Value != ip {
			t.Errorf("%s: %+v", c.name, results)
		}
	}
}

// Each waiting client has them; 48 bytes is a size that Go allocates without waste.
func TestFactsSize(t *testing.T) {
	if size := unsafe.Sizeof(Facts{}); size > 48 {
		t.Errorf("the facts of a client take %d bytes", size)
	}
}

func TestNamesAreBounded(t *testing.T) {
	z := filtertest.NewZone()
	for i := range 50 {
		if err := z.Add("192.0.2.1", "PTR", fmt.Sprintf("h%d.example.com", i)); err != nil {
			t.Fatal(err)
		}
	}
	f, _ := New(Defaults(), filtertest.NewEnv(z))
	got, err := f.Connect(t.Context(), filtertest.Connected("192.0.2.1"))
	if err != nil || got.Confirmed || len(got.Names) != maxNames || z.Queries() != 1+maxNames {
		t.Errorf("%+v, %v after %d queries", got, err, z.Queries())
	}
}

func TestAnyNameIsHarmless(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		z := filtertest.NewZone()
		name := rapid.String().Draw(t, "name")
		if err := z.Add("192.0.2.1", "PTR", name); err != nil {
			t.Fatal(err)
		}
		f, _ := New(Defaults(), filtertest.NewEnv(z))
		facts, err := f.Connect(t.Context(), filtertest.Connected("192.0.2.1"))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range facts.Names {
			if strings.ContainsFunc(n, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"<>()\;{}`, r) }) {
				t.Fatalf("%q became the name %q", name, n)
			}
		}
	})
}
