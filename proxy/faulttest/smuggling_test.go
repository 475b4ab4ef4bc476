package faulttest

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/proxy/backend/backendtest"
)

// lineEnds are what some server somewhere takes for the end of a line, and mixtures.
var lineEnds = []string{"\r\n", "\n", "\r", "\n\r", "\r\r\n", "\r\n\n", "\n\n", "\r\r", "\x00\r\n", "\r\x00\n", "\r\n\x00", "\x00", "\n\x00", "\x00\n", "\r\x00", "\x85", "\v", "\f", "\xe2\x80\xa8", "\x1a"}

// fakes are ends of data that are none: a line end, a dot or more, a line end.
func fakes() (list []string) {
	for _, before := range lineEnds {
		for _, dots := range []string{".", "..", "\x00.", ".\x00", " .", "=2E"} {
			for _, after := range lineEnds {
				if fake := before + dots + after; !strings.Contains(fake, "\r\n.\r\n") {
					list = append(list, fake)
				}
			}
		}
	}
	return list
}

const smuggled = "MAIL FROM:<evil@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nSubject: inner\r\n\r\ninner\r\n"

// arrives is what must arrive of a message, told independently of the proxy's decoder: lines are what CRLF ends, the dot
// of a stuffed line goes, and then what is left of CR and LF is made harmless.
func arrives(data string, stuffed bool) string {
	lines := strings.Split(data, "\r\n")
	for i, line := range lines {
		if stuffed {
			line = strings.TrimPrefix(line, ".")
		}
		lines[i] = strings.NewReplacer("\n", "\r\n", "\r", " ").Replace(line)
	}
	return strings.Join(lines, "\r\n")
}

// mailbox keeps messages whole.
type mailbox struct {
	mu       sync.Mutex // guards messages
	messages []*backendtest.Message
}

func (m *mailbox) deliver(message *backendtest.Message) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.messages = append(m.messages, message)
	return nil
}

func (m *mailbox) take() []*backendtest.Message {
	m.mu.Lock()
	defer m.mu.Unlock()
	taken := m.messages
	m.messages = nil
	return taken
}

// anyEnd is an end of data in the eyes of the most lenient server.
var anyEnd = regexp.MustCompile(`(\r\n|\r|\n|\x00)\.\x00*(\r|\n)`)

// harmless checks the bytes that a backend was given.
func harmless(m *backendtest.Message) error {
	raw := bytes.ReplaceAll(m.Raw, []byte("\r\n"), nil)
	if bytes.ContainsAny(raw, "\r\n\x00") {
		return fmt.Errorf("bare CR, bare LF or NUL in %q", m.Raw)
	}
	if m.BDAT {
		return nil // the end is counted
	}
	ends := anyEnd.FindAllIndex(append([]byte("\r\n"), m.Raw...), -1)
	if len(ends) != 1 || !bytes.HasSuffix(m.Raw, []byte("\r\n.\r\n")) {
		return fmt.Errorf("%d ends of data in %q", len(ends), m.Raw)
	}
	return nil
}

// smuggler is a house for smuggling: one for each way that messages leave and each treatment of line ends.
type smuggler struct {
	*house
	box    mailbox
	strict bool
	name   string
}

func smugglers(t *testing.T) (list []*smuggler) {
	s := newSite(t, filters.SystemClock{})
	for _, strict := range []bool{false, true} {
		for name, keywords := range map[string][]string{"BDAT": nil, "DATA": withoutChunking} {
			x := &smuggler{strict: strict, name: fmt.Sprintf("strict %v, out by %s", strict, name)}
			extra := "line_endings: normalize"
			if strict {
				extra = "line_endings: strict"
			}
			// Without CHUNKING at the backend there is none for clients: BDAT in and DATA out needs a second kind.
			x.house = s.open(t, setup{extra: extra, deliver: x.box.deliver, backends: []backendtest.Behaviour{{Keywords: keywords}}})
			x.ledger.foreign = true
			t.Cleanup(x.stop)
			list = append(list, x)
		}
	}
	return list
}

// errPutOff tells of a client that was asked to come again: a backend has one second here, and a busy machine may take
// longer than that.
var errPutOff = errors.New("put off")

// again makes an attempt until it was not put off, three times at most.
func again(attempt func() error) error {
	err := attempt()
	for n := 1; n < 3 && errors.Is(err, errPutOff); n++ {
		err = attempt()
	}
	return err
}

