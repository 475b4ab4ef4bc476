package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/filters/filtertest/suites"
	"gatepost/proxy/backend"
	"gatepost/proxy/backend/backendtest"
	"gatepost/proxy/front"
	"gatepost/rules"
)

// TestNoAcceptanceOfOurOwn: whatever backends do, a client that was told 250 at the end of its message finds it stored,
// once.
func TestNoAcceptanceOfOurOwn(t *testing.T) {
	faults := []string{"", "", "", "", "", "", "", "", backendtest.Hangup, "421 4.3.0 going down" + backendtest.Hangup,
		"450 4.2.0 later", "550 5.1.1 never", "354 what", "250 2.0.0 fine", "rubbish", "250"}
	rapid.Check(t, func(r *rapid.T) {
		var mu sync.Mutex // guards plan, armed
		armed := false
		plan := rapid.SliceOfN(rapid.SampledFrom(faults), 60, 60).Draw(r, "faults")
		answer := func(s *backendtest.Session, line string) string {
			mu.Lock()
			defer mu.Unlock()
			verb, _, _ := strings.Cut(line, " ")
			if !armed || len(plan) == 0 || verb == "XCLIENT" || verb == "EHLO" || verb == "QUIT" {
				return ""
			}
			fault := plan[0]
			plan = plan[1:]
			// A backend that says 250 to a message has it, and one that says 354 takes it: that is what they mean.
			acts := strings.HasPrefix(fault, "250") || strings.HasPrefix(fault, "354")
			switch {
			case verb == "." && acts, verb == "DATA" && acts, verb == "BDAT" && !strings.Contains(fault, backendtest.Hangup):
				return ""
			}
			return fault
		}
		keywords := [][]string{nil, {"PIPELINING", "SIZE 10240000", "8BITMIME"}, {"SIZE"}}
		u := setup{
			backend: backendtest.Behaviour{Answer: answer, Keywords: rapid.SampledFrom(keywords).Draw(r, "keywords"), Lenient: true},
			more:    []backendtest.Behaviour{{Answer: answer, Lenient: true}},
			hold:    time.Duration(rapid.SampledFrom([]int{1, 20_000}).Draw(r, "hold ms")) * time.Millisecond,
			limits:  func(l *Limits) { l.EnvelopeBudget = filters.Duration(2 * time.Second) },
		}
		eager := rapid.Bool().Draw(r, "eager")
		u.group = func(c *backend.Config) { c.Extensions, c.Eager = []string{"PIPELINING", "SIZE", "CHUNKING"}, eager }
		h, stop := startUnbound(t, u)
		defer stop()
		mu.Lock()
		armed = true
		mu.Unlock()
		promised := map[string]bool{}
		for n := range rapid.IntRange(1, 3).Draw(r, "sessions") {
			count, way := rapid.IntRange(1, 3).Draw(r, "messages"), rapid.SampledFrom([]string{"lock-step", "pipelined", "queue"}).Draw(r, "way")
			outcome := map[string]bool{}
			if way == "queue" {
				outcome = playQueue(h, n, count)
			} else {
				outcome = playMessages(h, n, count, way == "pipelined")
			}
			maps.Copy(promised, outcome)
		}
		stored := map[string]int{}
		for _, b := range h.backends {
			for _, m := range b.Messages() {
				stored[strings.TrimSpace(string(m.Data))]++
			}
		}
		for body, ok := range promised {
			if ok && stored[body] == 0 {
				r.Fatalf("the client was told 250 for %q, and no backend has it\n%s", body, h.log)
			}
			if stored[body] > 1 {
				r.Fatalf("%q was delivered %d times\n%s", body, stored[body], h.log)
			}
		}
	})
}

// converse is a session behind its EHLO, and the last line of each of its replies: "EOF" when there are no more.
func (h *house) converse() (c net.Conn, reply func() string, err error) {
	if c, err = net.Dial("tcp", h.address); err != nil {
		return nil, nil, err
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReader(c)
	reply = func() string {
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return "EOF"
			}
			if len(line) > 3 && line[3] != '-' {
				return line
			}
		}
	}
	reply()
	fmt.Fprintf(c, "EHLO client.test\r\n")
	reply()
	return c, reply, nil
}

