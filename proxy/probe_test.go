package proxy

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"gatepost/filters"
)

// TestProbe is answered by a server that works, leaves nothing behind, and is not by one whose sessions cannot go on.
func TestProbe(t *testing.T) {
	s, err := New(Options{Service: Service{Limits: DefaultLimits()}, Log: slog.New(slog.DiscardHandler), Clock: filters.SystemClock{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for range 3 {
		if err := s.Probe(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if l, ok := s.lot.(interface{ hold() func() }); ok {
		release := l.hold()
		short, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := s.Probe(short); err == nil {
			t.Error("nobody who waits is woken, and the probe does not notice")
		}
		stop()
		release()
	}
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if n := s.metrics.Open.Load(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
	open := openFiles(t)
	for range 20 {
		if err := s.Probe(ctx); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after the end: %v", err)
		}
	}
	if n := openFiles(t) - open; n >= 20 {
		t.Errorf("%d descriptors are left by probes that were not admitted", n)
	}
}

// Nobody but who asks hears of a probe: it is no client whose session is in progress, whether it waits or runs.
func TestAProbeIsNoSessionInProgress(t *testing.T) {
	s, err := New(Options{Service: Service{Limits: DefaultLimits()}, Log: slog.New(slog.DiscardHandler), Clock: filters.SystemClock{}})
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs, err := connectedPair()
	if err != nil {
		t.Fatal(err)
	}
	if !s.admitProbe(theirs) {
		t.Fatal("not admitted")
	}
	waits := false
	for deadline := time.Now().Add(10 * time.Second); !waits && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if list := s.InProgress(10); len(list) > 0 {
			t.Fatalf("a probe is shown as a client's session: %+v", list[0].Session)
		}
		s.eachSession(func(e *session) { s.lot.look(e, func() { waits = true }) })
	}
	if list := s.InProgress(10); !waits || len(list) > 0 {
		t.Errorf("a probe that waits (%v) is shown as a client's session: %+v", waits, list)
	}
	ours.Close()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// openFiles is how many descriptors this process has, as far as the system tells.
func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Skip("the system does not tell of descriptors")
	}
	return len(list)
}
