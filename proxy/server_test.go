package proxy

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/proxy/backend"
	"gatepost/proxy/backend/backendtest"
	"gatepost/proxy/front"
	"gatepost/rules"
)

// TestKilledSessions: when Shutdown loses patience, everybody is let go, whatever they wait for.
func TestKilledSessions(t *testing.T) {
	for _, threads := range []bool{false, true} {
		answer := func(s *backendtest.Session, line string) string {
			if strings.HasPrefix(line, "RCPT TO:<stall@") {
				return backendtest.Stall
			}
			return ""
		}
		h := start(t, setup{threads: threads, dirty: true, backend: backendtest.Behaviour{Answer: answer}})
		inData := h.hello()
		inData.say("MAIL FROM:<a@example.org>", "250")
		inData.say("RCPT TO:<b@example.com>", "250")
		inData.say("DATA", "354")
		inData.send("half")
		waiting := h.hello()
		waiting.say("MAIL FROM:<a@example.org>", "250")
		asking := h.hello()
		asking.say("MAIL FROM:<a@example.org>", "250")
		asking.send("RCPT TO:<stall@example.com>\r\n")

		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		begun := time.Now()
		if err := h.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Shutdown: %v", err)
		}
		if took := time.Since(begun); took > 3*time.Second {
			t.Fatalf("Shutdown took %s", took)
		}
		inData.expect("421 4.3.2")
		waiting.expect("421 4.3.2")
		if got := asking.reply(); got[0] != '4' && !strings.HasPrefix(got, "EOF") {
			t.Fatalf("asking: %q", got)
		}
		if len(h.backends[0].Messages()) > 0 {
			t.Fatal("half a message was delivered")
		}
	}
}

// TestReload: sessions finish on the service that they began with, which is retired with the last of them.
func TestReload(t *testing.T) {
	var retired atomic.Int32
	h := start(t, setup{listen: Listen{Certificate: certificate(t)}})
	fresh := h.service
	fresh.Engine = compile(t, setup{rules: []rules.Definition{definition(map[string]string{
		"name": "all", "when": `mail.domain == "example.org"`, "then": "reject", "at": "mail"})}})
	fresh.Retired = func() { retired.Add(1) }
	old := h.hello()
	listen := h.server.anyDoor().Config().Listen
	if err := h.server.Reload(fresh, &Listening{Entries: []Listen{listen}}); err != nil {
		t.Fatal(err)
	}
	refused := h.hello()
	refused.say("MAIL FROM:<a@example.org>", "550 5.7.1")
	refused.say("QUIT", "221")
	old.say("MAIL FROM:<a@example.org>", "250")

	bad := listen
	bad.Certificate = "/nonexistent"
	if err := h.server.Reload(fresh, &Listening{Entries: []Listen{bad}}); err == nil || !strings.Contains(err.Error(), "/nonexistent") {
		t.Fatalf("a certificate that is not there: %v", err)
	}
	second := h.hello()
	listen.Certificate = ""
	if err := h.server.Reload(h.service, &Listening{Entries: []Listen{listen}}); err != nil {
		t.Fatal(err)
	}
	h.hello().say("STARTTLS", "502") // the new listener has no certificate
	if retired.Load() != 0 {
		t.Fatal("retired while it was in use")
	}
	second.say("QUIT", "221")
	old.say("QUIT", "221")
	for limit := time.Now().Add(5 * time.Second); retired.Load() == 0 && time.Now().Before(limit); {
		time.Sleep(time.Millisecond)
	}
	if retired.Load() != 1 {
		t.Fatalf("retired %d times", retired.Load())
	}
}

// anyDoor is one that is open, or nil.
func (s *Server) anyDoor() *door {
	all := func(*listenConfig, struct{}) bool { return true }
	for d := range front.Match(s.doors, make([]struct{}, 1), all) {
		return d
	}
	return nil
}

type panics struct{}

func (panics) Record(r *policy.Record) {
	if r.Kind == "transaction" {
		panic("as arranged")
	}
}

// TestPanic: a mistake of ours ends one session, and no other.
func TestPanic(t *testing.T) {
	h := start(t, setup{dirty: true})
	fine := h.hello()
	service := h.service
	service.Runtime = &policy.Runtime{Recorder: panics{}}
	if err := h.server.Reload(service, nil); err != nil {
		t.Fatal(err)
	}
	c := h.hello()
	c.say("MAIL FROM:<a@example.org>", "250")
	c.say("RSET", "421 4.3.0 Internal error")
	c.expect("EOF")
	fine.say("NOOP", "250")
	fine.say("QUIT", "221")
	h.waitIdle()
	if n := h.server.Metrics().Panics.Load(); n == 0 {
		t.Fatal("no panic was counted")
	}
	if !strings.Contains(h.log.String(), "as arranged") || !strings.Contains(h.log.String(), "TestPanic") && !strings.Contains(h.log.String(), "panics.Record") {
		t.Fatal("the log has no stack")
	}
}

// broke is a listener that is out of descriptors for a while.
type broke struct {
	net.Listener
	left atomic.Int32
}

func (b *broke) Accept() (net.Conn, error) {
	if b.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return b.Listener.Accept()
}

