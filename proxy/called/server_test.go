package called

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"

	"gatepost/proxy"
)

// foreign is a connection from a network that nothing was said of.
type foreign struct{ net.Conn }

func (foreign) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4711} }

func (foreign) Close() error { return nil }

// TestStrangersDoNotFillTheLog: all are turned away and counted, and now and then one is spoken of.
func TestStrangersDoNotFillTheLog(t *testing.T) {
	var log bytes.Buffer
	var metrics Metrics
	begin := func(*Conn[Listen]) Session { t.Fatal("it is let in"); return nil }
	s, err := New(Options[Listen]{Key: "milter", Begin: begin, Service: Service{Limits: proxy.DefaultLimits()},
		Log: slog.New(slog.NewTextHandler(&log, nil)), Metrics: &metrics})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown(t.Context())
	for range 1000 {
		s.Hold(&Listen{Address: "inet:0.0.0.0:8891"}, foreign{})
	}
	if n := metrics.RefusedPeers.Load(); n != 1000 {
		t.Errorf("%d were counted", n)
	}
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("%d lines are in the log", n)
	}
}
