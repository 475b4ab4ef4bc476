package policy

import "testing"

func TestDomainSet(t *testing.T) {
	d := domainSet{}
	for _, domain := range []string{"Example.org", ".example.net", "b\u00fccher.example"} {
		if err := d.add(domain); err != nil {
			t.Fatal(err)
		}
	}
	for domain, want := range map[string]bool{
		"": true, "example.org": true, "a.example.org": false, "a.example.net": true, "a.b.example.net": true,
		"example.net": false, "b\u00fccher.example": true, "xn--bcher-kva.example": true, "example.com": false,
		"b\u00fccher\xff.example": false,
	} {
		if d.has(domain) != want {
			t.Errorf("%q: %v", domain, !want)
		}
	}
	// idna replaces what is no UTF-8 without a word, and the name that comes out is somebody else's.
	if d.add("exam\xffple.org") == nil {
		t.Error("bytes that are no UTF-8 became a domain")
	}
	d["xn--example-3e14b.org"] = struct{}{}
	if d.has("exam\xffple.org") {
		t.Error("bytes that are no UTF-8 were taken for a domain of ours")
	}
}