func TestAcceptGoesOn(t *testing.T) {
	h := start(t, setup{})
	bound, err := Listen{Address: "127.0.0.1:0"}.Bind(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	l := &broke{Listener: bound.Listener}
	l.left.Store(4)
	bound.Listener = l
	h.address = l.Addr().String()
	var serving sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	serving.Go(func() { h.server.Serve(ctx, bound) })
	defer serving.Wait()
	defer cancel()
	h.hello().say("QUIT", "221")
	if n := h.server.Metrics().AcceptErrors.Load(); n != 4 {
		t.Fatalf("%d errors were counted", n)
	}
}

// TestPerClientLimitIsGivenBack: a client that leaves may come again.
func TestPerClientLimitIsGivenBack(t *testing.T) {
	h := start(t, setup{limits: func(l *Limits) { l.ConnectionsPerClient = 2 }, listen: Listen{XClientFrom: prefixes("127.0.0.1/32")}})
	for range 5 {
		a, b := h.hello(), h.hello()
		third := h.dial()
		third.expect("421 4.7.0", "EOF")
		// XCLIENT counts for the client that it names.
		a.say("XCLIENT ADDR=192.0.2.1", "220")
		fourth := h.hello()
		a.say("XCLIENT ADDR=127.0.0.1", "421 4.7.0")
		for _, c := range []*client{b, fourth} {
			c.say("QUIT", "221")
		}
		h.waitIdle()
	}
	h.server.mu.Lock()
	defer h.server.mu.Unlock()
	if len(h.server.clients) > 0 {
		t.Fatalf("clients are still counted: %v", h.server.clients)
	}
}

// TestServeAfterShutdown serves nobody and leaves nothing open.
func TestServeAfterShutdown(t *testing.T) {
	h := start(t, setup{})
	if err := h.server.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	bound, err := Listen{Address: "127.0.0.1:0"}.Bind(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.server.Serve(context.Background(), bound); err != nil {
		t.Fatal(err)
	}
	if _, err := bound.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("the socket is open: %v", err)
	}
}

// TestManySessions has sessions of all kinds at once.
func TestManySessions(t *testing.T) {
	h := start(t, setup{hold: 5 * time.Millisecond})
	var clients sync.WaitGroup
	for n := range 40 {
		clients.Go(func() {
			for range 5 {
				for body, ok := range playMessages(h, n, 3, n%2 == 0) {
					if !ok {
						t.Errorf("%s was not accepted", body)
					}
				}
			}
		})
	}
	clients.Wait()
	if got := len(h.backends[0].Messages()); got != 40*5*3 {
		t.Fatalf("%d messages, want %d", got, 40*5*3)
	}
}

// BenchmarkMessage is one message of 4 KiB in a session of its own, through a backend in the same process.
func BenchmarkMessage(b *testing.B) {
	body := strings.Repeat("0123456789 and so on, to the end of the line\r\n", 4096/46)
	h := start(b, setup{backend: backendtest.Behaviour{Deliver: func(*backendtest.Message) error { return nil }}})
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		buffer := make([]byte, 4096)
		for p.Next() {
			c, err := net.Dial("tcp", h.address)
			if err != nil {
				b.Error(err)
				return
			}
			for _, text := range []string{"", "EHLO client.test\r\n", "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n",
				"Subject: x\r\n\r\n" + body + ".\r\n", "QUIT\r\n"} {
				if text != "" {
					c.Write([]byte(text))
				}
				for want := strings.Count(text, "\r\n"); ; {
					n, err := c.Read(buffer)
					if err != nil {
						b.Error(err)
						return
					}
					got := strings.Count(string(buffer[:n]), "\r\n")
					if want -= got; want <= 0 || !strings.HasPrefix(text, "MAIL") {
						break
					}
				}
			}
			c.Close()
		}
	})
}

// brokenSpill makes files that cannot be read back without a panic.
type brokenSpill struct{ filters.Spill }

type brokenFile struct{ filters.SpillFile }

func (b brokenSpill) Create() (filters.SpillFile, error) {
	f, err := b.Spill.Create()
	return brokenFile{f}, err
}

func (brokenFile) ReadAt([]byte, int64) (int, error) { panic("as arranged") }

// TestPanicInMessage: a connection on which half a message was sent is nobody's any more. What the next client said
// there would become the rest of the message.
func TestPanicInMessage(t *testing.T) {
	spill, err := front.NewSpill(t.TempDir(), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	h := start(t, setup{dirty: true, spill: brokenSpill{spill}, limits: func(l *Limits) { l.MessageMemory = 200 << 10 }})
	c := h.hello()
	c.say("MAIL FROM:<a@example.org>", "250")
	c.say("RCPT TO:<b@example.org>", "250")
	c.say("DATA", "354")
	c.send("Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 998)+"\r\n", 500))
	c.say(".", "421 4.3.0 Internal error")
	h.waitIdle()
	c = h.hello()
	c.say("MAIL FROM:<c@example.org>", "250")
	c.say("RCPT TO:<d@example.org>", "250")
	c.say("DATA", "354")
	c.say("Subject: y\r\n\r\ny\r\n.", "250")
	messages := h.backends[0].Messages()
	if len(messages) != 1 || !strings.HasPrefix(string(messages[0].Data), "Subject: y") {
		t.Errorf("%d messages arrived", len(messages))
	}
}

// TestCrowdedBackend: while the backend's connections are all but used up, a client that says nothing does not keep one
// from the others for all of backend.hold.
func TestCrowdedBackend(t *testing.T) {
	h := start(t, setup{
		hold:   time.Hour,
		group:  func(c *backend.Config) { c.Connections = 1 },
		limits: func(l *Limits) { l.EnvelopeBudget = filters.Duration(15 * time.Second) },
	})
	silent := h.hello()
	silent.say("MAIL FROM:<a@example.org>", "250")
	silent.say("RCPT TO:<b@example.org>", "250")
	other := h.hello()
	other.say("MAIL FROM:<c@example.org>", "250")
	other.say("RCPT TO:<d@example.org>", "250")
	other.say("QUIT", "221")
	silent.say("DATA", "354")
	silent.say("Subject: x\r\n\r\nx\r\n.", "250")
}
