package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// plainRelay passes bytes both ways between each client and a server, and does nothing else: what a proxy costs at least.
func plainRelay(t *testing.T, server string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	pass := func(to, from net.Conn) {
		defer to.Close()
		buffer := make([]byte, 32<<10)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			backend, err := net.Dial("tcp", server)
			if err != nil {
				client.Close()
				continue
			}
			running.Go(func() { pass(backend, client) })
			running.Go(func() { pass(client, backend) })
		}
	})
	return l.Addr().String()
}

// cost is what this process has used up.
type cost struct {
	calls int64 // reads and writes
	cpu   time.Duration
}

func (c cost) minus(o cost) cost { return cost{c.calls - o.calls, c.cpu - o.cpu} }

// spent reads what has been used up to now. The kernel counts reads and writes of files and sockets alike, those that find
// nothing too.
func spent(t *testing.T) (c cost) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var n int64
		if k, _ := fmt.Sscanf(line, "syscr: %d", &n); k == 1 {
			c.calls += n
		}
		if k, _ := fmt.Sscanf(line, "syscw: %d", &n); k == 1 {
			c.calls += n
		}
	}
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	c.cpu = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	return c
}

// costOf plays sessions of ten messages each, and returns what a message has cost.
func costOf(t *testing.T, address string, pipelined bool) cost {
	t.Helper()
	const sessions, messages = 20, 10
	content := strings.Repeat("The quick brown fox jumps over the lazy dog.\r\n", 90) + ".\r\n"
	steps := []string{"MAIL FROM:<a@example.org>\r\n", "RCPT TO:<b@example.com>\r\n", "DATA\r\n", content}
	if pipelined {
		steps = []string{strings.Join(steps[:3], ""), content}
	}
	buffer := make([]byte, 4096)
	before := spent(t)
	for range sessions {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(30 * time.Second))
		hear := func(replies int) {
			for replies > 0 {
				n, err := c.Read(buffer)
				if err != nil {
					t.Fatal(err)
				}
				replies -= bytes.Count(buffer[:n], []byte("\n"))
			}
		}
		say := func(text string, replies int) {
			io.WriteString(c, text)
			hear(replies)
		}
		hear(1)
		say("HELO client.test\r\n", 1)
		for range messages {
			for _, step := range steps {
				say(step, max(1, strings.Count(step, ":<")+strings.Count(step, "DATA\r\n")))
			}
		}
		say("QUIT\r\n", 1)
		c.Close()
	}
	total := spent(t).minus(before)
	return cost{total.calls / (sessions * messages), total.cpu / (sessions * messages)}
}

// TestCostBesidePlainRelay holds what the proxy does against what passing bytes takes: no more reads and writes, as commands
// of a batch leave together and 354 is ours, and a bounded multiple of the processor time. All three ways take turns. What
// the client and the backend in this process read and write is taken off; their processor time is not, for the difference
// of two times that vary is no measure.
func TestCostBesidePlainRelay(t *testing.T) {
	if poolsForget {
		return // the race detector's own cost would be measured
	}
	h := start(t, setup{})
	relay := plainRelay(t, h.backends[0].Address())
	for _, test := range []struct {
		name      string
		pipelined bool
		calls     float64 // of the relay's
		cpu       float64
	}{
		{"one command at a time", false, 0.8, 3},
		{"pipelined", true, 1.5, 3}, // the backend hears MAIL and RCPT apart from the message before
	} {
		var calls []float64
		var plainly, ourselves []time.Duration
		for range 7 {
			direct := costOf(t, h.backends[0].Address(), test.pipelined)
			plain := costOf(t, relay, test.pipelined)
			ours := costOf(t, h.address, test.pipelined)
			calls = append(calls, float64(ours.calls-direct.calls)/float64(max(plain.calls-direct.calls, 1)))
			plainly, ourselves = append(plainly, plain.cpu), append(ourselves, ours.cpu)
		}
		slices.Sort(calls)
		// Reads and writes are the same each time, but for chance. Processor time is made worse by what else runs on the
		// machine, so each one's best turn is the one that tells.
		cpu := float64(slices.Min(ourselves)) / float64(slices.Min(plainly))
		t.Logf("%s: %.2f times the reads and writes, %.2f times the processor time", test.name, calls[3], cpu)
		if calls[3] > test.calls || cpu > test.cpu {
			t.Errorf("%s: more than %.2f times the reads and writes, or %.2f times the processor time, of a plain relay", test.name, test.calls, test.cpu)
		}
	}
}

// A client that has sent its next command with the message hears both replies in one segment.
func TestFinalReplyLeavesWithTheNext(t *testing.T) {
	h := start(t, setup{})
	c := h.hello()
	got := ""
	for range 5 { // the kernel waits for 200 ms only, and the machine may be busy
		c.say("MAIL FROM:<a@example.org>", "250")
		c.say("RCPT TO:<b@example.com>", "250")
		c.say("DATA", "354")
		c.send("Subject: x\r\n\r\n.\r\nNOOP\r\n")
		var buffer [1024]byte
		n, err := c.Conn.Read(buffer[:])
		if err != nil {
			t.Fatal(err)
		}
		if got = string(buffer[:n]); strings.Count(got, "\r\n") == 2 {
			return
		}
		c.expect("250")
	}
	t.Errorf("got %q by itself", got)
}
