package main

import "testing"

func TestCommentsSpeakOfKeys(t *testing.T) {
	for _, c := range []struct{ text, field, tag, want string }{
		{"ProxyFrom lists the networks.", "ProxyFrom", "`yaml:\"proxy_from\"`", "proxy_from lists the networks."},
		{"Address to listen on.", "Address", "`yaml:\"address\"`", "Address to listen on."},
		{"The HELO result.", "HeloResult", "`fact:\"helo_result\" values:\"pass fail\"`", "The HELO result."},
		{"MaxEntries bounds it.", "MaxEntries", "`yaml:\"max_entries,omitempty\"`", "max_entries bounds it."},
	} {
		if got := inTheManual(c.text, c.field, c.tag); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
