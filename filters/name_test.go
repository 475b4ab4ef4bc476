package filters

import "testing"

func TestASCIIName(t *testing.T) {
	for _, test := range []struct{ name, want string }{
		{"Lists.Example.org", "lists.example.org"},
		{"b\u00fccher.example", "xn--bcher-kva.example"},
		{"s_1", "s_1"},
		// idna replaces what is no UTF-8 without a word, and the name that comes out is somebody else's.
		{"exam\xffple.org", ""},
		{"ex\xc3.example.org", ""},
		{"a..b", ""},
		{"", ""},
	} {
		if got, ok := ASCIIName(test.name); got != test.want && ok || ok != (test.want != "") {
			t.Errorf("%q: %q, %v", test.name, got, ok)
		}
	}
}
