package faulttest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/proxy/backend/backendtest"
)

// memory watches how much is in use at most.
type memory struct {
	base, peak uint64
	stop       chan struct{}
	watching   sync.WaitGroup
}

func inUse() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// watch collects what is garbage already. Then garbage may be as much as what lives, before it is collected.
func watch() *memory {
	runtime.GC()
	debug.FreeOSMemory()
	m := &memory{base: inUse(), stop: make(chan struct{})}
	m.watching.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-m.stop:
				return
			case <-tick.C:
				m.peak = max(m.peak, inUse())
			}
		}
	})
	return m
}

// grown is the growth at the worst moment.
func (m *memory) grown() int64 {
	close(m.stop)
	m.watching.Wait()
	return int64(max(m.peak, inUse())) - int64(m.base)
}

func (m *memory) atMost(t testing.TB, what string, bytes int64) {
	t.Helper()
	grown := m.grown()
	fmt.Printf("flood: %s: memory grew by %.1f MiB\n", what, float64(grown)/(1<<20))
	if grown > bytes {
		t.Errorf("%s: memory grew by %d bytes, more than %d", what, grown, bytes)
	}
}

// flooded is a house for a flood: time-outs as long as the flood, and for honest work as long as a busy machine may take.
func flooded(t testing.TB, u setup) *house {
	t.Helper()
	u.work = time.Minute
	if u.patience == 0 {
		u.patience = 20 * time.Second
	}
	return newSite(t, filters.SystemClock{}).open(t, u)
}

// served checks that others are served meanwhile, and how soon.
func (h *house) served(t testing.TB, name string) {
	t.Helper()
	begun := time.Now()
	h.wantSend(t, name, "a", text, "250 ")
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("%s: served after %s only", name, took)
	}
}

func TestFloodOfConnections(t *testing.T) {
	count := 2000
	if environment(t, "GATEPOST_FAULT_POSITIONS", shortPositions) > shortPositions {
		count = 15_000
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err == nil {
		count = min(count, (int(files.Cur)-openFiles()-200)/2)
	}
	h := flooded(t, setup{extra: "  connections: 20000"})
	m := watch()
	conns := make([]net.Conn, count)
	var dialling sync.WaitGroup
	var failed atomic.Int64
	for part := range 8 {
		dialling.Go(func() {
			for i := part; i < count; i += 8 {
				// Many addresses, as in life; with one the kernel is slow to find ports.
				from := &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%100))}
				c, err := (&net.Dialer{LocalAddr: from}).Dial("tcp", h.address)
				if err != nil {
					failed.Add(1)
					continue
				}
				conns[i] = c
			}
		})
	}
	dialling.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d of %d connections failed", failed.Load(), count)
	}
	for _, c := range conns {
		if c == nil {
			continue
		}
		c.SetDeadline(time.Now().Add(20 * time.Second))
		var greeting [3]byte
		if _, err := io.ReadFull(c, greeting[:]); err != nil || string(greeting[:]) != "220" {
			t.Fatalf("greeting %q, %v", greeting, err)
		}
	}
	h.served(t, "meanwhile")
	m.atMost(t, fmt.Sprintf("%d connections", count), int64(count)*24<<10)
	if n := h.server.Metrics().Open.Load(); n < int64(count) {
		t.Errorf("%d sessions are open, want %d", n, count)
	}
	for _, c := range conns {
		if c != nil {
			c.Close()
		}
	}
	h.done(t)
}

