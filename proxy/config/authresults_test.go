package config

import (
	"strings"
	"testing"

	"gatepost/filters/all"
)

func TestAuthenticationResults(t *testing.T) {
	const least = "domains: [example.org]\nbackend: 127.0.0.1:10025\nhostname: mx.example.org\n"
	for text, want := range map[string]string{
		"": "ours",
		"authentication_results: {remove: all}\n":  "all",
		"authentication_results: {remove: ours}\n": "ours",
	} {
		c, problems := Parse("t.yaml", []byte(least+text), all.Specs())
		if c == nil || c.Policy().AuthenticationResults.Remove != want {
			t.Errorf("%q: %v", text, problems)
		}
	}
	_, problems := Parse("t.yaml", []byte(least+"authentication_results:\n  remove: none\n"), all.Specs())
	if len(problems) != 1 || !strings.HasPrefix(problems[0].String(), `t.yaml:5:11: authentication_results.remove: "none" is neither ours nor all`) {
		t.Errorf("%v", problems)
	}
}
