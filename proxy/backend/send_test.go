package backend

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatepost/proxy/backend/backendtest"
)

var dataKeywords = []string{"PIPELINING", "8BITMIME", "SIZE"}

// pieces is a body that is written piece by piece.
type pieces [][]byte

func (p pieces) WriteTo(w io.Writer) (n int64, err error) {
	for _, piece := range p {
		k, err := w.Write(piece)
		n += int64(k)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (p pieces) bytes() []byte { return bytes.Join(p, nil) }

// Whatever the message and the pieces it comes in, the backend gets its bytes.
func TestMessageArrivesByteForByte(t *testing.T) {
	servers := map[string]*backendtest.Server{
		"BDAT": start(t, backendtest.Behaviour{}),
		"DATA": start(t, backendtest.Behaviour{Keywords: dataKeywords}),
	}
	for name, s := range servers {
		g, _ := newGroup(t, nil, s)
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				line := rapid.SampledFrom([]string{"\r\n", ".\r\n", "..\r\n", ".", "x\r\n", "text, and more of it\r\n", strings.Repeat("long ", 300) + "\r\n"})
				body := pieces{}
				for range rapid.IntRange(0, 4).Draw(rt, "pieces") {
					piece := strings.Join(rapid.SliceOfN(line, 0, 20).Draw(rt, "lines"), "")
					body = append(body, bytes.Repeat([]byte(piece), rapid.SampledFrom([]int{1, 1, 1, 40}).Draw(rt, "times")))
				}
				body = append(body, []byte("\r\n"))
				prepend := []byte(rapid.SampledFrom([]string{"", "Received: x\r\n", strings.Repeat("X: y\r\n", 12000)}).Draw(rt, "prepend"))
				want := append(bytes.Clone(prepend), body.bytes()...)
				c := dial(t, g, testClient())
				transact(t, c, Parts{Prepend: prepend, Body: body, Size: int64(len(want))})
				c.Release()
				m := s.Messages()
				if got := m[len(m)-1]; !bytes.Equal(got.Data, want) || got.BDAT != (name == "BDAT") {
					rt.Fatalf("%d bytes arrived by BDAT %v, want %d", len(got.Data), got.BDAT, len(want))
				}
			})
		})
	}
}

func TestSmallMessageIsOneSegment(t *testing.T) {
	body := "." + strings.Repeat("x", 70) + "\r\n"
	for name, test := range map[string]struct {
		keywords []string
		want     string
	}{
		"BDAT": {nil, "BDAT 81 LAST\r\nA: b\r\n\r\n" + body},
		"DATA": {dataKeywords, "A: b\r\n\r\n." + body + ".\r\n"},
	} {
		s := start(t, backendtest.Behaviour{Keywords: test.keywords})
		g, _ := newGroup(t, nil, s)
		c := dial(t, g, testClient())
		transact(t, c, Parts{Prepend: []byte("A: b\r\n\r\n"), Body: bytes.NewBufferString(body), Size: int64(8 + len(body))})
		segments := s.Sessions()[0].Segments()
		if last := segments[len(segments)-1]; last != test.want {
			t.Errorf("%s: the last segment is %q, want %q", name, last, test.want)
		}
	}
}

// Connections that wait for the next message are many: none of them holds on to the pooled block, or the context, of the latest.
func TestAConnectionKeepsNothingOfAMessage(t *testing.T) {
	for name, keywords := range map[string][]string{"BDAT": nil, "DATA": dataKeywords} {
		g, _ := newGroup(t, nil, start(t, backendtest.Behaviour{Keywords: keywords}))
		c := dial(t, g, testClient())
		for _, size := range []int{1, blockSize} {
			transact(t, c, message(strings.Repeat("x", size)+"\r\n"))
			if o := &c.link.outlet; o.buffer != nil || o.gathered != nil || o.ctx != nil {
				t.Errorf("%s: of a message of %d bytes a block of %d and the context %v are kept", name, size, cap(o.gathered), o.ctx)
			}
		}
	}
}