func TestFloodOfConnectionsFromOne(t *testing.T) {
	h := flooded(t, setup{extra: "  connections: 100"})
	var conns []net.Conn
	for range 150 {
		c, err := net.Dial("tcp", h.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	full := 0
	for _, c := range conns {
		c.SetDeadline(time.Now().Add(10 * time.Second))
		line, err := bufio.NewReader(c).ReadString('\n')
		switch {
		case err != nil:
			t.Fatal(err)
		case strings.HasPrefix(line, "421 4.3.2 "):
			full++
		}
	}
	if full != 50 || h.server.Metrics().RefusedFull.Load() != 50 {
		t.Errorf("%d were told 421, want 50", full)
	}
	for _, c := range conns {
		c.Close()
	}
	if err := h.waitIdle(); err != nil {
		t.Error(err)
	}
	h.served(t, "after")
	h.done(t)
}

// pour writes text again and again until the other side will not have it, for longer than any patience.
func (h *house) pour(t testing.TB, opening, text string, reads bool) (ended bool) {
	t.Helper()
	c, err := net.Dial("tcp", h.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	var reading sync.WaitGroup
	if reads {
		reading.Go(func() {
			io.Copy(io.Discard, c)
		})
	}
	io.WriteString(c, opening)
	piece := []byte(strings.Repeat(text, 32<<10/len(text)))
	for limit := time.Now().Add(4 * time.Second); !ended && time.Now().Before(limit); {
		_, err := c.Write(piece)
		ended = err != nil
	}
	c.(*net.TCPConn).CloseWrite()
	reading.Wait()
	return ended
}

// TestEndlessCommands: a session's commands, and its wrong ones, are counted; who does not read is not waited for.
func TestEndlessCommands(t *testing.T) {
	h := flooded(t, setup{patience: time.Second})
	h.ledger.foreign = true
	metrics := h.server.Metrics()
	for i, flood := range []struct {
		name, opening, text string
		reads               bool
		ends                *atomic.Int64 // counts sessions that end so
	}{
		{"NOOP", "EHLO x.test\r\n", "NOOP\r\n", true, &metrics.LimitCommands},
		{"NOOP, never read", "EHLO x.test\r\n", "NOOP\r\n", false, nil},
		{"EHLO, never read", "", "EHLO x.test\r\n", false, nil},
		{"rubbish", "", "\xff\xfe rubbish\r\n", true, &metrics.LimitErrors},
		{"no line end", "", "xxxxxxxx", true, &metrics.Timeouts},
		{"MAIL and RSET", "EHLO x.test\r\n", "MAIL FROM:<a@example.org>\r\nRSET\r\n", true, &metrics.LimitAbandoned},
	} {
		ended := int64(0)
		if flood.ends != nil {
			ended = flood.ends.Load()
		}
		m := watch()
		var pouring sync.WaitGroup
		pouring.Go(func() {
			if !h.pour(t, flood.opening, flood.text, flood.reads) {
				t.Errorf("%s: no end is put to it", flood.name)
			}
		})
		h.served(t, fmt.Sprint("meanwhile", i))
		pouring.Wait()
		m.atMost(t, flood.name, 32<<20)
		if err := h.waitIdle(); err != nil {
			t.Fatalf("%s: %v", flood.name, err)
		}
		if flood.ends != nil && flood.ends.Load() != ended+1 {
			t.Errorf("%s did not end as it should", flood.name)
		}
	}
	h.done(t)
}

// TestHugeHeader is not kept in memory, and is refused.
func TestHugeHeader(t *testing.T) {
	size := 20 << 20
	for name, line := range map[string]string{
		"fields": "X-Field: 0123456789012345678901234567890123456789012345678901234567890\r\n",
		"folded": " 0123456789012345678901234567890123456789012345678901234567890\r\n",
		"naked":  "x",
	} {
		h := flooded(t, setup{})
		m := watch()
		c := h.connect("huge")
		c.hello()
		s := c.letter("a", "huge", "", known)
		c.envelope(s)
		c.send("DATA\r\n")
		c.reply("DATA", "354 ")
		c.send("Subject: x\r\n")
		piece := []byte(strings.Repeat(line, 64<<10/len(line)))
		for n := 0; n < size && c.err == nil; n += len(piece) {
			_, c.err = c.Write(piece) // send would leave as much garbage
		}
		c.send("\r\n.\r\n")
		if c.finalReply(s); s.final != 552 {
			t.Errorf("%s: %q, %v", name, c.last, c.err)
		}
		c.quit()
		c.end()
		m.atMost(t, "header of 20 MB, "+name, 8<<20)
		h.done(t)
	}
}

func TestThousandsOfRecipients(t *testing.T) {
	const count = 5000
	h := flooded(t, setup{})
	m := watch()
	c := h.connect("many")
	c.hello()
	var recipients []string
	for i := range count {
		recipients = append(recipients, fmt.Sprintf("r%d@example.com", i))
	}
	s := c.letter("a", "many", text, recipients...)
	c.send("MAIL FROM:<" + s.sender + ">\r\n")
	s.mail = c.reply("MAIL", "250")
	var writing sync.WaitGroup
	writing.Go(func() {
		for _, r := range recipients {
			if _, err := io.WriteString(c.Conn, "RCPT TO:<"+r+">\r\n"); err != nil {
				return
			}
		}
	})
	taken := 0
	for i := range recipients {
		switch s.rcpts[i] = c.reply("RCPT", "250"); {
		case s.rcpts[i] == 250:
			taken++
		case !strings.HasPrefix(c.last, "452 4.5.3"):
			t.Fatalf("recipient %d: %q, %v", i, c.last, c.err)
		}
	}
	writing.Wait()
	h.served(t, "meanwhile")
	c.data(s)
	c.quit()
	c.end()
	if taken != 1000 || s.final != 250 {
		t.Errorf("%d recipients were taken, final reply %d", taken, s.final)
	}
	m.atMost(t, "5,000 recipients", 24<<20)
	h.done(t)
}

// TestTrickle: clients that send a byte now and then occupy neither goroutines nor backends, and meet a limit.
func TestTrickle(t *testing.T) {
	const count = 100
	h := flooded(t, setup{hold: 50 * time.Millisecond, backend: "  connections: 3", patience: 1500 * time.Millisecond,
		backends: []backendtest.Behaviour{{Keywords: withoutChunking}}})
	var conns []*talk
	for n := range count {
		c := h.connect(fmt.Sprint("trickle", n))
		c.hello()
		if n%2 == 0 { // these trickle in the message
			s := c.letter("a", "trickle", text, known)
			c.envelope(s)
			c.send("DATA\r\n")
			c.reply("DATA", "354 ")
		}
		if c.err != nil {
			t.Fatalf("client %d: %v", n, c.err)
		}
		conns = append(conns, c)
	}
	m := watch()
	begun := time.Now()
	for time.Since(begun) < time.Second {
		for _, c := range conns {
			c.Write([]byte("x"))
		}
		time.Sleep(20 * time.Millisecond)
	}
	h.served(t, "meanwhile")
	m.atMost(t, "100 trickling clients", 16<<20)
	// In a command line, bytes do not renew the time; in a message they do, up to message_timeout.
	for n, c := range conns {
		if n%2 == 0 {
			c.Close()
			continue
		}
		if code := c.reply("nothing", "421 4.4.2"); code != 421 {
			t.Errorf("client %d: %q, %v", n, c.last, c.err)
		}
		c.end()
	}
	h.done(t)
}
