package backend

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"gatepost/proxy/backend/backendtest"
)

var nextEnvelope = [][]byte{[]byte("MAIL FROM:<c@example.org>"), []byte("RCPT TO:<d@example.net>")}

func withNext(body string) Parts {
	p := message(body)
	p.Next = nextEnvelope
	return p
}

// hears reads one reply.
func hears(t *testing.T, c *Conn, code int) {
	t.Helper()
	if r, err := c.Reply(testContext(t)); err != nil || r.Code != code {
		t.Fatalf("%s, %v; want %d", r, err, code)
	}
}

func TestNextIsSaidWithTheMessage(t *testing.T) {
	for name, keywords := range map[string][]string{"BDAT": nil, "DATA": dataKeywords} {
		t.Run(name, func(t *testing.T) { nextIsSaid(t, keywords) })
	}
}

func nextIsSaid(t *testing.T, keywords []string) {
	s := start(t, backendtest.Behaviour{Keywords: keywords})
	g, _ := newGroup(t, nil, s)
	c := dial(t, g, testClient())
	transact(t, c, withNext("one\r\n"))
	if c.Claim(nextEnvelope[0]) || c.Claim(nextEnvelope[0], []byte("RCPT TO:<x@example.net>")) {
		t.Error("something else was claimed")
	}
	if !c.Claim(nextEnvelope...) || c.Disclaim() || c.Claim(nextEnvelope...) {
		t.Fatal("it cannot be claimed once")
	}
	hears(t, c, 250)
	hears(t, c, 250)
	send(t, c, message("two\r\n"))
	c.Release()
	sessions := s.Sessions()
	segments := strings.Join(sessions[len(sessions)-1].Segments(), "|")
	if !strings.Contains(segments, "\r\nMAIL FROM:<c@example.org>\r\nRCPT TO:<d@example.net>\r\n|") {
		t.Errorf("segments: %q", segments)
	}
	m := s.Messages()
	if len(m) != 2 || string(m[1].Data) != "two\r\n" || m[1].Sender != "c@example.org" || m[1].Recipients[0] != "d@example.net" {
		t.Fatalf("%d messages arrived", len(m))
	}
}

func TestNextIsDisclaimed(t *testing.T) {
	s := start(t, backendtest.Behaviour{})
	g, _ := newGroup(t, nil, s)
	c := dial(t, g, testClient())
	transact(t, c, withNext("one\r\n"))
	if !c.Disclaim() || c.Disclaim() {
		t.Fatal("it cannot be disclaimed once")
	}
	ask(t, c, "RSET", 250)
	transact(t, c, message("two\r\n"))
	c.Release()
	if m := s.Messages(); len(m) != 2 || len(m[1].Recipients) != 1 || m[1].Recipients[0] != "b@example.net" {
		t.Fatalf("%d messages arrived, %s", len(m), transcript(s))
	}
}

// Where there is no BDAT, DATA can be said ahead: the next message then waits for nothing.
func TestDataIsSaidWithTheMessage(t *testing.T) {
	s := start(t, backendtest.Behaviour{Keywords: dataKeywords})
	g, _ := newGroup(t, nil, s)
	c := dial(t, g, testClient())
	p := withNext("one\r\n")
	p.Next = append(slices.Clone(p.Next), []byte("data"))
	transact(t, c, p)
	if !c.Begun() || !c.Claim(nextEnvelope...) || !c.Begun() || c.Disclaim() {
		t.Fatal("it was not said, or cannot be claimed")
	}
	hears(t, c, 250)
	hears(t, c, 250)
	send(t, c, message("two\r\n"))
	if c.Begun() {
		t.Error("it is said still")
	}
	transact(t, c, message("three\r\n"))
	c.Release()
	sessions := s.Sessions()
	segments := strings.Join(sessions[len(sessions)-1].Segments(), "|")
	if !strings.Contains(segments, "\r\nMAIL FROM:<c@example.org>\r\nRCPT TO:<d@example.net>\r\ndata\r\n|two\r\n.\r\n|") {
		t.Errorf("segments: %q", segments)
	}
	m := s.Messages()
	if len(m) != 3 || string(m[1].Data) != "two\r\n" || m[1].Sender != "c@example.org" || string(m[2].Data) != "three\r\n" {
		t.Fatalf("%d messages arrived", len(m))
	}
}

// A backend that waits for a message that does not come is left, whoever notices, and gets none.
func TestDataThatIsNotWanted(t *testing.T) {
	for name, leave := range map[string]func(*Conn){
		"released":          (*Conn).Release,
		"closed":            (*Conn).Close,
		"released, claimed": func(c *Conn) { c.Claim(nextEnvelope...); c.Release() },
		"asked something":   func(c *Conn) { c.Disclaim(); c.Command(testContext(t), []byte("RSET")); c.Close() },
		"another message": func(c *Conn) {
			if _, sent, err := c.SendMessage(testContext(t), message("x\r\n"), 0); err == nil || sent {
				t.Error("it was sent")
			}
			c.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, backendtest.Behaviour{Keywords: dataKeywords})
			g, _ := newGroup(t, nil, s)
			c := dial(t, g, testClient())
			p := withNext("one\r\n")
			p.Next = append(slices.Clone(p.Next), []byte("DATA"))
			transact(t, c, p)
			leave(c)
			c = dial(t, g, testClient())
			transact(t, c, message("two\r\n"))
			c.Release()
			m := s.Messages()
			if len(m) != 2 || string(m[1].Data) != "two\r\n" || m[1].Recipients[0] != "b@example.net" {
				t.Fatalf("%d messages arrived, %s", len(m), transcript(s))
			}
		})
	}
}