// playMessages sends messages in one session and tells which were answered with 250.
func playMessages(h *house, session, count int, pipelined bool) map[string]bool {
	outcome := map[string]bool{}
	c, reply, err := h.converse()
	if err != nil {
		return outcome
	}
	defer c.Close()
	for n := range count {
		body := fmt.Sprintf("message %d of session %d", n, session)
		commands := []string{"MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>", "RCPT TO:<c@example.com>", "DATA"}
		last := ""
		if pipelined {
			fmt.Fprintf(c, "%s\r\n", strings.Join(commands, "\r\n"))
			for range commands {
				last = reply()
			}
		} else {
			for _, command := range commands {
				fmt.Fprintf(c, "%s\r\n", command)
				last = reply()
			}
		}
		outcome[body] = false
		if strings.HasPrefix(last, "354") {
			fmt.Fprintf(c, "%s\r\n.\r\n", body)
			outcome[body] = strings.HasPrefix(reply(), "250")
		}
		fmt.Fprintf(c, "RSET\r\n")
		reply()
	}
	return outcome
}

// playQueue is playMessages for a client that sends the commands of the next message with the one before.
func playQueue(h *house, session, count int) map[string]bool {
	outcome := map[string]bool{}
	c, reply, err := h.converse()
	if err != nil {
		return outcome
	}
	defer c.Close()
	const commands = "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"
	fmt.Fprint(c, commands)
	for n := range count {
		body := fmt.Sprintf("message %d of session %d", n, session)
		outcome[body] = false
		reply()
		reply()
		if !strings.HasPrefix(reply(), "354") {
			break
		}
		next := commands
		if n == count-1 {
			next = "QUIT\r\n"
		}
		fmt.Fprintf(c, "%s\r\n.\r\n%s", body, next)
		outcome[body] = strings.HasPrefix(reply(), "250")
	}
	return outcome
}

const wholeDialogue = "EHLO client.test\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nSubject: x\r\n\r\nbody\r\n.\r\n" +
	"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nBDAT 10 LAST\r\n12345678\r\nQUIT\r\n"

// TestCutAnywhere: a client that leaves after any byte has delivered what it had completed, and leaves nothing behind.
func TestCutAnywhere(t *testing.T) {
	h := start(t, setup{})
	first := strings.Index(wholeDialogue, "\r\n.\r\n") + len("\r\n.\r\n")
	second := strings.Index(wholeDialogue, "12345678\r\n") + len("12345678\r\n")
	for k := range len(wholeDialogue) + 1 {
		before := len(h.backends[0].Messages())
		c := h.dial()
		c.expect("220 ")
		c.send(wholeDialogue[:k])
		c.Conn.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c.r)
		c.Close()
		want := 0
		if k >= first {
			want++
		}
		if k >= second {
			want++
		}
		h.waitIdle()
		if got := len(h.backends[0].Messages()) - before; got != want {
			t.Fatalf("cut after %d bytes, %q: %d messages, want %d", k, wholeDialogue[:k], got, want)
		}
	}
}

// waitIdle waits until no session is open.
func (h *house) waitIdle() {
	h.t.Helper()
	for limit := time.Now().Add(5 * time.Second); h.server.metrics.Open.Load() > 0; time.Sleep(50 * time.Microsecond) {
		if time.Now().After(limit) {
			h.t.Fatal("sessions do not end")
		}
	}
}

// TestPiecesMakeNoDifference: however the bytes of a dialogue arrive, the replies are the same; in the clear and in TLS,
// whose records then end in the middle too.
func TestPiecesMakeNoDifference(t *testing.T) {
	h := start(t, setup{listen: Listen{Certificate: certificate(t)}})
	for _, secured := range []bool{false, true} {
		var want string
		for _, piece := range []int{1 << 20, 1, 2, 3, 7, 100} {
			got := h.inPieces(piece, secured)
			if want == "" {
				want = got
			}
			if got != want || !strings.HasSuffix(got, "221 ") {
				t.Fatalf("tls %v, pieces of %d bytes: replies %q, want %q", secured, piece, got, want)
			}
		}
	}
}

func (h *house) inPieces(size int, secured bool) string {
	c := h.dial()
	c.expect("220 ")
	slow := &pieces{c.Conn, size}
	if secured {
		c.say("EHLO client.test", "250")
		c.say("STARTTLS", "220 ")
		over := tls.Client(slow, &tls.Config{InsecureSkipVerify: true})
		if err := over.Handshake(); err != nil {
			h.t.Fatal(err)
		}
		c.Conn, c.r = over, bufio.NewReader(over)
	} else {
		c.Conn = slow
	}
	go io.WriteString(c.Conn, wholeDialogue)
	var codes strings.Builder
	for {
		reply := c.reply()
		if strings.HasPrefix(reply, "EOF") {
			return codes.String()
		}
		codes.WriteString(reply[:4])
	}
}