func TestRefusedMessageIsTheFinalReply(t *testing.T) {
	for name, test := range map[string]struct {
		b       backendtest.Behaviour
		code    int
		dotSent bool
	}{
		"DATA":           {backendtest.Behaviour{Keywords: dataKeywords, Answer: answering("DATA", "554 5.5.1 no")}, 554, false},
		"dot":            {backendtest.Behaviour{Keywords: dataKeywords, Answer: answering(".", "550 5.7.1 no")}, 550, true},
		"BDAT":           {backendtest.Behaviour{Answer: answering(".", "451 4.3.0 later")}, 451, true},
		"final 421":      {backendtest.Behaviour{Answer: answering(".", "421 4.3.0 later"+backendtest.Hangup)}, 421, true},
		"two-line reply": {backendtest.Behaviour{Answer: answering(".", "250-3 byte chunk\r\n250 OK id=x")}, 250, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, test.b)
			g, _ := newGroup(t, nil, s)
			c := dial(t, g, testClient())
			envelope(t, c)
			r, dotSent, err := c.SendMessage(testContext(t), message("x\r\n"), 0)
			if err != nil || r.Code != test.code || dotSent != test.dotSent {
				t.Errorf("%s, dotSent %v, %v", r, dotSent, err)
			}
			if test.code != 421 {
				ask(t, c, "RSET", 250)
			}
		})
	}
}

// endless is a body that goes on for as long as somebody takes it.
type endless struct{ t testing.TB }

func (e endless) WriteTo(w io.Writer) (n int64, err error) {
	block := bytes.Repeat([]byte("0123456789abcdef\r\n"), 2000)
	for n < 1<<30 {
		k, err := w.Write(block)
		n += int64(k)
		if err != nil {
			return n, err
		}
	}
	e.t.Error("the backend has refused the message but got a gigabyte")
	return n, nil
}

// A backend that refuses in the middle is noticed, whether it hangs up or just stops reading.
func TestEarlyAnswer(t *testing.T) {
	early := func(text string) func(*backendtest.Session, int64) string {
		return func(_ *backendtest.Session, received int64) string {
			if received > 100_000 {
				return text
			}
			return ""
		}
	}
	for _, keywords := range [][]string{nil, dataKeywords} {
		for name, test := range map[string]struct {
			during string
			code   int
			says   []string
		}{
			"552 and hang up":      {"552 5.3.4 too big" + backendtest.Hangup, 552, nil},
			"552 and stop reading": {"552 5.3.4 too big" + backendtest.Stall, 552, nil},
			"421":                  {"421 4.5.0 bare LF" + backendtest.Hangup, 0, []string{"421 4.5.0 bare LF"}},
			"250":                  {"250 2.0.0 fine" + backendtest.Stall, 0, []string{"250 2.0.0 fine", "before the end"}},
			"hang up":              {backendtest.Hangup, 0, []string{"message"}},
		} {
			t.Run(name, func(t *testing.T) {
				s := start(t, backendtest.Behaviour{Keywords: keywords, During: early(test.during)})
				g, _ := newGroup(t, nil, s)
				c := dial(t, g, testClient())
				envelope(t, c)
				r, dotSent, err := c.SendMessage(testContext(t), Parts{Body: endless{t}, Size: 2 << 30}, 0)
				if dotSent || r.Code != test.code || (err == nil) != (test.code != 0) {
					t.Errorf("%s, dotSent %v, %v", r, dotSent, err)
				}
				if test.code == 0 {
					wantError(t, err, test.says...)
				}
				if c.link != nil {
					t.Error("the connection is still open")
				}
			})
		}
	}
}

