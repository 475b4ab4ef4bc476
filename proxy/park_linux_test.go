package proxy

import (
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"
	"unsafe"
)

func (l *lot) state(s *session) (waits, holding bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.place.waits, s.place.waits && s.holding
}

// TestSessionSize: there are thousands of them, and 320 bytes is a size that Go allocates without waste.
func TestSessionSize(t *testing.T) {
	if size := unsafe.Sizeof(session{}); size > 320 {
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
			if s != nil {
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
