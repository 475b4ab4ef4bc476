package resolver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"gatepost/filters"
)

func TestLookups(t *testing.T) {
	s := serve(t, records(
		"mx.example.org. 60 IN A 192.0.2.25",
		"mx.example.org. 60 IN AAAA 2001:db8::25",
		"example.org. 60 IN MX 10 mx.example.org.",
		"null.example. 60 IN MX 0 .",
		`example.org. 60 IN TXT "v=spf1 " "mx -all"`,
		`bytes.example. 60 IN TXT "quote \" backslash \\ NUL \000 high \255"`,
		"25.2.0.192.in-addr.arpa. 60 IN PTR mx.example.org.",
		`strange\.\\.example. 60 IN A 192.0.2.66`,
		`back\\slash.example. 60 IN A 192.0.2.67`,
	))
	r := newResolver(t, clock(), s.address)
	ctx := t.Context()

	a, err := r.LookupA(ctx, "MX.example.ORG.")
	check(t, "A", a, err, addrs("192.0.2.25"))
	aaaa, err := r.LookupAAAA(ctx, "mx.example.org")
	check(t, "AAAA", aaaa, err, addrs("2001:db8::25"))
	mx, err := r.LookupMX(ctx, "example.org")
	check(t, "MX", mx, err, []filters.MX{{Preference: 10, Host: "mx.example.org"}})
	mx, err = r.LookupMX(ctx, "null.example")
	check(t, "null MX", mx, err, []filters.MX{{}})
	txt, err := r.LookupTXT(ctx, "example.org")
	check(t, "TXT in parts", txt, err, []string{"v=spf1 mx -all"})
	txt, err = r.LookupTXT(ctx, "bytes.example")
	check(t, "TXT with any byte", txt, err, []string{"quote \" backslash \\ NUL \x00 high \xff"})
	ptr, err := r.LookupPTR(ctx, netip.MustParseAddr("::ffff:192.0.2.25"))
	check(t, "PTR", ptr, err, []string{"mx.example.org"})
	none, err := r.LookupA(ctx, "example.org")
	check(t, "name without such a record", none, err, nil)
	back, err := r.LookupA(ctx, `back\slash.example`)
	check(t, "a backslash is no escape", back, err, addrs("192.0.2.67"))

	if _, err := r.LookupA(ctx, "nowhere.example.org"); !errors.Is(err, filters.ErrNXDomain) {
		t.Errorf("name that does not exist: %v", err)
	}

	asked, counted := r.Metrics.Asked.Load(), uint64(0)
	for _, n := range r.Metrics.Latency.Read().Counts {
		counted += n
	}
	if asked != 10 || counted != asked || r.Metrics.Failed.Load() != 0 {
		t.Errorf("%d look-ups were put to the server, durations of %d known, %d without an answer", asked, counted, r.Metrics.Failed.Load())
	}
}

func check[T comparable](t *testing.T, what string, got []T, err error, want []T) {
	t.Helper()
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%s: %v, %v; want %v", what, got, err, want)
	}
}

func TestNamesThatCannotBeAsked(t *testing.T) {
	s := serve(t, records())
	r := newResolver(t, clock(), s.address)
	for _, name := range []string{
		"", ".", "..", "a..example", ".example", strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 127) + "a",
		"a\x00.example", "a\r\nb.example", "bücher.example", "a\x7f.example",
	} {
		if _, err := r.LookupA(t.Context(), name); !errors.Is(err, filters.ErrNXDomain) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if n := s.count("all"); n != 0 {
		t.Errorf("%d queries were sent", n)
	}
	if _, err := r.LookupPTR(t.Context(), netip.Addr{}); !errors.Is(err, filters.ErrNXDomain) {
		t.Errorf("no address: %v", err)
	}
	longest := strings.Repeat("a.", 126) + "a"
	if _, err := r.LookupA(t.Context(), longest); !errors.Is(err, filters.ErrNXDomain) || s.count("all") != 1 {
		t.Errorf("the longest name was not asked: %v", err)
	}
}

