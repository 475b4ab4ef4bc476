package simtest

import (
	"bytes"
	"fmt"
	"testing"
	"text/tabwriter"
	"time"

	"gatepost/filters"
	"gatepost/proxy/store"
	"gatepost/proxy/store/engine"
	"gatepost/proxy/store/redistest"
)

// maxBytes is what a known sender may take of the server's memory.
const maxBytes = 120

// TestBytesOfAKnownSender measures what senders take of the server's memory, its tables included, and with the domains that
// they are of, twenty of each.
func TestBytesOfAKnownSender(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	c := store.Defaults().Redis
	c.Addresses = []string{server.Address}
	e, err := engine.Open(c, filters.SystemClock{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	senders, empty := size(t, "KNOWN", 20_000, 2_000_000), used(t, server)
	var out bytes.Buffer
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "known senders\tserver's memory\tresident\tbytes a sender\t")
	keep := filters.Terms{Window: 90 * 24 * time.Hour, Keep: 90 * 24 * time.Hour}
	keys, done, each := make([]string, 0, 256), 0, 0.0
	for _, part := range []int{100, 20, 10, 4, 2, 1} {
		for ; done < senders/part; done++ {
			domain := fmt.Sprintf("%s%d.example", name(done/140), done/20)
			if done%20 == 0 {
				keys = append(keys, "d:"+domain)
			}
			keys = append(keys, "s:"+name(done)+"@"+domain)
			if len(keys) > cap(keys)-2 || done == senders/part-1 {
				if _, err := e.Attempt(t.Context(), "known", keys, keep); err != nil {
					t.Fatal(err)
				}
				keys = keys[:0]
			}
		}
		bytes := used(t, server) - empty
		each = float64(bytes) / float64(done)
		resident := field(t, server.Must("INFO", "memory"), "used_memory_rss")
		fmt.Fprintf(table, "%d\t%.1f MB\t%.1f MB\t%.0f\t\n", done, float64(bytes)/1e6, resident/1e6, each)
		if each > maxBytes && done >= 10_000 {
			t.Errorf("each of %d known senders takes %.0f bytes", done, each)
		}
	}
	_ = table.Flush()
	say(t, out.String())
}

// name is a made-up name of 4 to 9 letters.
func name(n int) string {
	h := uint64(n+1) * 0x9e3779b97f4a7c15
	text := make([]byte, 4+h%6)
	for i := range text {
		h = h*6364136223846793005 + 1442695040888963407
		text[i] = 'a' + byte(h>>33%26)
	}
	return string(text)
}