// pieces writes in pieces, each in a segment of its own as far as that can be had.
type pieces struct {
	net.Conn
	size int
}

func (p *pieces) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var k int
		k, err = p.Conn.Write(b[n:min(n+p.size, len(b))])
		n += k
		time.Sleep(20 * time.Microsecond)
	}
	return n, err
}

// TestSmuggling: behind the proxy there is exactly one message, and the fake end of data is not in it.
func TestSmuggling(t *testing.T) {
	var cases []struct{ ID, B64 string }
	suites.ReadJSON(t, "smuggling/eod.json", &cases)
	passed := 0
	for _, keywords := range [][]string{nil, {"PIPELINING", "SIZE 10240000", "8BITMIME"}} {
		for _, c := range cases {
			fake, err := base64.StdEncoding.DecodeString(c.B64)
			if err != nil {
				t.Fatal(err)
			}
			if smuggled(t, keywords, fake) {
				t.Errorf("%s %q came through", c.ID, fake)
				continue
			}
			passed++
		}
	}
	fmt.Printf("suite smuggling: %d/%d\n", passed, 2*len(cases))
}

func smuggled(t *testing.T, keywords []string, fake []byte) bool {
	h, stop := startUnbound(t, setup{backend: backendtest.Behaviour{Keywords: keywords}})
	defer stop()
	c := h.hello()
	c.say("MAIL FROM:<a@example.org>", "250")
	c.say("RCPT TO:<b@example.com>", "250")
	c.say("DATA", "354")
	c.send("Subject: outer\r\n\r\nouter" + string(fake) + "MAIL FROM:<evil@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n" +
		"Subject: inner\r\n\r\ninner\r\n.\r\n")
	final := c.reply()
	c.send("NOOP\r\n")
	if next := c.reply(); !strings.HasPrefix(next, "250 2.0.0 Ok") {
		t.Errorf("after %q: %q, then %q", fake, final, next)
	}
	c.say("QUIT", "221")
	messages := h.backends[0].Messages()
	if bytes.IndexByte(fake, 0) >= 0 { // NUL is refused
		return len(messages) != 0 || !strings.HasPrefix(final, "550 5.6.0")
	}
	return len(messages) != 1 || holds(bytes.TrimSuffix(messages[0].Raw, []byte("\r\n.\r\n")), fake)
}

// holds tells whether fake is in a message as it went over the wire. A bare LF that became CRLF is not the same any more.
func holds(raw, fake []byte) bool {
	for at := 0; ; at++ {
		i := bytes.Index(raw[at:], fake)
		if i < 0 {
			return false
		}
		if at += i; fake[0] != '\n' || at == 0 || raw[at-1] != '\r' {
			return true
		}
	}
}

// TestLargeMessages arrive byte for byte, in every way there is, and take no memory.
func TestLargeMessages(t *testing.T) {
	body := []byte("Subject: large\r\n\r\n" + strings.Repeat("0123456789 .\xe4 and so on\r\n.dot\r\n", 5<<20/32))
	for _, u := range []setup{
		{},
		{backend: backendtest.Behaviour{Keywords: []string{"PIPELINING", "SIZE 102400000", "8BITMIME"}}},
	} {
		u.listen.Certificate = certificate(t)
		h := start(t, u)
		for _, way := range []string{"DATA", "BDAT", "TLS"} {
			if way == "BDAT" && u.backend.Keywords != nil {
				continue
			}
			c := h.hello()
			if way == "TLS" {
				c.say("STARTTLS", "220")
				over := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
				c.Conn, c.r = over, bufio.NewReader(over)
				c.say("EHLO client.test", "250")
			}
			c.say("MAIL FROM:<a@example.org>", "250")
			c.say("RCPT TO:<b@example.com>", "250")
			if way == "BDAT" {
				half := len(body) / 2
				c.send(fmt.Sprintf("BDAT %d\r\n%s", half, body[:half]))
				c.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(body)-half, body[half:]))
				c.expect("250")
			} else {
				c.say("DATA", "354")
				c.send(strings.ReplaceAll(string(body), "\r\n.", "\r\n..") + ".\r\n")
			}
			c.expect("250")
			c.say("QUIT", "221")
			messages := h.backends[0].Messages()
			if got := messages[len(messages)-1].Data; !bytes.Equal(got, body) {
				t.Fatalf("%s: %d bytes came, %d were sent, or they differ", way, len(got), len(body))
			}
		}
		if n := h.server.Metrics().Spilled.Load(); int(n) != len(h.backends[0].Messages()) {
			t.Fatalf("of %d messages %d went to files", len(h.backends[0].Messages()), n)
		}
	}
}

