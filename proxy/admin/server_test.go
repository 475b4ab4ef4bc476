package admin

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestOnLoopbackEverybodyMayCome(t *testing.T) {
	v := start(t, Default(), nil)
	for path, want := range map[string]string{
		"/health": "ok\n", "/ready": "ready\n", "/metrics": "one 1\n", "/": "sessions now", "/static/style.css": "color-scheme", "/login": "",
	} {
		status, text := v.get(path)
		if path == "/login" && status != http.StatusSeeOther || path != "/login" && status != http.StatusOK || !strings.Contains(text, want) {
			t.Errorf("%s: %d %q", path, status, text)
		}
	}
	for _, path := range []string{"/nothing", "/static/", "/static/../login.html", "/static/%2e%2e/layout.html"} {
		if status, _ := v.get(path); status/100 == 2 {
			t.Errorf("%s: %d", path, status)
		}
	}
	v.ready = []string{"no backend"}
	if status, text := v.get("/ready"); status != http.StatusServiceUnavailable || text != "not ready\nno backend\n" {
		t.Errorf("%d %q", status, text)
	}
	if status, _ := v.get("/health"); status != http.StatusOK {
		t.Errorf("health is for our own faults: %d", status)
	}
}

// A name that somebody else has made to lead to 127.0.0.1 is no way in.
func TestOnLoopbackTheHostIsChecked(t *testing.T) {
	v := start(t, Default(), nil)
	for host, want := range map[string]int{
		"127.0.0.1": 200, "localhost:8025": 200, "[::1]:8025": 200, "LOCALHOST": 200, "127.9.9.9": 200,
		"rebound.example": 421, "rebound.example:8025": 421, "192.0.2.1": 421, "localhost.example": 421, "127.0.0.1.example": 421,
	} {
		if response, _ := v.do("GET", "/metrics", "", func(r *http.Request) { r.Host = host }); response.StatusCode != want {
			t.Errorf("%s: %d, want %d", host, response.StatusCode, want)
		}
	}
}

func TestEveryResponseHasItsHeaders(t *testing.T) {
	v := start(t, secured(t), func(s *Server) {
		s.Handle("GET /panic", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("boom") }))
	})
	signedIn := func(r *http.Request) { r.SetBasicAuth("x", password) }
	for _, path := range []string{"/", "/login", "/health", "/ready", "/metrics", "/nothing", "/static/style.css", "/panic"} {
		response, _ := v.do("GET", path, "", signedIn)
		for _, h := range securityHeaders {
			if got := response.Header.Values(h[0]); len(got) != 1 || got[0] == "" {
				t.Errorf("%s: %s is %q", path, h[0], got)
			}
		}
	}
	if response, text := v.do("GET", "/panic", "", signedIn); response.StatusCode != 500 || strings.Contains(text, "boom") {
		t.Errorf("%d %q", response.StatusCode, text)
	}
	if !strings.Contains(v.log.String(), "panic in an admin page") {
		t.Errorf("not logged: %s", v.log)
	}
}

func TestPagesAskNobodyElse(t *testing.T) {
	v := start(t, secured(t), nil)
	for _, path := range []string{"/", "/login"} {
		_, text := v.do("GET", path, "", func(r *http.Request) { r.SetBasicAuth("x", password) })
		harmless(t, path, text)
	}
}

func TestOtherSitesChangeNothing(t *testing.T) {
	changed := 0
	v := start(t, Default(), func(s *Server) {
		s.Handle("POST /change", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { changed++ }))
	})
	for name, change := range map[string]func(*http.Request){
		"site":        func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"same site":   func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") },
		"origin":      func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") },
		"null origin": func(r *http.Request) { r.Header.Set("Origin", "null") },
	} {
		if response, _ := v.do("POST", "/change", "a=b", change); response.StatusCode != http.StatusForbidden || changed != 0 {
			t.Errorf("%s: %d, changed %d times", name, response.StatusCode, changed)
		}
	}
	if response, _ := v.do("POST", "/change", "a=b", func(r *http.Request) { r.Header.Set("Origin", v.base) }); response.StatusCode != 200 || changed != 1 {
		t.Errorf("our own page: %d, changed %d times", response.StatusCode, changed)
	}
}