// putOff ends a session that was told to come again before it had sent a message: what it sent behind that would be
// commands.
func (c *talk) putOff(code int) bool {
	if code/100 != 4 || c.err != nil {
		return false
	}
	c.quit()
	c.end()
	c.err = fmt.Errorf("%w: %s", errPutOff, c.last)
	return true
}

// judge holds what arrived of one message against what was sent. After it, nothing must have been taken for a command.
func (x *smuggler) judge(c *talk, data string, stuffed bool) error {
	if errors.Is(c.err, errPutOff) {
		return c.err
	}
	final := c.reply("end of data", "250")
	temporary := final/100 == 4
	c.send("VRFY canary\r\n")
	if code := c.reply("VRFY", "252 "); code != 252 {
		return fmt.Errorf("the replies are out of step: %q, %v", c.last, c.err)
	}
	c.quit()
	c.end()
	if c.err != nil {
		return c.err
	}
	messages := x.box.take()
	if temporary {
		for _, m := range messages { // its answer may have come too late
			if err := harmless(m); err != nil {
				return err
			}
		}
		return fmt.Errorf("%w at the end of data", errPutOff)
	}
	bare := strings.ContainsAny(strings.ReplaceAll(data, "\r\n", ""), "\r\n")
	if refuse := strings.ContainsRune(data, 0) || x.strict && bare; refuse {
		if final != 550 || len(messages) != 0 {
			return fmt.Errorf("final reply %d, and %d messages arrived", final, len(messages))
		}
		return nil
	}
	if final != 250 || len(messages) != 1 {
		return fmt.Errorf("final reply %d, and %d messages arrived", final, len(messages))
	}
	m := messages[0]
	if err := sameBelowTrace(m.Data, []byte(arrives(data, stuffed))); err != nil {
		return err
	}
	if m.Sender != "a@example.org" {
		return fmt.Errorf("from %q", m.Sender)
	}
	return harmless(m)
}

// session is a client that has come as far as RCPT.
func (x *smuggler) session() *talk {
	c := x.connect("s")
	c.hello()
	c.send("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n")
	if !c.putOff(c.reply("MAIL", "250")) {
		c.putOff(c.reply("RCPT", "250"))
	}
	return c
}

// pieces sends text in segments of their own, as far as that can be had.
func (c *talk) pieces(text string, cuts ...int) {
	from := 0
	for _, at := range append(cuts, len(text)) {
		if at > from {
			c.send(text[from:at])
			from = at
			time.Sleep(20 * time.Microsecond)
		}
	}
}

// TestSmuggling: behind the proxy there is one message, and nothing in it that any server takes for its end.
func TestSmuggling(t *testing.T) {
	seed := environment(t, "GATEPOST_FAULT_SEED", fixedSeed)
	number := 40
	if environment(t, "GATEPOST_FAULT_POSITIONS", shortPositions) > shortPositions {
		number = len(fakes()) / 2 // another seed takes others
	}
	var passed, total atomic.Int64
	var running sync.WaitGroup
	for i, x := range smugglers(t) {
		running.Go(func() {
			r := rand.New(rand.NewPCG(uint64(seed), uint64(i)))
			for _, fake := range sample(r, fakes(), number) {
				n, err := x.smuggleEverywhere(r, fake)
				total.Add(n)
				if err != nil {
					t.Errorf("%s: %v", x.name, err)
					return
				}
				passed.Add(n)
			}
		})
	}
	running.Wait()
	fmt.Printf("smuggling: seed %d, %d of %d\n", seed, passed.Load(), total.Load())
}

// smuggleEverywhere tries a fake end in several places and ways.
func (x *smuggler) smuggleEverywhere(r *rand.Rand, fake string) (tried int64, err error) {
	for where, data := range map[string]string{
		"body":   "Subject: outer\r\n\r\nouter" + fake + smuggled,
		"header": "Subject: outer" + fake + "X: y\r\n\r\n" + smuggled,
		"start":  strings.TrimPrefix(fake, "\r\n") + smuggled,
		"end":    "Subject: outer\r\n\r\n" + smuggled + strings.TrimSuffix(fake, "\r\n") + "\r\n",
	} {
		if strings.Contains("\r\n"+data, "\r\n.\r\n") {
			continue // a real one
		}
		for _, way := range []string{"DATA", "pipelined", "BDAT", "BDAT in two"} {
			tried++
			if err := again(func() error { return x.smuggle(r, way, data, fake) }); err != nil {
				return tried, fmt.Errorf("%s, fake %q in %s: %w", way, fake, where, err)
			}
		}
	}
	return tried, nil
}

func sample(r *rand.Rand, all []string, n int) []string {
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:n]
}