func TestAliases(t *testing.T) {
	chain := func(n int) func(string, *dns.Msg) *dns.Msg {
		return func(_ string, q *dns.Msg) *dns.Msg {
			reply := new(dns.Msg).SetReply(q)
			owner := q.Question[0].Name
			for i := range n {
				target := string(rune('a'+i)) + ".example."
				reply.Answer = append(reply.Answer, rr(owner+" 60 IN CNAME "+target))
				owner = target
			}
			reply.Answer = append(reply.Answer, rr(owner+" 60 IN A 192.0.2.1"), rr("stranger.example. 60 IN A 203.0.113.1"))
			return reply
		}
	}
	for _, c := range []struct {
		length int
		want   []netip.Addr
		fails  bool
	}{{0, addrs("192.0.2.1"), false}, {1, addrs("192.0.2.1"), false}, {9, addrs("192.0.2.1"), false}, {12, nil, true}} {
		r := newResolver(t, clock(), serve(t, chain(c.length)).address)
		got, err := r.LookupA(t.Context(), "start.example")
		if (err != nil) != c.fails || !slices.Equal(got, c.want) {
			t.Errorf("chain of %d: %v, %v", c.length, got, err)
		}
		if c.fails && errors.Is(err, filters.ErrNXDomain) {
			t.Errorf("chain of %d: %v is not temporary", c.length, err)
		}
	}
}

func rr(line string) dns.RR {
	record, err := dns.NewRR(line)
	if err != nil {
		panic(err)
	}
	return record
}

func TestTruncatedAnswerGoesOverTCP(t *testing.T) {
	answer := records(`big.example. 60 IN TXT "all of it"`)
	s := serve(t, func(network string, q *dns.Msg) *dns.Msg {
		reply := answer(network, q)
		if network == "udp" {
			reply.Truncated, reply.Answer = true, nil
		}
		return reply
	})
	r := newResolver(t, clock(), s.address)
	got, err := r.LookupTXT(t.Context(), "big.example")
	check(t, "TXT", got, err, []string{"all of it"})
	if s.count("tcp") != 1 {
		t.Errorf("asked %d times over TCP", s.count("tcp"))
	}
}

func TestServerThatDoesNotKnowEDNS(t *testing.T) {
	answer := records("a.example. 60 IN A 192.0.2.1")
	s := serve(t, func(network string, q *dns.Msg) *dns.Msg {
		if q.IsEdns0() != nil {
			return new(dns.Msg).SetRcode(q, dns.RcodeFormatError)
		}
		return answer(network, q)
	})
	r := newResolver(t, clock(), s.address)
	got, err := r.LookupA(t.Context(), "a.example")
	check(t, "A", got, err, addrs("192.0.2.1"))
}

func TestRepliesThatDoNotFitArePassedOver(t *testing.T) {
	genuine := records("victim.example. 60 IN A 192.0.2.1")
	for name, forge := range map[string]func(m *dns.Msg){
		"other name":     func(m *dns.Msg) { m.Question[0].Name = "other.example." },
		"other type":     func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeTXT },
		"other class":    func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS },
		"other id":       func(m *dns.Msg) { m.Id ^= 1 },
		"no question":    func(m *dns.Msg) { m.Question = nil },
		"two questions":  func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) },
		"a query itself": func(m *dns.Msg) { m.Response = false },
		"other opcode":   func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify },
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, func(network string, q *dns.Msg) *dns.Msg {
				reply := genuine(network, q)
				if network == "udp" {
					reply.Answer = []dns.RR{rr("victim.example. 60 IN A 203.0.113.66")}
					forge(reply)
				}
				return reply
			})
			r := withAttempt(t, clock(), 60*time.Millisecond, s.address)
			if got, err := r.LookupA(t.Context(), "victim.example"); err == nil {
				t.Errorf("a forged reply was taken: %v", got)
			}
			if r.Metrics.Mismatched.Load() == 0 {
				t.Error("the forged replies were not counted")
			}
		})
	}
}

func TestFloodOfForgedRepliesTurnsToTCP(t *testing.T) {
	udp := forger(t)
	r := newResolver(t, clock(), udp)
	got, err := r.LookupA(t.Context(), "victim.example")
	check(t, "A", got, err, addrs("192.0.2.1"))
}

