package dnsbl

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"gatepost/filters"
)

func TestConfigMistakes(t *testing.T) {
	good := codes("127.0.0.2", 4.0)
	for _, c := range []struct {
		name string
		zone Zone
		key  string
	}{
		{"no zone", Zone{Codes: good}, "zones[0].zone"},
		{"an address as zone", Zone{Zone: "192.0.2.1", Codes: good}, "zones[0].zone"},
		{"a blank in the zone", Zone{Zone: "a b.test", Codes: good}, "zones[0].zone"},
		{"control characters in the name", Zone{Zone: "bl.test", Name: "a\r\nb", Codes: good}, "zones[0].name"},
		{"kind", Zone{Zone: "bl.test", Kind: "clients", Codes: good}, "zones[0].kind"},
		{"test", Zone{Zone: "bl.test", Test: "maybe", Codes: good}, "zones[0].test"},
		{"IPv4", Zone{Zone: "bl.test", IPv4: "auto", Codes: good}, "zones[0].ipv4"},
		{"no codes", Zone{Zone: "bl.test"}, "zones[0].codes"},
		{"a code elsewhere", Zone{Zone: "bl.test", Codes: codes("128.0.0.1", 1.0)}, "zones[0].codes"},
		{"a range that leaves 127/8", Zone{Zone: "bl.test", Codes: codes("127.0.0.2-128.0.0.1", 1.0)}, "zones[0].codes"},
		{"a range backwards", Zone{Zone: "bl.test", Codes: codes("127.0.0.9-127.0.0.2", 1.0)}, "zones[0].codes"},
		{"a refusal as code", Zone{Zone: "bl.test", Codes: codes("127.255.255.254", 1.0)}, "zones[0].codes"},
		{"a range over the refusals", Zone{Zone: "bl.test", Codes: codes("127.0.0.2-127.255.255.255", 1.0)}, "zones[0].codes"},
		{"no code at all", Zone{Zone: "bl.test", Codes: codes("two", 1.0)}, "zones[0].codes"},
		{"weight", Zone{Zone: "bl.test", Codes: codes("127.0.0.2", 1e9)}, "zones[0].codes"},
	} {
		config := Config{Zones: []Zone{c.zone}}
		var errs filters.KeyErrors
		if !errors.As(config.Validate(), &errs) || len(errs) != 1 || errs[0].Key != c.key {
			t.Errorf("%s: %v", c.name, errs)
		}
	}
	twice := Config{Zones: []Zone{{Zone: "bl.test", Codes: good}, {Zone: "BL.test.", Codes: good}}}
	if err := twice.Validate(); err == nil || !strings.Contains(err.Error(), "zones[1].name") {
		t.Errorf("the same list twice: %v", err)
	}
}

func FuzzParseRange(f *testing.F) {
	for _, seed := range []string{"127.0.0.2", "127.0.0.2-127.0.0.11", " 127.0.0.2 - 127.0.0.11 ", "127.255.255.1", "-", "::1-::2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseRange(s)
		if err != nil {
			return
		}
		if r.to.Less(r.from) || !answers.Contains(r.from) || !answers.Contains(r.to) {
			t.Errorf("%q became %v to %v", s, r.from, r.to)
		}
		r.weight = 1
		block, _ := weigh([]codeRange{r}, []netip.Addr{r.from, r.to})
		refused, _ := weigh([]codeRange{r}, []netip.Addr{netip.MustParseAddr("127.255.255.1")})
		if block != 1 || refused != 0 {
			t.Errorf("%q weighs %v, a refusal %v", s, block, refused)
		}
	})
}

// idna replaces what is no UTF-8 without a word, and the name that comes out is somebody else's.
func TestBytesThatAreNoUTF8AreNoDomain(t *testing.T) {
	for _, name := range []string{"exam\xffple.org", "ex\xc3.example.org"} {
		if domain, ok := toDomain(name); ok {
			t.Errorf("%q became %s", name, domain)
		}
	}
}
