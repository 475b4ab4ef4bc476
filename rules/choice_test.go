package rules

import "testing"

func TestChoices(t *testing.T) {
	s := testSchema(t)
	byName := map[string]Choice{}
	for _, c := range s.Choices() {
		byName[c.Name] = c
	}
	if _, ok := byName["rdns.name"]; ok {
		t.Error("rdns.name can be anything")
	}
	f := setFacts(t, s.NewFacts(), &spfMail{Result: "softfail"}, &rdnsFacts{Confirmed: true}, &exceptionClient{"odd"})
	for name, want := range map[string]string{
		"spf.result": "softfail", "rdns.confirmed": "true", "spf.wide": "false", "dmarc.result": "absent", "odd.flag": "absent", "exception.client": "absent",
	} {
		c, ok := byName[name]
		got := "absent"
		if i := c.Of(f); i >= 0 {
			got = c.Values[i]
		}
		if !ok || got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	c := byName["spf.result"]
	if n := testing.AllocsPerRun(100, func() { c.Of(f) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