// TestPipelineBehindALargeMessage: commands that came with the end of a large message are not lost while the client is
// made to wait.
func TestPipelineBehindALargeMessage(t *testing.T) {
	h := start(t, setup{rules: []rules.Definition{definition(map[string]string{
		"name": "slow", "when": `mail.local == "slow"`, "then": "slow", "at": "mail", "delay": "100ms"})}})
	c := h.hello()
	c.say("MAIL FROM:<a@example.org>", "250")
	c.say("RCPT TO:<b@example.com>", "250")
	c.say("DATA", "354")
	const noops = 8000 // more than the smaller buffer holds
	go c.send(strings.Repeat("0123456789\r\n", 50_000) + ".\r\nMAIL FROM:<slow@example.org>\r\n" + strings.Repeat("NOOP\r\n", noops) + "QUIT\r\n")
	c.expect("552", "250 2.1.0") // a header without end
	for range noops {
		c.expect("250 2.0.0 Ok")
	}
	c.expect("221")
}

// TestMemoryIsBounded: what does not fit limits.memory goes to files and arrives all the same.
func TestMemoryIsBounded(t *testing.T) {
	spill, err := front.NewSpill(t.TempDir(), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	h := start(t, setup{spill: spill, limits: func(l *Limits) { l.Memory = l.MessageMemory }})
	var clients []*client
	for range 3 {
		c := h.hello()
		c.say("MAIL FROM:<a@example.org>", "250")
		c.say("RCPT TO:<b@example.com>", "250")
		c.say("DATA", "354")
		c.send("Subject: x\r\n\r\n" + strings.Repeat("0123456789\r\n", 100_000))
		clients = append(clients, c)
	}
	for limit := time.Now().Add(5 * time.Second); spill.Used() == 0 && time.Now().Before(limit); {
		time.Sleep(time.Millisecond)
	}
	if spill.Used() == 0 {
		t.Fatal("nothing went to files")
	}
	for _, c := range clients {
		c.say(".", "250")
		c.say("QUIT", "221")
	}
	h.waitIdle()
	if used, claimed := spill.Used(), h.server.memory.Used(); used != 0 || claimed != 0 {
		t.Fatalf("%d bytes of files and %d of memory are not given back", used, claimed)
	}
	for _, m := range h.backends[0].Messages() {
		if len(m.Data) != len("Subject: x\r\n\r\n")+1_200_000 {
			t.Fatalf("a message of %d bytes", len(m.Data))
		}
	}
}

// TestSpillsOnlyBeyondItsMemory: a message grows in memory up to its limit, and only what is behind that goes to a file.
func TestSpillsOnlyBeyondItsMemory(t *testing.T) {
	for _, test := range []struct {
		memory filters.Size
		spills int64
	}{{2 << 20, 0}, {256 << 10, 1}, {4 << 10, 1}} {
		h := start(t, setup{limits: func(l *Limits) { l.MessageMemory = test.memory }})
		c := h.hello()
		c.say("MAIL FROM:<a@example.org>", "250")
		c.say("RCPT TO:<b@example.com>", "250")
		c.say("DATA", "354")
		c.send("Subject: x\r\n\r\n" + strings.Repeat("0123456789\r\n", 100_000) + ".\r\n")
		c.expect("250")
		if n := h.server.Metrics().Spilled.Load(); n != test.spills {
			t.Errorf("with %d bytes of memory %d messages went to files", test.memory, n)
		}
		c.say("QUIT", "221")
		if got := h.backends[0].Messages(); len(got) != 1 || len(got[0].Data) != len("Subject: x\r\n\r\n")+1_200_000 {
			t.Errorf("%d messages arrived", len(got))
		}
		h.waitIdle()
		if claimed := h.server.memory.Used(); claimed != 0 {
			t.Errorf("%d bytes of memory are not given back", claimed)
		}
	}
}
