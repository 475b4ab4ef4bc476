package postgrey

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestPasses(t *testing.T) {
	for _, test := range []struct{ key, value, want string }{
		{"192.0.2.0/alice@example.org/bob@example.net", "1700000000,1700000300", "192.0.2.0 alice@example.org 1700000300"},
		{"192.0.2.7/a/b@example.org/x/y@example.net", "1700000000,1700009999", "192.0.2.7 a/b@example.org 1700009999"},
		{"2001:db8:1::/list-#@example.org/bob@example.net", "1700000000,1700009999", "2001:db8:1:: list-#@example.org 1700009999"},
		{"192.0.2.0//bob@example.net", "1700000000,1700009999", "192.0.2.0  1700009999"},
		{"192.0.2.0/root/bob@example.net", "1700000000,1700009999", "192.0.2.0 root 1700009999"},
		{"192.0.2.0/alice@example.org/bob@example.net", "1700000000,1700000299", "waits"},
		{"192.0.2.0/alice@example.org/bob@example.net", "1700000000,1700000000", "waits"},
		{"192.0.2.7", "5,1700000000", "192.0.2.7 all 1700000000"},
		{"192.0.2.7", "4,1700000000", "waits"},
		{"192.0.2.0/alice@example.org", "1700000000,1700009999", "unknown"},
		{"192.0.2.0/alice@example.org/b@x", "17", "unknown"},
		{"192.0.2.0/alice@example.org/b@x", "x,1", "unknown"},
		{"192.0.2.0/alice@example.org/b@x", "1,99999999999999999", "unknown"},
		{"da39a3ee5e6b4b0d3255bfef95601890afd80709", "1700000000,1700009999", "unknown"},
		{"", "", "unknown"},
	} {
		l, ok, known := Pass(test.key, test.value, DefaultDelay)
		got := "unknown"
		switch {
		case ok:
			sender := "all"
			if l.Sender != nil {
				sender = *l.Sender
			}
			got = fmt.Sprintf("%s %s %d", l.Client, sender, l.Last.Unix())
		case known:
			got = "waits"
		}
		if got != test.want {
			t.Errorf("%s = %s: %s, want %s", test.key, test.value, got, test.want)
		}
	}
}

const head = "VERSION=3\nformat=%s\ntype=btree\ndb_pagesize=4096\nHEADER=END\n"

func TestDumps(t *testing.T) {
	printed, bytes := fmt.Sprintf(head, "print"), fmt.Sprintf(head, "bytevalue")
	for _, test := range []struct{ text, want string }{
		{printed + " key\n value\n k\\\\\\0a\\c3\\a9\n v\\00\nDATA=END\n", `"key"="value" "k\\\né"="v" `},
		{bytes + " 6b\n 7600\nDATA=END\n", `"k"="v" `},
		{bytes + "DATA=END\n" + printed + " k\n v\nDATA=END\n", `"k"="v" `},
		{"", "error: the dump ends"},
		{printed + " k\n v\n", "error: the dump ends"},
		{printed + " k\nDATA=END\n", "error: line 7"},
		{printed + " k\\4\n v\nDATA=END\n", "error: line 6"},
		{bytes + " xx\n", "error: line 6"},
		{bytes + "6b\n", "error: line 6"},
		{"SQLite format 3\n", "error: line 1"},
		{strings.Repeat("x", maxLine+1), "error: line 1"},
	} {
		var got strings.Builder
		err := ReadDump(strings.NewReader(test.text), func(key, value string) error {
			fmt.Fprintf(&got, "%q=%q ", key, value)
			return nil
		})
		if err != nil {
			got.Reset()
			fmt.Fprintf(&got, "error: %v", err)
		}
		if !strings.HasPrefix(got.String(), test.want) || test.want == "" {
			t.Errorf("%.60q: %s, want %s", test.text, got.String(), test.want)
		}
	}
}

func FuzzDump(f *testing.F) {
	f.Add(fmt.Sprintf(head, "print") + " 192.0.2.0/a@b/c@d\n 1,999\nDATA=END\n")
	f.Add(fmt.Sprintf(head, "bytevalue") + " 31\n 32\nDATA=END\n")
	f.Fuzz(func(t *testing.T, text string) {
		ReadDump(strings.NewReader(text), func(key, value string) error {
			if l, ok, known := Pass(key, value, time.Minute); ok && (!known || l.Client == "" || l.Last.IsZero()) {
				t.Fatalf("%q = %q: %+v", key, value, l)
			}
			return nil
		})
	})
}
