package proxy

import (
	"context"
	"net"
	"testing"
	"time"
)

// TestLastWordsDoNotWait: once the proxy has lost patience, a client that does not read holds up nobody.
func TestLastWordsDoNotWait(t *testing.T) {
	h := start(t, setup{})
	service := h.service
	service.Limits.CommandTimeout = service.Limits.MessageTimeout
	for name, accept := range map[string]func(*Server, net.Listener) func() (arrival, error){
		"our own descriptor":     (*Server).accepter,
		"Go's network interface": func(_ *Server, l net.Listener) func() (arrival, error) { return acceptConn(l) },
	} {
		t.Run(name, func(t *testing.T) {
			server, err := New(Options{Service: service, Log: h.server.log, Clock: h.server.clock})
			if err != nil {
				t.Fatal(err)
			}
			defer server.Shutdown(context.Background())
			l, err := Listen{Address: "127.0.0.1:0"}.Bind(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			deaf, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer deaf.Close()
			a, err := accept(server, l.Listener)()
			if err != nil {
				t.Fatal(err)
			}
			server.killed.Store(true)
			served, _ := server.service.Acquire()
			defer served.Release()
			session := server.newSession(served, &listenConfig{}, a)
			defer session.conn.Close()
			given := make(chan error, 1)
			go func() {
				_, err := session.conn.Write(make([]byte, 64<<20)) // more than all buffers between the two
				given <- err
			}()
			select {
			case err := <-given:
				if err == nil {
					t.Fatal("nobody can have read that")
				}
			case <-time.After(20 * time.Second):
				deaf.Close()
				<-given
				t.Fatal("the write waits for a client that does not read")
			}
		})
	}
}