func TestBackendThatTakesNothing(t *testing.T) {
	s := start(t, backendtest.Behaviour{During: func(*backendtest.Session, int64) string { return backendtest.Stall }})
	g, _ := newGroup(t, nil, s)
	c := dial(t, g, testClient())
	envelope(t, c)
	g.config.BlockTimeout = 50e6
	_, dotSent, err := c.SendMessage(testContext(t), Parts{Body: endless{t}, Size: 2 << 30}, 0)
	if dotSent {
		t.Error("dotSent")
	}
	wantError(t, err, "message")
}

// The time for an answer that the operator configured holds for DATA, too.
func TestNoAnswerToDATA(t *testing.T) {
	s := start(t, backendtest.Behaviour{Keywords: dataKeywords, Answer: answering("DATA", backendtest.Stall)})
	g, _ := newGroup(t, nil, s)
	c := dial(t, g, testClient())
	envelope(t, c)
	g.config.CommandTimeout = 50e6
	ctx := testContext(t)
	_, dotSent, err := c.SendMessage(ctx, message("x\r\n"), 0)
	if dotSent {
		t.Error("dotSent")
	}
	wantError(t, err, "DATA")
	if ctx.Err() != nil {
		t.Error("the wait ended with the context")
	}
}

func TestNoFinalReply(t *testing.T) {
	for name, keywords := range map[string][]string{"BDAT": nil, "DATA": dataKeywords} {
		for _, size := range []int{10, 300_000} {
			s := start(t, backendtest.Behaviour{Keywords: keywords, Answer: answering(".", backendtest.Stall)})
			g, _ := newGroup(t, nil, s)
			c := dial(t, g, testClient())
			envelope(t, c)
			_, dotSent, err := c.SendMessage(testContext(t), message(strings.Repeat("x", size-2)+"\r\n"), 100*time.Millisecond)
			if !dotSent {
				t.Errorf("%s %d: the end was sent, but dotSent is false", name, size)
			}
			wantError(t, err, "no answer in time")
		}
	}
}

func TestCancelledWhileSending(t *testing.T) {
	for name, during := range map[string]func(*backendtest.Session, int64) string{
		"data":        func(*backendtest.Session, int64) string { return backendtest.Stall },
		"final reply": nil,
	} {
		s := start(t, backendtest.Behaviour{During: during, Answer: answering(".", backendtest.Stall)})
		g, _ := newGroup(t, nil, s)
		c := dial(t, g, testClient())
		envelope(t, c)
		ctx, cancel := context.WithCancel(testContext(t))
		time.AfterFunc(50*time.Millisecond, cancel)
		parts := message(strings.Repeat("x", 100_000))
		if during != nil {
			parts = Parts{Body: endless{t}, Size: 2 << 30}
		}
		_, dotSent, err := c.SendMessage(ctx, parts, 0)
		if dotSent != (during == nil) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: dotSent %v, %v", name, dotSent, err)
		}
	}
}

var errSource = errors.New("disk on fire")

// failing is a body that breaks off.
type failing string

func (f failing) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, string(f))
	if err == nil {
		err = errSource
	}
	return int64(n), err
}

// A message that is not what was announced is never completed.
func TestMessageThatIsNotWhole(t *testing.T) {
	for name, keywords := range map[string][]string{"BDAT": nil, "DATA": dataKeywords} {
		for what, test := range map[string]struct {
			parts Parts
			want  error
		}{
			"short":         {Parts{Body: bytes.NewBufferString("x\r\n"), Size: 4}, errTooShort},
			"long":          {Parts{Body: pieces{[]byte("x\r\n"), []byte("RSET\r\n")}, Size: 3}, errTooLong},
			"failing":       {Parts{Body: failing("x\r\n"), Size: 3}, errSource},
			"failing large": {Parts{Body: failing(strings.Repeat("x", 300_000)), Size: 400_000}, errSource},
		} {
			s := start(t, backendtest.Behaviour{Keywords: keywords})
			g, _ := newGroup(t, nil, s)
			c := dial(t, g, testClient())
			envelope(t, c)
			began := time.Now()
			_, dotSent, err := c.SendMessage(testContext(t), test.parts, 0)
			if dotSent || !errors.Is(err, test.want) || time.Since(began) > graceForLastWord {
				t.Errorf("%s %s: dotSent %v, %v", name, what, dotSent, err)
			}
			s.Close()
			if len(s.Messages()) != 0 || strings.Contains(transcript(s), "RSET") {
				t.Errorf("%s %s: the backend got %d messages and\n%s", name, what, len(s.Messages()), transcript(s))
			}
		}
	}
}