// smuggle sends the message in a way, cut into segments at or around the fake end.
func (x *smuggler) smuggle(r *rand.Rand, way, data, fake string) error {
	at := strings.Index(data, fake) + r.IntN(len(fake)+1)
	at = max(at, 0)
	switch way {
	case "DATA":
		c := x.session()
		c.send("DATA\r\n")
		c.reply("DATA", "354")
		c.pieces(data+".\r\n", at, at+1+r.IntN(3))
		return x.judge(c, data, true)
	case "pipelined":
		c := x.connect("p")
		c.hello()
		opening := "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"
		c.pieces(opening+data+".\r\n", len(opening)+at)
		for _, asked := range []string{"MAIL", "RCPT"} {
			if c.reply(asked, "250")/100 == 4 { // all behind it are commands, rightly
				said := c.last
				c.Conn.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, c.r)
				c.end()
				x.box.take()
				return fmt.Errorf("%w: %s", errPutOff, said)
			}
		}
		c.reply("DATA", "354")
		return x.judge(c, data, true)
	}
	c := x.session()
	if strings.Contains(x.name, "out by DATA") {
		c.quit() // BDAT is not offered there
		c.end()
		return c.err
	}
	text := fmt.Sprintf("BDAT %d LAST\r\n%s", len(data), data)
	if way == "BDAT in two" { // the fake end lies across the chunks
		text = fmt.Sprintf("BDAT %d\r\n%sBDAT %d LAST\r\n%s", at, data[:at], len(data)-at, data[at:])
	}
	c.pieces(text, r.IntN(len(text)))
	if way == "BDAT in two" {
		c.reply("BDAT", "250 2.0.0 ")
	}
	return x.judge(c, data, false)
}

// TestSmugglingAtEveryBoundary: where segments end makes no difference.
func TestSmugglingAtEveryBoundary(t *testing.T) {
	t.Parallel()
	all := []string{"\n.\r\n", "\r.\r", "\r\n.\r\r\n", "\r\n.\n", "\r\n.\r", "\r\r\n..\r\n\r", "\n.\n"}
	if environment(t, "GATEPOST_FAULT_POSITIONS", shortPositions) <= shortPositions {
		all = all[:3]
	}
	var running sync.WaitGroup
	for _, x := range smugglers(t) {
		running.Go(func() {
			for _, fake := range all {
				data := "S: o\r\n\r\no" + fake + "RSET\r\n"
				for at := range len(data) + 3 {
					err := again(func() error {
						c := x.session()
						c.send("DATA\r\n")
						c.reply("DATA", "354")
						c.pieces(data+".\r\n", at)
						return x.judge(c, data, true)
					})
					if err != nil {
						t.Errorf("%s, fake %q, split at %d: %v", x.name, fake, at, err)
						return
					}
				}
			}
		})
	}
	running.Wait()
}

// TestSmugglingBehindAFailure: what was refused is read to its end all the same.
func TestSmugglingBehindAFailure(t *testing.T) {
	inner := "MAIL FROM:<evil@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"
	for _, x := range smugglers(t) {
		for name, text := range map[string]string{
			"BDAT without MAIL":        fmt.Sprintf("BDAT %d LAST\r\n%s", len(inner), inner),
			"BDAT without RCPT":        fmt.Sprintf("MAIL FROM:<a@example.org>\r\nBDAT %d\r\n%sBDAT %d LAST\r\n%s", len(inner), inner, len(inner), inner),
			"BDAT, all refused":        fmt.Sprintf("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@invalid.test>\r\nBDAT %d LAST\r\n%s", len(inner), inner),
			"BDAT, rule":               fmt.Sprintf("MAIL FROM:<refused@example.org>\r\nRCPT TO:<b@example.com>\r\nBDAT %d LAST\r\n%s", len(inner), inner),
			"BDAT 0":                   fmt.Sprintf("BDAT 0\r\nBDAT %d LAST\r\n%s", len(inner), inner),
			"DATA in BDAT":             fmt.Sprintf("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nBDAT 3\r\nS:xDATA\r\nBDAT %d\r\n%sRSET\r\n", len(inner), inner),
			"too large for our limits": "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n" + strings.Repeat("x\r\n.\r\r\n", 20000) + inner + ".\r\n",
		} {
			if name == "DATA in BDAT" && strings.Contains(x.name, "out by DATA") {
				continue // BDAT is not offered there, so this is DATA
			}
			x.box.take()
			c := x.connect("f")
			c.hello()
			c.send(text + "VRFY canary\r\n")
			for c.err == nil && !strings.HasPrefix(c.last, "252 ") {
				c.reply(name, "250", "354", "252")
			}
			c.quit()
			c.end()
			if c.err != nil {
				t.Errorf("%s, %s: %v", x.name, name, c.err)
			}
			for _, m := range x.box.take() {
				if m.Sender != "a@example.org" || name != "too large for our limits" {
					t.Errorf("%s, %s: from %q arrived %.200q", x.name, name, m.Sender, m.Data)
				}
			}
		}
	}
}