// forger answers each query over UDP with many replies of wrong ids, and rightly over TCP.
func forger(t *testing.T) string {
	tcp, udp := listen(t)
	answer := records("victim.example. 60 IN A 192.0.2.1")
	server := &dns.Server{Listener: tcp, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		w.WriteMsg(answer("tcp", q))
	})}
	started := make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	var running sync.WaitGroup
	running.Go(func() { server.ActivateAndServe() })
	<-started
	running.Go(func() {
		buffer := make([]byte, 4096)
		for {
			n, from, err := udp.ReadFrom(buffer)
			if err != nil {
				return
			}
			var q dns.Msg
			if q.Unpack(buffer[:n]) != nil {
				continue
			}
			reply := answer("udp", &q)
			for range 2 * maxMismatched {
				reply.Id++
				packed, _ := reply.Pack()
				udp.WriteTo(packed, from)
			}
		}
	})
	t.Cleanup(func() { server.Shutdown(); udp.Close(); running.Wait() })
	return udp.LocalAddr().String()
}

func TestFailuresAreTemporary(t *testing.T) {
	for name, handle := range map[string]func(string, *dns.Msg) *dns.Msg{
		"SERVFAIL": func(_ string, q *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure) },
		"REFUSED":  func(_ string, q *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, dns.RcodeRefused) },
		"silence":  func(string, *dns.Msg) *dns.Msg { return nil },
		"truncated even over TCP": func(_ string, q *dns.Msg) *dns.Msg {
			reply := new(dns.Msg).SetReply(q)
			reply.Truncated = true
			return reply
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, handle)
			r := withAttempt(t, clock(), 200*time.Millisecond, s.address)
			_, err := r.LookupA(t.Context(), "a.example")
			var temporary interface{ Temporary() bool }
			if err == nil || errors.Is(err, filters.ErrNXDomain) || !errors.As(err, &temporary) || !temporary.Temporary() {
				t.Errorf("err = %v", err)
			}
			sent := s.count("all")
			if _, again := r.LookupA(t.Context(), "a.example"); again != err || s.count("all") != sent {
				t.Error("the failure was not remembered for a moment")
			}
		})
	}
}

func TestGarbage(t *testing.T) {
	r := newResolver(t, clock(), garbler(t))
	if got, err := r.LookupA(t.Context(), "a.example"); err == nil || errors.Is(err, filters.ErrNXDomain) {
		t.Errorf("garbage became %v, %v", got, err)
	}
}

// garbler repeats the question and then breaks off within a record.
func garbler(t *testing.T) string {
	udp := listenUDP(t)
	var running sync.WaitGroup
	running.Go(func() {
		buffer := make([]byte, 4096)
		for {
			n, from, err := udp.ReadFrom(buffer)
			if err != nil {
				return
			}
			reply := append([]byte(nil), buffer[:n]...)
			reply[2] |= 0x80
			reply[7] = 1 // an answer, which is the OPT record cut short
			udp.WriteTo(reply[:n-3], from)
		}
	})
	t.Cleanup(func() { udp.Close(); running.Wait() })
	return udp.LocalAddr().String()
}

func TestNextServerAnswers(t *testing.T) {
	good := serve(t, records("a.example. 60 IN A 192.0.2.1", "b.example. 60 IN A 192.0.2.2", "c.example. 60 IN A 192.0.2.3",
		"d.example. 60 IN A 192.0.2.4"))
	t.Run("after a failure", func(t *testing.T) {
		bad := serve(t, func(_ string, q *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure) })
		r := newResolver(t, clock(), bad.address, good.address)
		got, err := r.LookupA(t.Context(), "a.example")
		check(t, "A", got, err, addrs("192.0.2.1"))
	})
	t.Run("after silence, and a silent server goes last", func(t *testing.T) {
		silent := serve(t, func(string, *dns.Msg) *dns.Msg { return nil })
		r := withAttempt(t, clock(), 300*time.Millisecond, silent.address, good.address)
		for _, name := range []string{"a.example", "b.example", "c.example", "d.example"} {
			if _, err := r.LookupA(t.Context(), name); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n := silent.count("all"); n != sickAfter {
			t.Errorf("the silent server was asked %d times, want %d", n, sickAfter)
		}
	})
	t.Run("after a closed port", func(t *testing.T) {
		udp := listenUDP(t)
		udp.Close()
		r := newResolver(t, clock(), udp.LocalAddr().String(), good.address)
		got, err := r.LookupA(t.Context(), "a.example")
		check(t, "A", got, err, addrs("192.0.2.1"))
	})
}

