package calledtest

import (
	"strings"
	"testing"
)

func TestScope(t *testing.T) {
	const dialogue = "-- dialogue --\nS: 220 .*\nC: MAIL FROM:<a@example.org>\nS: 250 .*\n"
	for _, test := range []struct{ name, text, left string }{
		{"all by itself", dialogue, ""},
		{"a rule, and no mail", "-- config --\nrules:\n  - {name: a, when: 'true', then: reject, at: connect}\n-- dialogue --\nS: 554 .*\n", ""},
		{"neither", "-- dialogue --\nS: 220 .*\nC: GET /\n", nothing},
		{"it says so", "SMTP only: the client's name\n" + dialogue, declared},
		{"the backend refuses", "-- backend --\nRCPT TO:<x@ => 550-5.1.1 no\\r\\n550 5.1.1 nobody\n" + dialogue, ""},
		{"its own 250", "-- backend --\nonce . => 250 2.0.0 queued\n" + dialogue, ""},
		{"it hangs up", "-- backend --\nRCPT => 550 5.1.1 noHANGUP\n" + dialogue, misbehaves},
		{"nonsense", "-- backend --\nRCPT => 354 go on\n" + dialogue, misbehaves},
		{"a greeting of its own", "-- backend --\nEHLO => 550 5.7.1 no\n" + dialogue, way},
		{"more room", "-- config --\nlimits: {errors: 1000}\n" + dialogue, ""},
		{"less room", "-- config --\nlimits: {errors: 2}\n" + dialogue, bounds},
		{"a message's limit", "-- config --\nlimits: {hops: 10}\n" + dialogue, ""},
		{"a pause", "-- config --\npause: 1s\n" + dialogue, client},
		{"it leaves", dialogue + "! close\n", client},
	} {
		s, err := readScript(test.name, test.text)
		if err != nil || s.Left != test.left {
			t.Errorf("%s: %v, %q (%s)", test.name, err, s.Left, s.Because)
		}
	}
	for _, text := range []string{"-- config --\nnew_key: 1\n" + dialogue, dialogue + "! dance\n", "-- config --\nlimits: {speed: 1}\n" + dialogue} {
		if _, err := readScript("", text); err == nil {
			t.Errorf("taken: %s", strings.ReplaceAll(text, "\n", " "))
		}
	}
}