func TestBinaryNeedsBDAT(t *testing.T) {
	s := start(t, backendtest.Behaviour{Keywords: dataKeywords})
	g, _ := newGroup(t, nil, s)
	c := dial(t, g, testClient())
	envelope(t, c)
	_, dotSent, err := c.SendMessage(testContext(t), Parts{Body: bytes.NewBufferString("\n"), Size: 1, Binary: true}, 0)
	if dotSent {
		t.Error("dotSent")
	}
	wantError(t, err, "BINARYMIME")
}

// The backend dies after every number of bytes: what it has stored was reported as possibly stored, and nothing else is
// ever reported as delivered.
func TestBackendDiesAtEveryByte(t *testing.T) {
	for name, keywords := range map[string][]string{"BDAT": nil, "DATA": dataKeywords} {
		whole := int64(0)
		for n := int64(1); whole == 0; n++ {
			s := start(t, backendtest.Behaviour{Keywords: keywords, DropAfter: n})
			g, _ := newGroup(t, nil, s)
			delivered, dotSent := tryOnce(t, g)
			s.Close()
			stored := len(s.Messages()) == 1
			switch {
			case stored && !dotSent, delivered && !stored:
				t.Fatalf("%s, %d bytes: stored %v, dotSent %v, delivered %v", name, n, stored, dotSent, delivered)
			case stored:
				whole = n
			case n > 2000:
				t.Fatalf("%s: nothing is ever delivered", name)
			}
		}
		if whole < 150 {
			t.Errorf("%s: delivered after %d bytes", name, whole)
		}
	}
}

func tryOnce(t *testing.T, g *Group) (delivered, dotSent bool) {
	c, err := g.Dial(testContext(t), testClient())
	if err != nil {
		return false, false
	}
	defer c.Close()
	c.Queue([]byte("MAIL FROM:<a@example.org>"))
	c.Queue([]byte("RCPT TO:<b@example.net>"))
	for range 2 {
		if _, err := c.Reply(testContext(t)); err != nil {
			return false, false
		}
	}
	r, dotSent, err := c.SendMessage(testContext(t), message("Subject: x\r\n\r\n.x\r\n"), 0)
	return err == nil && r.Code == 250, dotSent
}

// A reply that nobody asked for must not pass for the answer to the end of a message.
func TestUnaskedReplyIsNotTheFinalReply(t *testing.T) {
	for name, keywords := range map[string][]string{"BDAT": nil, "DATA": dataKeywords} {
		for _, size := range []int{10, 300_000} {
			s := start(t, backendtest.Behaviour{Keywords: keywords, Answer: func(_ *backendtest.Session, line string) string {
				switch {
				case strings.HasPrefix(line, "RCPT"):
					return "250 2.1.5 Ok\r\n250 2.0.0 Ok: queued as FALSE"
				case line == ".":
					return "451 4.3.0 later"
				}
				return ""
			}})
			g, _ := newGroup(t, nil, s)
			c := dial(t, g, testClient())
			envelope(t, c)
			r, dotSent, err := c.SendMessage(testContext(t), message(strings.Repeat("x", size)+"\r\n"), 0)
			if err == nil || dotSent {
				t.Errorf("%s, %d bytes: %s, dotSent %v", name, size, r, dotSent)
			}
		}
	}
}
