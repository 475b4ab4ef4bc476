package proxy

import (
	"context"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/proxy/front"
	"gatepost/proxy/sockets"
)

// hold keeps everybody who waits from being woken.
func (l *lot) hold() (release func()) {
	l.mu.Lock()
	return l.mu.Unlock
}

// TestProbeOfALoopThatStands: a client waits at a socket from which nobody accepts, and then somebody does.
func TestProbeOfALoopThatStands(t *testing.T) {
	s, err := New(Options{Service: Service{Limits: DefaultLimits()}, Log: slog.New(slog.DiscardHandler), Clock: filters.SystemClock{}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown(t.Context())
	bound, err := Listen{Address: "127.0.0.1:0"}.Bind(t.Context(), &sockets.Set{})
	if err != nil {
		t.Fatal(err)
	}
	start := make(chan struct{})
	s.doors = front.NewDoors(func(d *door) {
		<-start
		s.accept(d)
	})
	d := front.NewDoor(bound.Listener, &listenConfig{Listen: bound.Listen})
	served := make(chan struct{})
	go func() { defer close(served); s.doors.Serve(t.Context(), d) }()
	defer func() { s.doors.Close(); <-served }()
	for len(s.doors.Open()) == 0 {
		runtime.Gosched()
	}
	if err := s.Probe(t.Context()); err != nil {
		t.Errorf("nobody waits: %v", err)
	}
	client, err := net.Dial("tcp", d.Socket().Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.Probe(ctx); err == nil || !strings.Contains(err.Error(), "1 clients wait at 127.0.0.1:") {
		t.Errorf("one waits: %v", err)
	}
	close(start)
	patient, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	if err := s.Probe(patient); err != nil {
		t.Errorf("it is accepted: %v", err)
	}
}
