package proxy

import (
	"strings"
	"testing"
	"time"

	"gatepost/filters"
)

// TestPace measures in windows of waiting.
func TestPace(t *testing.T) {
	var p pace
	for i, step := range []struct {
		waited time.Duration
		bytes  int
		slow   bool
		left   time.Duration
	}{
		{0, 0, false, 10 * time.Second},
		{9 * time.Second, 0, false, time.Second},          // the window is not over
		{time.Second, 1000, false, 10 * time.Second},      // 100 a second, as wanted
		{10 * time.Second, 999, true, 10 * time.Second},   // one byte less
		{10 * time.Second, 1000, false, 10 * time.Second}, // what came before does not count
		{0, 1 << 20, false, 10 * time.Second},             // nobody was waited for
		{10 * time.Second, 0, false, 10 * time.Second},
		{time.Hour, 360_000, false, 10 * time.Second}, // asked late
		{time.Hour, 359_999, true, 10 * time.Second},
		{10 * time.Second, 0, true, 10 * time.Second},
	} {
		p.add(step.waited, step.bytes)
		if slow, left := p.measure(100, 10*time.Second); slow != step.slow || left != step.left {
			t.Errorf("step %d: slow %t, left %s", i, slow, left)
		}
	}
}

// TestMinDataRate: who trickles is sent away when the house is full, and only then.
func TestMinDataRate(t *testing.T) {
	for name, test := range map[string]struct {
		fill, rate int
		memory     bool
		cut        bool
	}{
		"quiet":              {fill: 2, rate: 100},
		"crowded":            {fill: 3, rate: 100, cut: true},
		"crowded, no limit":  {fill: 3, rate: 0},
		"memory is short":    {fill: 1, rate: 100, memory: true, cut: true},
		"crowded, fast ones": {fill: 3, rate: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, setup{limits: func(l *Limits) {
				l.Connections, l.MinDataRate, l.DataTimeout = 4, filters.Size(test.rate), filters.Duration(2*time.Second)
				l.MessageMemory, l.Memory = 4<<10, 8<<10
			}})
			h.t = t
			if test.memory {
				others := h.server.memory.Claim(7<<10, 7<<10) // as other sessions do
				defer others.Release()
			}
			for range test.fill {
				h.hello()
			}
			c := h.dial()
			c.expect("220 ")
			c.send("EHLO client.test\r\n")
			c.expect("250")
			c.send(envelopeAndData)
			c.expect("250 ", "250 ", "354 ")
			replied := make(chan string, 1)
			go func() { replied <- c.reply() }()
			begun := time.Now()
			reply := ""
			for reply == "" && (test.cut || time.Since(begun) < 2200*time.Millisecond) {
				c.Write([]byte("x"))
				select {
				case reply = <-replied:
				case <-time.After(20 * time.Millisecond):
				}
			}
			want := "421 4.4.2 "
			if !test.cut {
				c.send("\r\n.\r\n")
				reply, want = reply+<-replied, "250 "
			}
			if n := h.server.Metrics().TooSlow.Load(); !strings.HasPrefix(reply, want) || (n == 1) != test.cut {
				t.Errorf("got %q; %d were cut", reply, n)
			}
		})
	}
}