// What the backend says to DATA is its word on the message, also when it was asked ahead; and if it is gone meanwhile, the
// message may go elsewhere.
func TestDataAheadIsAnswered(t *testing.T) {
	for name, test := range map[string]struct {
		answer string
		code   int
	}{
		"refused":                   {"451 4.3.0 not now", 451},
		"hangs up":                  {backendtest.Hangup, 0},
		"421":                       {"421 4.3.2 Bye" + backendtest.Hangup, 0},
		"leaves after the go-ahead": {"354 go on" + backendtest.Hangup, 0},
	} {
		t.Run(name, func(t *testing.T) {
			heard := 0
			s := start(t, backendtest.Behaviour{Keywords: dataKeywords, Answer: func(_ *backendtest.Session, line string) string {
				if line == "DATA" {
					if heard++; heard == 2 {
						return test.answer
					}
				}
				return ""
			}})
			g, _ := newGroup(t, nil, s)
			c := dial(t, g, testClient())
			p := withNext("one\r\n")
			p.Next = append(slices.Clone(p.Next), []byte("DATA"))
			transact(t, c, p)
			c.Claim(nextEnvelope...)
			hears(t, c, 250)
			hears(t, c, 250)
			if name == "leaves after the go-ahead" {
				s.Close() // it is gone for certain
			}
			r, sent, err := c.SendMessage(testContext(t), message("two\r\n"), 0)
			if sent || r.Code != test.code && test.code != 0 || (err == nil) != (test.code != 0) {
				t.Errorf("%s, sent: %t, %v", r, sent, err)
			}
			c.Close()
			if len(s.Messages()) != 1 {
				t.Errorf("%d messages", len(s.Messages()))
			}
		})
	}
}

// A caller that forgets what was said gets no second transaction mixed up with it.
func TestNextIsForgotten(t *testing.T) {
	s := start(t, backendtest.Behaviour{})
	g, _ := newGroup(t, nil, s)
	c := dial(t, g, testClient())
	transact(t, c, withNext("one\r\n"))
	c.Queue([]byte("RCPT TO:<b@example.net>"))
	if r, err := c.Reply(testContext(t)); err == nil {
		t.Errorf("got %s", r)
	}
	c = dial(t, g, testClient())
	transact(t, c, withNext("two\r\n"))
	c.Release() // and nobody may take this connection over
	transact(t, dial(t, g, testClient()), message("three\r\n"))
	for _, m := range s.Messages() {
		if len(m.Recipients) != 1 || m.Recipients[0] != "b@example.net" {
			t.Errorf("a message went to %v", m.Recipients)
		}
	}
}

func TestNextWaitsWhereItCannotGoWithTheMessage(t *testing.T) {
	for name, test := range map[string]struct {
		keywords []string
		parts    Parts
	}{
		"no pipelining":      {[]string{"CHUNKING", "8BITMIME"}, withNext("x\r\n")},
		"counted":            {[]string{"CHUNKING", "PIPELINING", "LIMITS MAILMAX=5"}, withNext("x\r\n")},
		"a large message":    {nil, withNext(strings.Repeat("x\r\n", blockSize/3))},
		"a line that is two": {nil, Parts{Body: message("x\r\n").Body, Size: 3, Next: [][]byte{[]byte("MAIL FROM:<>\r\nQUIT")}}},
	} {
		t.Run(name, func(t *testing.T) {
			g, _ := newGroup(t, nil, start(t, backendtest.Behaviour{Keywords: test.keywords}))
			c := dial(t, g, testClient())
			transact(t, c, test.parts)
			if c.Claim(test.parts.Next...) || c.Disclaim() {
				t.Error("it was said")
			}
			ask(t, c, "MAIL FROM:<c@example.org>", 250)
			c.Release()
		})
	}
}

// What becomes of the message, and of the connection behind it, is told as ever.
func TestNextDoesNotHideTheFinalReply(t *testing.T) {
	for name, test := range map[string]struct {
		deliver error
		answer  string // to MAIL of the next transaction
		code    int
		next    error
	}{
		"refused":      {errors.New("no room"), "", 451, nil},
		"lost behind":  {nil, backendtest.Hangup, 250, errClosing},
		"closed after": {nil, "421 4.3.2 Bye", 250, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, backendtest.Behaviour{
				Deliver: func(*backendtest.Message) error { return test.deliver },
				Answer: func(_ *backendtest.Session, line string) string {
					if line == string(nextEnvelope[0]) {
						return test.answer
					}
					return ""
				}})
			g, _ := newGroup(t, nil, s)
			c := dial(t, g, testClient())
			ask(t, c, "MAIL FROM:<a@example.org>", 250)
			ask(t, c, "RCPT TO:<b@example.net>", 250)
			r, sent, err := c.SendMessage(testContext(t), withNext("x\r\n"), 0)
			if err != nil || r.Code != test.code || !sent {
				t.Fatalf("%s, %v, %v", r, sent, err)
			}
			if !c.Claim(nextEnvelope...) {
				t.Fatal("it was not said")
			}
			r, err = c.Reply(testContext(t))
			if (err != nil) != (test.next != nil) {
				t.Errorf("the next MAIL: %s, %v", r, err)
			}
			c.Close()
		})
	}
}
