package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gatepost/proxy/front"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type greeting struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

// started serves a few calls until the test ends.
func started(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), Name)
	s, err := Listen(path, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.Handle("greet", func(_ context.Context, arguments json.RawMessage) (any, error) {
		var g greeting
		if err := json.Unmarshal(arguments, &g); err != nil {
			return nil, err
		}
		g.Count++
		return g, nil
	})
	s.Handle("nothing", func(context.Context, json.RawMessage) (any, error) { return nil, nil })
	s.Handle("fail", func(context.Context, json.RawMessage) (any, error) {
		return nil, errors.New("it does not work, do this")
	})
	s.Handle("panic", func(context.Context, json.RawMessage) (any, error) { panic("boom") })
	s.Handle("huge", func(context.Context, json.RawMessage) (any, error) { return strings.Repeat("x", maxResponse), nil })
	s.Handle("wait", func(ctx context.Context, _ json.RawMessage) (any, error) { <-ctx.Done(); return nil, ctx.Err() })
	s.Handle("who", func(ctx context.Context, _ json.RawMessage) (any, error) { return Caller(ctx), nil })
	s.HandleStream("count", func(_ context.Context, arguments json.RawMessage, send func(any) error) error {
		var n int
		if err := json.Unmarshal(arguments, &n); err != nil {
			return err
		}
		for i := range n {
			if err := send(greeting{"line\n<two>", i}); err != nil {
				return err
			}
		}
		if n == 13 {
			return errors.New("unlucky")
		}
		return nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is still there: %v", err)
		}
	})
	return path
}

func TestCall(t *testing.T) {
	path := started(t)
	var g greeting
	if err := Call(t.Context(), path, "greet", greeting{"ann", 41}, &g); err != nil || g != (greeting{"ann", 42}) {
		t.Errorf("%+v, %v", g, err)
	}
	if err := Call(t.Context(), path, "nothing", nil, nil); err != nil {
		t.Error(err)
	}
	for call, want := range map[string]string{
		"fail": "it does not work, do this", "panic": "internal error: boom", "huge": "too long", "unknown": `does not know "unknown"`, "count": "cannot unmarshal",
	} {
		if err := Call(t.Context(), path, call, "x", nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", call, err, want)
		}
	}
	if err := Call(t.Context(), path, "count", 3, nil); err == nil || !strings.Contains(err.Error(), "stream") {
		t.Errorf("a stream for one value: %v", err)
	}
	if err := Call(t.Context(), path, "greet", greeting{Name: "x"}, new(int)); err == nil {
		t.Error("an object was decoded as a number")
	}
	if err := Call(t.Context(), path, "greet", strings.Repeat("x", maxRequest), nil); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a request that is too long: %v", err)
	}
}

func TestCaller(t *testing.T) {
	var who string
	err := Call(t.Context(), started(t), "who", nil, &who)
	want, _ := user.Current()
	if err != nil || who != want.Username {
		t.Errorf("the handler knows its caller as %q, %v", who, err)
	}
	if got := Caller(context.WithValue(t.Context(), callerKey{}, "4294967294")); got != "4294967294" {
		t.Errorf("a user without a name is %q", got)
	}
	if got := Caller(t.Context()); got != "" {
		t.Errorf("nobody is %q", got)
	}
}

func TestStream(t *testing.T) {
	path := started(t)
	got := 0
	err := Stream(t.Context(), path, "count", 10_000, func(g greeting) bool {
		if g != (greeting{"line\n<two>", got}) {
			t.Errorf("item %d is %+v", got, g)
		}
		got++
		return true
	})
	if err != nil || got != 10_000 {
		t.Errorf("%d items, %v", got, err)
	}
	got = 0
	if err := Stream(t.Context(), path, "count", 1_000_000, func(greeting) bool { got++; return got < 5 }); err != nil || got != 5 {
		t.Errorf("stopped after %d items, %v", got, err)
	}
	got = 0
	if err := Stream(t.Context(), path, "count", 13, func(greeting) bool { got++; return true }); err == nil || err.Error() != "unlucky" || got != 13 {
		t.Errorf("%d items, %v", got, err)
	}
}

func TestTheHandlerEndsWithItsClient(t *testing.T) {
	path := started(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := Call(ctx, path, "wait", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	// Cleanup waits for the handler: it would hang if the handler had not noticed.
}

func TestTheServerEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), Name)
	s, err := Listen(path, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{})
	s.Handle("wait", func(ctx context.Context, _ json.RawMessage) (any, error) {
		close(asked)
		<-ctx.Done()
		return nil, errors.New("gatepost stops")
	})
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- s.Serve(ctx) }()
	called := make(chan error)
	go func() { called <- Call(t.Context(), path, "wait", nil, nil) }()
	silent, err := net.Dial("unix", path) // says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	<-asked
	cancel()
	if err := <-called; err == nil || err.Error() != "gatepost stops" {
		t.Errorf("the client heard: %v", err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestNobodyThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), Name)
	err := Call(t.Context(), path, "greet", nil, nil)
	if !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), path) {
		t.Errorf("without a socket: %v", err)
	}
	leaveStale(t, path)
	if err := Call(t.Context(), path, "greet", nil, nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("with a socket that a dead process left: %v", err)
	}
}

// leaveStale makes a socket as a killed process leaves it.
func leaveStale(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), Name)
	leaveStale(t, path)
	s, err := Listen(path, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("a stale socket is in the way: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := Listen(path, nil, slog.New(slog.DiscardHandler)); !errors.Is(err, front.ErrOwned) {
		t.Errorf("a second server: %v", err)
	}
	if err := s.listener.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, nil, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("on a file: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("the file was touched: %q, %v", b, err)
	}
}

func TestBadRequests(t *testing.T) {
	path := started(t)
	for _, line := range []string{"\n", "hello\n", "{\n", `{"call":5}` + "\n", strings.Repeat("x", maxRequest), `{"call":"` + strings.Repeat("x", 1000) + `"}` + "\n"} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, line)
		answer, err := bufio.NewReader(conn).ReadBytes('\n')
		var r response
		if err != nil || json.Unmarshal(answer, &r) != nil || !r.End || r.Error == "" {
			t.Errorf("%.20q: %q, %v", line, answer, err)
		}
		_ = conn.Close()
	}
	if err := Call(t.Context(), path, "nothing", nil, nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestOnlySoManyAtOnce(t *testing.T) {
	path := started(t)
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	for range maxClients {
		waiting.Go(func() { _ = Call(ctx, path, "wait", nil, nil) })
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := Call(t.Context(), path, "nothing", nil, nil)
		if err != nil && strings.Contains(err.Error(), "already") {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("no bound: %v", err)
		}
	}
	cancel()
	waiting.Wait()
}

func TestBrokenOffAnswers(t *testing.T) {
	path := filepath.Join(t.TempDir(), Name)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, answer := range []string{"", "{", "null\n", `{"item":1}` + "\n", "text\n", fmt.Sprintf("%0*d\n", maxResponse+10, 1)} {
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = bufio.NewReader(conn).ReadBytes('\n')
			_, _ = io.WriteString(conn, answer)
			_ = conn.Close()
		}()
		if err := Stream(t.Context(), path, "x", nil, func(json.RawMessage) bool { return true }); err == nil {
			t.Errorf("%.20q was an answer", answer)
		}
	}
	if !front.IsNobody(syscall.ECONNREFUSED) || front.IsNobody(io.EOF) {
		t.Error("IsNobody")
	}
}
