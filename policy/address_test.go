package policy

import "testing"

func TestQuotesThatAnAddressDoesNotNeed(t *testing.T) {
	for address, want := range map[string]string{
		"":                         "",
		"user@example.org":         "user@example.org",
		`"user"@example.org`:       "user@example.org",
		`"us\er"@example.org`:      "user@example.org",
		`"first.last"@Example.org`: "first.last@Example.org",
		`"postmaster"`:             "postmaster",
		`"jörg"@example.org`:       "jörg@example.org",
		`"two words"@example.org`:  `"two words"@example.org`,
		`"a@b"@example.org`:        `"a@b"@example.org`,
		`"a\"b"@example.org`:       `"a\"b"@example.org`,
		`".a"@example.org`:         `".a"@example.org`,
		`""@example.org`:           `""@example.org`,
		`"user@example.org`:        `"user@example.org`,
	} {
		if got := plainAddress(address); got != want {
			t.Errorf("%s: got %s, want %s", address, got, want)
		}
	}
}
