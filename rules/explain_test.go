package rules

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func spell(c Change) string {
	if c.Reason != nil {
		if c.Want {
			return c.Reason.Text
		}
		return "NOT " + c.Reason.Text
	}
	var parts []string
	for _, part := range c.Parts {
		parts = append(parts, spell(part))
	}
	if c.Any {
		return "one of (" + strings.Join(parts, "; ") + ")"
	}
	return "all of (" + strings.Join(parts, "; ") + ")"
}

func TestExplain(t *testing.T) {
	s := rowSchema(t)
	f := s.NewFacts()
	f.Set(0, &rowFacts{Flag: true, Count: 7, Result: "pass", Names: []string{"a", "b"}, IP: netip.MustParseAddr("192.0.2.1"), Header: noHeader{}})
	for condition, want := range map[string]struct {
		truth    Truth
		pass     string // what would have to be different for it not to match
		readings string
	}{
		"x.count >= 4": {True, "NOT x.count >= 4", "[{x.count 7}]"},
		`x.count > 9 or x.flag or x.result == "pass"`:            {True, `all of (NOT x.flag; NOT x.result == "pass")`, "[{x.count 7}] [{x.flag true}] [{x.result pass}]"},
		`x.count > 6 and x.flag and not (x.result == "fail")`:    {True, `one of (NOT x.count > 6; NOT x.flag; x.result == "fail")`, "[{x.count 7}] [{x.flag true}] [{x.result pass}]"},
		`x.flag and (x.count == 7 or x.count == 8)`:              {True, "one of (NOT x.flag; NOT x.count == 7)", "[{x.flag true}] [{x.count 7}] [{x.count 7}]"},
		`not (x.flag and x.count == 8)`:                          {True, "x.count == 8", "[{x.flag true}] [{x.count 7}]"},
		`x.maybe > 3`:                                            {Unknown, "", "[{x.maybe <nil>}]"},
		`x.maybe > 3 or x.flag`:                                  {True, "NOT x.flag", "[{x.maybe <nil>}] [{x.flag true}]"},
		`in_network(x.ip, "192.0.2.0/24")`:                       {True, `NOT in_network(x.ip, "192.0.2.0/24")`, "[{x.ip 192.0.2.1}]"},
		`header("Subject") == "" and len(x.names) == 2`:          {True, `one of (NOT header("Subject") == ""; NOT len(x.names) == 2)`, `[{header("Subject") }] [{x.names [a b]}]`},
		`score == 0 and "a" in x.names and x.result in ["pass"]`: {True, `one of (NOT score == 0; NOT "a" in x.names; NOT x.result in ["pass"])`, "[{score 0}] [{x.names [a b]}] [{x.result pass}]"},
	} {
		r, problems := Explain(s, condition, f, nil)
		if r == nil {
			t.Errorf("%s: %v", condition, problems)
			continue
		}
		var readings []string
		for _, leaf := range r.Leaves() {
			readings = append(readings, fmt.Sprint(leaf.Facts))
		}
		if r.Truth != want.truth || strings.Join(readings, " ") != want.readings {
			t.Errorf("%s is %v, reads %s", condition, r.Truth, readings)
		}
		if got := truthOf(t, s, condition, f); got != r.Truth {
			t.Errorf("%s is %v, explained as %v", condition, got, r.Truth)
		}
		if got := spell(r.To(false)); want.pass != "" && got != want.pass {
			t.Errorf("%s: would pass with %s, want %s", condition, got, want.pass)
		}
	}
	opaque, _ := Explain(s, `in_list(x.ip, "friends") or gone.fact == 3`, f, nil)
	if leaves := opaque.Leaves(); len(leaves) != 2 || !leaves[0].Opaque || !leaves[1].Opaque || leaves[0].Facts[0].Name != "x.ip" {
		t.Errorf("what cannot be compiled here: %+v", opaque)
	}
	if r, problems := Explain(s, "x.count >=", f, nil); r != nil || len(problems) == 0 {
		t.Error("half a condition is explained")
	}
	plain, _ := Explain(s, "x.count >= 4", f, nil)
	if plain.Left != "x.count" || plain.Comparison != ">=" || plain.Right != "4" {
		t.Errorf("%+v", plain)
	}
}

type noHeader struct{}

func (noHeader) Header(string) (string, bool) { return "", false }