func TestDeadServersAreCheap(t *testing.T) {
	s := serve(t, func(string, *dns.Msg) *dns.Msg { return nil })
	r := withAttempt(t, clock(), 60*time.Millisecond, s.address)
	r.LookupA(t.Context(), "first.example") // all rounds: now it is sick
	before := s.count("all")
	r.LookupA(t.Context(), "second.example")
	if n := s.count("all") - before; n != 1 {
		t.Errorf("a sick server got %d queries for one question, want 1", n)
	}
}

// TestSilenceIsLogged: one line when a server falls silent, and one when it is back.
func TestSilenceIsLogged(t *testing.T) {
	var silent atomic.Bool
	answer := records("a.example. 60 IN A 192.0.2.1")
	s := serve(t, func(network string, q *dns.Msg) *dns.Msg {
		if silent.Load() {
			return nil
		}
		return answer(network, q)
	})
	r := withAttempt(t, clock(), 60*time.Millisecond, s.address)
	var log bytes.Buffer
	r.log = slog.New(slog.NewTextHandler(&log, nil))
	for i, step := range []struct {
		silent      bool
		gone, again int // lines so far
	}{{true, 1, 0}, {true, 1, 0}, {false, 1, 1}, {false, 1, 1}, {true, 2, 1}} {
		silent.Store(step.silent)
		r.LookupA(t.Context(), fmt.Sprintf("n%d.example", i))
		gone, again := strings.Count(log.String(), "does not answer"), strings.Count(log.String(), "answers again")
		if gone != step.gone || again != step.again || !strings.Contains(log.String(), "server="+s.address) {
			t.Errorf("step %d: %s", i, &log)
		}
	}
}

func TestCallersLeave(t *testing.T) {
	release := make(chan struct{})
	answer := records("a.example. 60 IN A 192.0.2.1")
	s := serve(t, func(network string, q *dns.Msg) *dns.Msg { <-release; return answer(network, q) })
	c := Defaults()
	c.Servers = []string{s.address}
	r, err := New(c, clock(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()

	hasty, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := r.LookupA(hasty, "a.example"); !errors.Is(err, context.Canceled) {
			t.Errorf("the caller that left got %v", err)
		}
	})
	for range 20 {
		wg.Go(func() {
			got, err := r.LookupA(t.Context(), "a.example")
			check(t, "A", got, err, addrs("192.0.2.1"))
		})
	}
	for r.Metrics.Coalesced.Load() < 20 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	close(release)
	wg.Wait()
	if n := s.count("all"); n != 1 {
		t.Errorf("21 callers made %d queries", n)
	}
}

func TestInflightIsBounded(t *testing.T) {
	release := make(chan struct{})
	s := serve(t, func(_ string, q *dns.Msg) *dns.Msg { <-release; return new(dns.Msg).SetReply(q) })
	c := Defaults()
	c.Servers, c.Inflight = []string{s.address}, 2
	r, err := New(c, clock(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var wg sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		wg.Go(func() {
			if _, err := r.LookupA(t.Context(), name+".example"); err != nil {
				t.Error(err)
			}
		})
	}
	for r.Metrics.Waits.Load() < 3 || s.count("all") < 2 {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := r.LookupA(ctx, "late.example"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a caller without a slot got %v", err)
	}
	if n := s.count("all"); n != 2 {
		t.Errorf("%d questions were on their way, want 2", n)
	}
	close(release)
	wg.Wait()
}

func TestCloseEndsQuestions(t *testing.T) {
	asked := make(chan struct{}, 1)
	s := serve(t, func(string, *dns.Msg) *dns.Msg { asked <- struct{}{}; return nil })
	c := Defaults()
	c.Servers = []string{s.address}
	c.Timeout, c.Attempt = filters.Duration(time.Minute), filters.Duration(time.Minute)
	r, err := New(c, clock(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error)
	go func() { _, err := r.LookupA(t.Context(), "a.example"); failed <- err }()
	<-asked
	r.Close()
	if err := <-failed; err == nil {
		t.Error("a question was answered by nobody")
	}
	if _, err := r.LookupA(t.Context(), "b.example"); !errors.Is(err, errClosed) {
		t.Errorf("after Close: %v", err)
	}
}
