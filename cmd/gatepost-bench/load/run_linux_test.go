package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gatepost/cmd/gatepost-bench/sink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func mail(messages int, pipelined bool, size int) Mail {
	head := "From: a@example.net\r\nSubject: test\r\n\r\n"
	return Mail{Helo: "client.example.net", From: "a@example.net", To: "b@example.org",
		Content:  []byte(head + strings.Repeat("0123456789abcdef0123456789abcd\r\n", size/32)),
		Messages: messages, Pipelined: pipelined}
}

func startSink(t *testing.T) *sink.Sink {
	t.Helper()
	s, err := sink.Listen(sink.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Both sides count the same, message by message and byte by byte.
func TestCountsMatchTheSink(t *testing.T) {
	for _, test := range []struct {
		name              string
		mail              Mail
		parallel, session int
	}{
		{"one a session", mail(1, false, 4096), 20, 200},
		{"ten a session", mail(10, false, 4096), 5, 20},
		{"ten, pipelined", mail(10, true, 4096), 5, 20},
		{"one, pipelined", mail(1, true, 4096), 5, 20},
		{"large", mail(1, false, 4<<20), 8, 24},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := startSink(t)
			r, err := Run(t.Context(), Options{Addr: s.Addr(), Sources: Sources(300), Script: test.mail.Script(),
				Parallel: test.parallel, Duration: time.Minute, Sessions: test.session})
			if err != nil {
				t.Fatal(err)
			}
			if r.Failures != nil {
				t.Fatalf("failures: %s", r.Failures)
			}
			messages := int64(test.session * test.mail.Messages)
			if r.All != messages || r.InTime != messages || r.Latency.count != messages {
				t.Errorf("%d messages, %d in time, %d in the histogram; want %d", r.All, r.InTime, r.Latency.count, messages)
			}
			want := sink.Counts{Messages: messages, Bytes: messages * int64(len(test.mail.Content))}
			if got := s.Counts(); got != want {
				t.Errorf("the sink counted %+v, want %+v", got, want)
			}
		})
	}
}

func TestRunEndsInTime(t *testing.T) {
	s := startSink(t)
	begin := time.Now()
	m := mail(10, false, 4096)
	r, err := Run(t.Context(), Options{Addr: s.Addr(), Sources: Sources(10), Script: m.Script(), Parallel: 20, Duration: 50 * time.Millisecond})
	if err != nil || r.Failures != nil {
		t.Fatal(err, r)
	}
	if took := time.Since(begin); took > drain+time.Second {
		t.Errorf("a run of 50ms took %s", took)
	}
	if r.All%10 != 0 || r.All < r.InTime || r.InTime == 0 {
		t.Errorf("sessions were cut off: %d messages, %d in time", r.All, r.InTime)
	}
	if got := s.Counts().Messages; got != r.All {
		t.Errorf("the sink counted %d, the generator %d", got, r.All)
	}
}

