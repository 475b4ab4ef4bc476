package proxy

import (
	"bytes"
	"runtime"
	"testing"
)

// poolsForget is set under the race detector, which makes sync.Pool forget at random.
var poolsForget bool

// TestMessageAllocates holds what a message costs the whole house, the backend in this process included. One that costs
// more than it did has a new copy, context or buffer on its way.
func TestMessageAllocates(t *testing.T) {
	if poolsForget {
		return
	}
	h := start(t, setup{})
	c := h.hello()
	message := append(bytes.Repeat([]byte("Field: value\r\n"), 10), "\r\n"...)
	message = append(message, bytes.Repeat([]byte("The quick brown fox jumps over the lazy dog.\r\n"), 80)...)
	message = append(message, ".\r\n"...)
	buffer := make([]byte, 512)
	say := func(text []byte, code string) {
		if _, err := c.Write(text); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(buffer); err != nil || string(buffer[:3]) != code || buffer[n-1] != '\n' {
			t.Fatalf("%.20q: %q, %v; want %s", text, buffer[:n], err, code)
		}
	}
	mail, rcpt, data := []byte("MAIL FROM:<a@example.org>\r\n"), []byte("RCPT TO:<b@example.com>\r\n"), []byte("DATA\r\n")
	deliver := func() {
		say(mail, "250")
		say(rcpt, "250")
		say(data, "354")
		say(message, "250")
	}
	const messages = 50
	for range messages {
		deliver()
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range messages {
		deliver()
	}
	runtime.ReadMemStats(&after)
	count, size := (after.Mallocs-before.Mallocs)/messages, (after.TotalAlloc-before.TotalAlloc)/messages
	t.Logf("%d allocations, %d bytes", count, size)
	if count > 70 || size > 26<<10 {
		t.Errorf("%d allocations, %d bytes a message", count, size)
	}
}
