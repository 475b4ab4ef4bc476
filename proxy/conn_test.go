package proxy

import (
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// TestLastWordsDoNotWait: once the proxy has lost patience, a client that does not read holds up nobody.
func TestLastWordsDoNotWait(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	deaf, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	var killed atomic.Bool
	killed.Store(true)
	c := newConn(accepted, time.Hour, &killed)
	given := make(chan error, 1)
	go func() {
		_, err := c.Write(make([]byte, 64<<20)) // more than all buffers between the two
		given <- err
	}()
	select {
	case err := <-given:
		if err == nil {
			t.Fatal("nobody can have read that")
		}
	case <-time.After(20 * time.Second):
		accepted.Close()
		<-given
		t.Fatal("the write waits for a client that does not read")
	}
}