// Every browser says of a form where it comes from. One that does not, and shows that somebody has signed in with it, is not
// believed; a program that sends the password with the request is.
func TestChangesWithACookieTellWhereTheyComeFrom(t *testing.T) {
	changed := 0
	v := start(t, secured(t), func(s *Server) {
		s.Handle("POST /change", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { changed++ }))
	})
	if response, _ := signIn(v, password, "/"); response.StatusCode != http.StatusSeeOther {
		t.Fatalf("%d", response.StatusCode)
	}
	for name, test := range map[string]struct {
		change func(*http.Request)
		status int
	}{
		"nothing":       {nil, http.StatusForbidden},
		"another port":  {func(r *http.Request) { r.Header.Set("Origin", "https://127.0.0.1:1") }, http.StatusForbidden},
		"our origin":    {func(r *http.Request) { r.Header.Set("Origin", v.base) }, http.StatusOK},
		"our site":      {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") }, http.StatusOK},
		"with password": {func(r *http.Request) { r.SetBasicAuth("x", password) }, http.StatusForbidden},
	} {
		before := changed
		if response, _ := v.do("POST", "/change", "a=b", test.change); response.StatusCode != test.status || (changed > before) != (test.status == http.StatusOK) {
			t.Errorf("%s: %d, changed %v", name, response.StatusCode, changed > before)
		}
	}
	v.client.Jar = nil
	if response, _ := v.do("POST", "/change", "a=b", func(r *http.Request) { r.SetBasicAuth("x", password) }); response.StatusCode != http.StatusOK {
		t.Errorf("a program: %d", response.StatusCode)
	}
}

func TestBodiesAreBounded(t *testing.T) {
	v := start(t, Default(), func(s *Server) {
		s.Handle("POST /echo", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.ReadAll(r.Body); err != nil {
				http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			}
		}))
	})
	if response, _ := v.do("POST", "/echo", strings.Repeat("x", maxBody+1), nil); response.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("%d", response.StatusCode)
	}
}

// The server ends with its context: what streams ends, and nothing runs behind Run.
func TestShutdown(t *testing.T) {
	streaming, ended := make(chan struct{}), make(chan struct{})
	v := start(t, Default(), func(s *Server) {
		s.Handle("GET /stream", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			close(streaming)
			<-r.Context().Done()
			close(ended)
		}))
	})
	var asking sync.WaitGroup
	asking.Go(func() {
		if response, err := v.client.Get(v.base + "/stream"); err == nil {
			_, _ = io.Copy(io.Discard, response.Body)
			response.Body.Close()
		}
	})
	<-streaming
	v.stop()
	select {
	case <-ended:
	default:
		t.Error("Run has returned before a handler")
	}
	asking.Wait()
	if v.server.Addr() != nil {
		t.Error("it still has an address")
	}
}

// An address that somebody else has is no reason to give up, nor to hold anybody up.
func TestAnAddressThatIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	v := start(t, Default(), nil)
	v.stop()
	v.server.Config.Address = taken.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); v.server.Run(ctx) }()
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(v.log.String(), "the admin address cannot be had"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing is logged")
		}
	}
	cancel()
	<-ended
}

func TestSlowHeadersAreCutOff(t *testing.T) {
	v := start(t, Default(), nil)
	if v.server.http.ReadHeaderTimeout <= 0 || v.server.http.ReadTimeout <= 0 || v.server.http.WriteTimeout <= 0 || v.server.http.IdleTimeout <= 0 {
		t.Error("a wait without an end")
	}
	c, err := net.Dial("tcp", v.server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n", strings.Repeat("x", 2*maxHeaderBytes))
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	answer, _ := io.ReadAll(c)
	if !strings.HasPrefix(string(answer), "HTTP/1.1 431") {
		t.Errorf("%.100q", answer)
	}
}
