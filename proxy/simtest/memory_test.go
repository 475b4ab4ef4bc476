package simtest

import (
	"fmt"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/proxy/store/redistest"
)

// TestBytesOfAKnownSender measures what a sender takes of the server's memory, tables included.
func TestBytesOfAKnownSender(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	m := join(t, server.Address, filters.SystemClock{})
	n, empty := size(t, "KNOWN", 20_000, 262_144), used(t, server)
	keys := make([]string, 0, 128)
	for i := range n {
		keys = append(keys, fmt.Sprintf("s:%s@%s%d.example", name(i), name(i/7), i/20))
		if len(keys) == cap(keys) || i == n-1 {
			if _, err := m.Attempt(t.Context(), "known", keys, filters.Terms{Window: 90 * 24 * time.Hour, Keep: 90 * 24 * time.Hour}); err != nil {
				t.Fatal(err)
			}
			keys = keys[:0]
		}
	}
	each := float64(used(t, server)-empty) / float64(n)
	t.Logf("known senders: %d, bytes each in the server's memory: %.0f (the aim is 120)", n, each)
	if each > 260 {
		t.Errorf("a known sender takes %.0f bytes", each)
	}
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
