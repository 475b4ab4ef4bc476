package dmarc

import (
	"testing"

	"gatepost/filters/filtertest"
)

func TestOverrides(t *testing.T) {
	zone := filtertest.MustParseZone("_dmarc.example.org TXT v=DMARC1; p=reject")
	config := Defaults()
	config.TrustedForwarders = []string{"192.0.2.0/24", "2001:db8::1", "Forwarder.example.com"}
	config.MailingLists = []string{"lists.example.net"}
	arc := func(changes ...any) filtertest.Facts {
		return verdicts(append([]any{"arc.trusted", true, "arc.recorded_dmarc", "pass", "arc.recorded_from", "example.org", "arc.recorded_by", "sealer.example"}, changes...)...)
	}
	for _, test := range []struct {
		name, client, author string
		facts                filtertest.Facts
		reason, by           string
	}{
		{"a stranger", "198.51.100.1", "example.org", spfPass("example.net"), "none", ""},
		{"a network", "192.0.2.7", "example.org", verdicts(), "trusted_forwarder", "192.0.2.0/24"},
		{"a mapped address", "::ffff:192.0.2.7", "example.org", verdicts(), "trusted_forwarder", "192.0.2.0/24"},
		{"an address", "2001:db8::1", "example.org", verdicts(), "trusted_forwarder", "2001:db8::1"},
		{"a domain by SPF", "198.51.100.1", "example.org", spfPass("forwarder.example.com"), "trusted_forwarder", "Forwarder.example.com"},
		{"a domain by DKIM", "198.51.100.1", "example.org", dkimPass("example.net", "forwarder.example.com"), "trusted_forwarder", "Forwarder.example.com"},
		{"a domain that is only claimed", "198.51.100.1", "example.org", verdicts("spf.result", "fail", "spf.domain", "forwarder.example.com"), "none", ""},
		{"below a domain", "198.51.100.1", "example.org", spfPass("a.forwarder.example.com"), "none", ""},
		{"a list", "198.51.100.1", "example.org", dkimPass("lists.example.net"), "mailing_list", "lists.example.net"},
		{"a chain", "198.51.100.1", "example.org", arc(), "trusted_forwarder", "arc sealer.example"},
		{"a chain that nobody trusts", "198.51.100.1", "example.org", arc("arc.trusted", false), "none", ""},
		{"a chain that may be trusted", "198.51.100.1", "example.org", arc("arc.trusted", nil, "arc.result", "temperror"), "", ""},
		{"a chain that may be trusted, but need not", "192.0.2.7", "example.org", arc("arc.trusted", nil, "arc.result", "temperror"), "trusted_forwarder", "192.0.2.0/24"},
		{"a stranger's chain whose key cannot be had", "198.51.100.1", "example.org", arc("arc.trusted", false, "arc.result", "temperror"), "none", ""},
		{"no look at the chain", "198.51.100.1", "example.org", arc("arc.trusted", nil), "none", ""},
		{"a chain in which it failed already", "198.51.100.1", "example.org", arc("arc.recorded_dmarc", "fail"), "none", ""},
		{"a chain about another author", "198.51.100.1", "example.org", arc("arc.recorded_from", "example.net"), "none", ""},
		{"a pass needs none", "192.0.2.7", "example.org", spfPass("example.org"), "none", ""},
		{"nor does a domain without a record", "192.0.2.7", "example.net", verdicts(), "none", ""},
	} {
		f, err := New(config, filtertest.NewEnv(zone))
		if err != nil {
			t.Fatal(err)
		}
		v := filtertest.Mailed(test.client, "mail.example.org", "joe@example.org")
		v.Message, v.Facts = messageFrom("From: joe@"+test.author+"\r\n"), test.facts
		j, err := look(t.Context(), f, v)
		reason := ""
		if err == nil && j.Override != nil {
			reason = *j.Override
		}
		if err != nil || reason != test.reason || j.OverrideBy != test.by {
			t.Errorf("%s: %+v, %v", test.name, j.Facts, err)
		}
		v.Message.Release()
	}
}

func TestOverrideEntries(t *testing.T) {
	for entry, ok := range map[string]bool{
		"192.0.2.1": true, "192.0.2.0/24": true, "2001:db8::/32": true, "example.org": true, "b\u00fccher.example": true,
		"192.0.2.1/24": false, "org": false, "": false, "a b.example": false, "fe80::1%eth0": false, "exam\xffple.org": false,
	} {
		c := Defaults()
		c.TrustedForwarders = []string{entry}
		if err := c.Validate(); (err == nil) != ok {
			t.Errorf("%q: %v", entry, err)
		}
	}
	c := Defaults()
	c.MailingLists = []string{"192.0.2.0/24"}
	if c.Validate() == nil {
		t.Error("a network was taken for a mailing list")
	}
}

// The record is looked for beside SPF and DKIM, not behind them.
func TestTheRecordIsNotWaitedFor(t *testing.T) {
	if first := Spec.Observations[0]; len(first.After) != 0 {
		t.Errorf("the first look waits for %v", first.After)
	}
}