// TestBDATWithoutANumber ends the session: nobody knows where the chunk ends.
func TestBDATWithoutANumber(t *testing.T) {
	for _, x := range smugglers(t) {
		for _, arg := range []string{"", " ", "x", "-1", "+5", "0x10", "5 LAST x", "5 LAST LAST", "5 LAST\x00", strings.Repeat("0", 3000) + "5", "99999999999999999999", "1e3", "\uff15", "5\tLAST", "5\r5"} {
			c := x.session()
			c.send("BDAT " + arg + "\r\nMAIL FROM:<evil@example.org>\r\nVRFY canary\r\n")
			for c.err == nil {
				if c.reply("BDAT "+arg, "250", "252"); strings.HasPrefix(c.last, "252") || strings.HasPrefix(c.last, "250 2.1.0") {
					t.Errorf("%s: BDAT %q: what follows is obeyed: %q", x.name, arg, c.last)
				}
			}
			if c.breach != nil {
				t.Error(c.breach)
			}
			c.end()
		}
		if n := len(x.box.take()); n != 0 {
			t.Errorf("%s: %d messages arrived", x.name, n)
		}
	}
}

// TestSmugglingAcrossSTARTTLS: what was sent in the clear is not obeyed behind the handshake, wherever it is split off.
func TestSmugglingAcrossSTARTTLS(t *testing.T) {
	x := smugglers(t)[0]
	injected := "EHLO evil.example.org\r\nMAIL FROM:<evil@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nevil\r\n.\r\n"
	for _, behind := range []string{injected, "\r\n" + injected, "NOOP\r\n", "\n", injected[:7]} {
		c := x.connect("t")
		c.hello()
		c.send("MAIL FROM:<a@example.org>\r\nSTARTTLS\r\n" + behind)
		c.reply("MAIL", "250")
		c.reply("STARTTLS", "220")
		over := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
		if err := over.Handshake(); err != nil {
			t.Fatalf("behind %q: %v", behind, err)
		}
		c.Conn = over
		c.r.Reset(over)
		// The greeting is forgotten, and so is all the rest.
		c.send("RCPT TO:<b@example.com>\r\n")
		if code := c.reply("RCPT"); code != 503 {
			t.Errorf("behind %q: RCPT is answered %q", behind, c.last)
		}
		c.send("MAIL FROM:<b@example.org>\r\n")
		if code := c.reply("MAIL"); code != 503 {
			t.Errorf("behind %q: MAIL is answered %q", behind, c.last)
		}
		c.ehlo()
		c.quit()
		if c.end(); c.err != nil {
			t.Errorf("behind %q: %v", behind, c.err)
		}
	}
	if err := x.waitIdle(); err != nil {
		t.Error(err)
	}
	if n := len(x.box.take()); n != 0 {
		t.Errorf("%d messages arrived", n)
	}
}

// TestTornLines: bare line ends in commands end nothing.
func TestTornLines(t *testing.T) {
	for _, x := range smugglers(t)[:2] {
		for _, end := range []string{"\n", "\r", "\r\r", "\n\r", "\x00", "\r\x00", "\x00\n", "\r \n"} {
			for _, text := range []string{
				"MAIL FROM:<a@example.org>" + end + "RCPT TO:<b@example.com>\r\n",
				"NOOP x" + end + "MAIL FROM:<evil@example.org>\r\n",
				"NOOP x" + end + "MAIL FROM:<evil@example.org>" + end + "\r\n",
			} {
				c := x.connect("l")
				c.hello()
				c.send(text)
				c.reply(text, "250 2.0.0") // refused, or a NOOP with an odd argument
				c.send("RCPT TO:<b@example.com>\r\n")
				if code := c.reply("RCPT"); code != 503 {
					t.Errorf("%q: then RCPT is answered %q", text, c.last)
				}
				c.quit()
				c.end()
				if err := errors.Join(c.err, c.breach); err != nil {
					t.Errorf("%q: %v", text, err)
				}
			}
		}
	}
}
