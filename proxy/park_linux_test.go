package proxy

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"gatepost/proxy/backend/backendtest"
)

func (l *lot) state(s *session) (waits, holding bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	waits = s.place.waits != forNothing
	return waits, waits && s.holding
}

// TestSessionSize: there are thousands of them, and 256 bytes is a size that Go allocates without waste.
func TestSessionSize(t *testing.T) {
	if size := unsafe.Sizeof(session{}); size > 256 {
		t.Errorf("a session takes %d bytes", size)
	}
}

// TestIdleMemory opens many connections and prints what one costs that waits after EHLO: kernel memory aside, everything
// that the process holds, the test's own end of the connection included.
func TestIdleMemory(t *testing.T) {
	const connections = 2000
	h := start(t, setup{limits: func(l *Limits) { l.Connections = 2 * connections }})
	h.hello().say("QUIT", "221")
	h.waitIdle()
	measure := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	clients := make([]net.Conn, 0, connections)
	before := measure()
	buffer := make([]byte, 4096)
	for range connections {
		c, err := net.Dial("tcp", h.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clients = append(clients, c)
		c.SetDeadline(time.Now().Add(20 * time.Second))
		c.Read(buffer)
		fmt.Fprintf(c, "EHLO client.test\r\n")
		c.Read(buffer)
		c.SetDeadline(time.Time{})
	}
	waiting := func() int {
		l := h.server.lot.(*lot)
		l.mu.Lock()
		defer l.mu.Unlock()
		n := 0
		for _, s := range l.places {
			if s != nil && s.place.waits == forInput {
				n++
			}
		}
		return n
	}
	for limit := time.Now().Add(5 * time.Second); waiting() < connections && time.Now().Before(limit); {
		time.Sleep(time.Millisecond)
	}
	each := (measure() - min(before, measure())) / connections
	t.Logf("%d idle connections: %d bytes each in heap and stacks, both ends", connections, each)
	fmt.Printf("idle connection: %d bytes\n", each)
	// The test's own end, a net.Conn of Go's, takes 600 of them.
	if each > 2<<10 && !poolsForget {
		t.Fatalf("an idle connection costs %d bytes, more than 2 KiB", each)
	}
	runtime.KeepAlive(clients)
}

// What comes while a session runs is told once, and must be there for its next wait: so are commands that come while the
// backend is asked, and the end of the stream, together with the last command or behind it.
func TestNothingIsMissedThatComesWhileTheSessionRuns(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	h := start(t, setup{backend: backendtest.Behaviour{Answer: func(_ *backendtest.Session, line string) string {
		if strings.HasPrefix(line, "MAIL FROM:<slow@") {
			asked <- struct{}{}
			<-answer
		}
		return ""
	}}})
	const slow = "MAIL FROM:<slow@example.org>\r\n"
	for _, test := range []struct {
		name          string
		first, behind string
		ends          bool
		codes         []string
	}{
		{"a command behind", slow, "RSET\r\n", false, []string{"250", "250"}},
		{"the end behind", slow, "", true, []string{"250"}},
		{"a command and the end behind", slow, "RSET\r\n", true, []string{"250", "250"}},
		{"half a command behind, and the end", slow, "RS", true, []string{"250"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := h.hello()
			c.say("NOOP", "250") // it has waited for a command before
			c.send(test.first)
			<-asked
			c.send(test.behind)
			if test.ends {
				c.Conn.(*net.TCPConn).CloseWrite()
			}
			answer <- struct{}{}
			for _, code := range test.codes {
				c.expect(code)
			}
			if !test.ends {
				c.say("QUIT", "221")
			}
			if rest, err := io.ReadAll(c.r); len(rest) > 0 || err != nil {
				t.Errorf("%q, %v; want the end", rest, err)
			}
		})
	}
	t.Run("together with a command", func(t *testing.T) {
		c := h.hello()
		raw, _ := c.Conn.(*net.TCPConn).SyscallConn()
		raw.Control(func(fd uintptr) { // the segment with the command has the FIN
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 0)
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, 1)
		})
		c.send("NOOP\r\n")
		c.Conn.(*net.TCPConn).CloseWrite()
		c.expect("250")
		if rest, err := io.ReadAll(c.r); len(rest) > 0 || err != nil {
			t.Errorf("%q, %v; want the end", rest, err)
		}
	})
}

// A large message does not wake the watcher for each of its pieces, and its client is watched all the time afterwards.
func TestLargeMessagesAreReadWithoutTheWatcher(t *testing.T) {
	h := start(t, setup{})
	c := h.hello()
	watch := func() (watch watchKind) {
		h.server.eachSession(func(s *session) {
			l := h.server.lot.(*lot)
			l.mu.Lock()
			defer l.mu.Unlock()
			watch = s.place.watch
		})
		return watch
	}
	await := func(want watchKind) {
		for limit := time.Now().Add(10 * time.Second); watch() != want; time.Sleep(time.Millisecond) {
			if time.Now().After(limit) {
				t.Fatalf("the session is watched in way %d, not %d", watch(), want)
			}
		}
	}
	for range 2 {
		c.say("MAIL FROM:<a@example.org>", "250")
		c.say("RCPT TO:<b@example.com>", "250")
		c.say("DATA", "354")
		c.send("Subject: large\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 5000))
		await(watchOnce)
		c.say(".", "250")
		c.say("NOOP", "250")
		await(watchAlways)
	}
}