// A fast server does not make a paced run faster, and a slow one has no more sessions than Parallel.
func TestPaceIsKept(t *testing.T) {
	s, m := startSink(t), mail(1, false, 4096)
	r, err := Run(t.Context(), Options{Addr: s.Addr(), Sources: Sources(10), Script: m.Script(), Parallel: 20, Pace: 200, Duration: 500 * time.Millisecond})
	if err != nil || r.Failures != nil {
		t.Fatal(err, r)
	}
	if r.All == 0 || r.All > 100 || r.Elapsed < 500*time.Millisecond {
		t.Errorf("200 a second for half a second: %d in %s", r.All, r.Elapsed)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // connections wait in its queue
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r, err = Run(t.Context(), Options{Addr: netip.MustParseAddrPort(l.Addr().String()), Sources: Sources(1), Script: m.Script(),
		Parallel: 3, Pace: 10_000, Duration: 500 * time.Millisecond, Drain: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if r.Failures.Count() != 3 {
		t.Errorf("%d sessions were open, want 3", r.Failures.Count())
	}
}

func TestRunCanBeInterrupted(t *testing.T) {
	s := startSink(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m := mail(1, false, 4096)
	if _, err := Run(ctx, Options{Addr: s.Addr(), Sources: Sources(10), Script: m.Script(), Parallel: 2, Duration: time.Minute}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

// play is a server that gives one reply to each line and is done after the last one.
func play(t *testing.T, replies ...string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(conn)
			for i, reply := range replies {
				if i > 0 {
					if _, err := r.ReadString('\n'); err != nil {
						break
					}
				}
				fmt.Fprint(conn, reply)
			}
			// What is not read turns the end into a reset.
			conn.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, r)
			conn.Close()
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String())
}

func TestWrongRepliesAreReportedWithTheirText(t *testing.T) {
	for _, test := range []struct {
		name    string
		replies []string
		want    string
	}{
		{"refused at connect", []string{"554 5.7.1 Go away\r\n"}, "the connection: 554 5.7.1 Go away"},
		{"greylisted", []string{"220 hi\r\n", "250-hi\r\n250 SIZE\r\n", "250 ok\r\n", "451 4.7.1 Greylisted, please retry\r\n"}, "RCPT: 451 4.7.1 Greylisted, please retry"},
		{"a wrong class", []string{"220 hi\r\n", "250 hi\r\n", "354 what\r\n"}, "MAIL: 354 what"},
		{"two replies", []string{"220 hi\r\n", "250 hi\r\n250 again\r\n"}, "a reply that nobody asked for after that to EHLO"},
		{"no SMTP", []string{"hello\r\n"}, "the connection: hello"},
		{"terminal escapes", []string{"554 \x1b[2Jgone\r\n"}, "the connection: 554 ?[2Jgone"},
		{"no CR", []string{"220 hi\n"}, "the connection: 220 hi"},
		{"hung up", []string{"220 hi\r\n"}, "EHLO: the server hung up"},
		{"endless", []string{strings.Repeat("2", 2*maxReplyLine)}, "the connection: a line without end"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := mail(1, false, 4096)
			addr := play(t, test.replies...)
			r, err := Run(t.Context(), Options{Addr: addr, Sources: Sources(3), Script: m.Script(), Parallel: 1, Duration: 10 * time.Second, Sessions: 2})
			if err != nil {
				t.Fatal(err)
			}
			if r.All != 0 || r.Failures.Count() != 2 || r.Failures[test.want] != 2 {
				t.Errorf("%d messages, failures: %s; want 2 × %s", r.All, r.Failures, test.want)
			}
		})
	}
}

func TestASilentServerIsReported(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // connections wait in its queue
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m := mail(1, false, 4096)
	r, err := Run(t.Context(), Options{Addr: netip.MustParseAddrPort(l.Addr().String()), Sources: Sources(1), Script: m.Script(),
		Parallel: 3, Duration: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if want := "the connection: no reply before the end of the measurement"; r.Failures[want] != 3 {
		t.Errorf("failures: %s; want 3 × %s", r.Failures, want)
	}
}

func TestALargeMessageArrivesWhole(t *testing.T) {
	s := startSink(t)
	m := mail(1, false, 4096)
	const size = 3<<20 + 1000
	sent, err := Large(t.Context(), Sources(1)[0], s.Addr(), m, size)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Counts(); got.Messages != 1 || got.Bytes != sent || size-sent > 64 {
		t.Errorf("the sink counted %+v, sent were %d of %d", got, sent, size)
	}
}

func TestRefusalsAreCounted(t *testing.T) {
	m := mail(1, false, 64)
	for _, test := range []struct {
		name    string
		script  Script
		replies []string
	}{
		{"by the greeting", Refusal(nil, 554), []string{"554 no\r\n"}},
		{"at RCPT", Refusal(&m, 550), []string{"220 hi\r\n", "250 hi\r\n", "250 ok\r\n", "550 no\r\n", "221 bye\r\n"}},
	} {
		r, err := Run(t.Context(), Options{Addr: play(t, test.replies...), Sources: Sources(1), Script: test.script, Parallel: 1, Duration: time.Minute, Sessions: 3})
		if err != nil || r.Failures != nil || r.All != 3 {
			t.Errorf("%s: %v, %+v", test.name, err, r)
		}
	}
}

func TestPreambleComesFirst(t *testing.T) {
	server := play(t, "", "220 hi\r\n", "250 hi\r\n", "250 ok\r\n", "550 no\r\n", "221 bye\r\n") // the first answers the connection
	m := mail(1, false, 64)
	numbers := 0
	r, err := Run(t.Context(), Options{Addr: server, Sources: Sources(1), Script: Refusal(&m, 550), Parallel: 1, Duration: time.Minute, Sessions: 2,
		Preamble: func(n int) []byte { numbers += n; return []byte("PROXY UNKNOWN\r\n") }})
	if err != nil || r.Failures != nil || r.All != 2 || numbers != 1 {
		t.Errorf("%v, %+v, numbers %d", err, r, numbers)
	}
}

func TestIdleConnections(t *testing.T) {
	s := startSink(t)
	greet := func(c *Client) error { return c.Greet("client.example.net") }
	all, err := Idle(t.Context(), Sources(20), s.Addr(), 100, greet)
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	if len(all.clients) != 100 {
		t.Errorf("%d connections", len(all.clients))
	}
	if err := all.Each(func(c *Client) error { return c.Command("NOOP", 250) }); err != nil {
		t.Error(err)
	}
	refusing := play(t, "421 4.7.0 Too many\r\n")
	if _, err := Idle(t.Context(), Sources(1), refusing, 1, greet); err == nil || !strings.Contains(err.Error(), "421 4.7.0 Too many") {
		t.Errorf("a refusal is reported as %v", err)
	}
}
