package proxy

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gatepost/proxy/backend"
	"gatepost/proxy/backend/backendtest"
)

// The matrix: what a client reads through Gatepost is what it would read from the backend itself, and what the backend
// stores is the same, for sets of EHLO keywords × commands and parameters × plain and TLS × pipelined or not.
//
// The same dialogues are held twice, with a scripted backend that keeps strictly to what it offers: once straight, once
// through the proxy. A reply must be the same byte for byte; a reply of ours may stand in its place where own says so, with
// the same code. What differs by design is the greeting, the reply to EHLO (checked against the keywords), and the text of
// our own replies.
//
// The short form takes the keywords one by one, all but one, and those of well-known MTAs. GATEPOST_MATRIX=long takes
// every set of the keywords that a relay has to do something for.

// cell is one place in the matrix.
type cell struct {
	keywords  []string
	tls       bool // of the client
	pipelined bool
}

// mtas is what well-known MTAs offer.
var mtas = map[string][]string{
	"Postfix":   {"PIPELINING", "SIZE 1000000", "VRFY", "ETRN", "ENHANCEDSTATUSCODES", "8BITMIME", "DSN", "SMTPUTF8", "CHUNKING"},
	"Exim":      {"SIZE 1000000", "8BITMIME", "DSN", "PIPELINING", "PIPECONNECT", "CHUNKING", "PRDR", "SMTPUTF8", "HELP"},
	"sendmail":  {"ENHANCEDSTATUSCODES", "PIPELINING", "EXPN", "VERB", "8BITMIME", "SIZE 1000000", "DSN", "ETRN", "DELIVERBY", "HELP"},
	"OpenSMTPD": {"8BITMIME", "ENHANCEDSTATUSCODES", "SIZE 1000000", "DSN", "HELP"},
	"Courier":   {"XVERP", "XEXDATA", "XSECURITY=NONE,STARTTLS", "PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 1000000", "DSN"},
	"Exchange":  {"SIZE 1000000", "PIPELINING", "DSN", "ENHANCEDSTATUSCODES", "8BITMIME", "BINARYMIME", "CHUNKING", "SMTPUTF8"},
}

// relayed is the keywords of which every set is tried in the long form; the others are carried in the same way as one of
// these, and tried one by one.
var relayed = []string{"PIPELINING", "SIZE 1000000", "8BITMIME", "BINARYMIME", "CHUNKING", "SMTPUTF8", "DSN", "VRFY"}

func TestMatrix(t *testing.T) {
	sets := [][]string{{}, keywordsOfAll()}
	for i, k := range keywordsOfAll() {
		sets = append(sets, []string{k}, slices.Delete(keywordsOfAll(), i, i+1))
	}
	for _, name := range []string{"Postfix", "Exim", "sendmail", "OpenSMTPD", "Courier", "Exchange"} {
		sets = append(sets, mtas[name])
	}
	long := os.Getenv("GATEPOST_MATRIX") == "long"
	if long {
		for bits := range 1 << len(relayed) {
			set := []string{}
			for i, k := range relayed {
				if bits>>i&1 == 1 {
					set = append(set, k)
				}
			}
			sets = append(sets, set)
		}
	}
	home := newMatrixHome(t)
	cells, replies := 0, 0
	for n, set := range sets {
		m := home.start(t, set)
		for mode := range 4 {
			c := cell{keywords: set, tls: mode&1 == 1, pipelined: mode&2 == 2}
			switch {
			case c.pipelined && !m.model.offers("PIPELINING"):
				continue
			case !long && n > 1 && (mode+n)%2 == 1: // each set meets two of the four
				continue
			}
			cells++
			replies += m.compare(t, c)
		}
		m.stop()
		if t.Failed() {
			break
		}
	}
	t.Logf("%d sets of keywords, %d cells, %d replies compared", len(sets), cells, replies)
}

// matrixHome holds what the houses of a matrix share.
type matrixHome struct{ certificate string }

func newMatrixHome(t *testing.T) *matrixHome { return &matrixHome{certificate(t)} }

// matrix is a house whose backend can also be reached straight.
type matrix struct {
	*house
	model *model
	stop  func()
}

func (home *matrixHome) start(t *testing.T, keywords []string) *matrix {
	m := &matrix{model: newModel(keywords)}
	pair, err := tls.LoadX509KeyPair(home.certificate, home.certificate)
	if err != nil {
		t.Fatal(err)
	}
	m.house, m.stop = startUnbound(t, setup{
		listen: Listen{Certificate: home.certificate},
		limits: func(l *Limits) { l.Errors, l.Commands = 1_000_000, 1_000_000 },
		backend: backendtest.Behaviour{
			Keywords: keywords, Answer: m.model.answer, TLS: &tls.Config{Certificates: []tls.Certificate{pair}},
			Mailboxes: []string{"b@example.com", "c@example.com", "ö@example.com", "postmaster", `"b c"@example.com`, "@relay.test:b@example.com"},
		},
		group: func(c *backend.Config) {
			c.TLS, c.CA = backend.TLSVerified, home.certificate
			c.Extensions = listed
		},
	})
	return m
}

// compare holds all dialogues in both ways, and returns how many replies were the same.
func (m *matrix) compare(t *testing.T, c cell) (replies int) {
	t.Helper()
	name := fmt.Sprintf("%v, TLS %t, pipelined %t", c.keywords, c.tls, c.pipelined)
	m.model.secure = c.tls
	server := m.backends[0]
	before := len(server.Messages())
	straight, _ := m.hold(t, server.Address(), c)
	between := len(server.Messages())
	through, offered := m.hold(t, m.address, c)
	messages := server.Messages()

	if want := m.model.through(c); offered != want {
		t.Errorf("%s:\n EHLO offers  %s\n and not      %s", name, offered, want)
	}
	for i := range straight {
		replies += compareScene(t, name, straight[i], through[i])
	}
	compareMessages(t, name, messages[before:between], messages[between:])
	return replies
}

// compareScene compares up to the first difference: what follows it follows from it.
func compareScene(t *testing.T, name string, straight, through []exchange) (replies int) {
	t.Helper()
	for i, a := range straight {
		if i == len(through) {
			t.Errorf("%s: %q\n straight: %q\n through:  nothing", name, a.line, a.reply)
			break
		}
		if problem := differs(a, through[i]); problem != "" {
			t.Errorf("%s, %s: %q\n straight: %q\n through:  %q\n %s", name, a.dialogue, a.line, a.reply, through[i].reply, problem)
			break
		}
		replies++
	}
	return replies
}

func compareMessages(t *testing.T, name string, straight, through []*backendtest.Message) {
	t.Helper()
	if len(straight) != len(through) {
		t.Errorf("%s: %d messages straight, %d through", name, len(straight), len(through))
		return
	}
	for i, a := range straight {
		b := through[i]
		if a.From != b.From || !slices.Equal(a.To, b.To) || a.Helo != b.Helo || a.Extended != b.Extended || !bytes.Equal(a.Data, b.Data) {
			t.Errorf("%s: the backend has\n %q %q %q\n and through the proxy\n %q %q %q", name, a.From, a.To, a.Data, b.From, b.To, b.Data)
		}
	}
}

// exchange is one command and the reply to it.
type exchange struct{ dialogue, line, reply string }

// hold holds all dialogues in one session. offered is the keywords of EHLO, sorted.
func (m *matrix) hold(t *testing.T, address string, c cell) (got [][]exchange, offered string) {
	t.Helper()
	h := &house{t: t, address: address}
	client := h.dial()
	defer client.Close()
	client.expect("220 ")
	if c.tls {
		client.say("EHLO client.test", "250")
		client.say("STARTTLS", "220")
		client.upgrade()
	}
	offered = keywordsOf(client.say("EHLO client.test", "250"))
	for _, d := range dialogues {
		if d.chunks() && !m.model.offers("CHUNKING") {
			continue // its bytes would be commands
		}
		got = append(got, d.hold(client, c.pipelined))
		if d.hello {
			client.say("EHLO client.test", "250")
		} else {
			client.say("RSET", "250 ")
		}
	}
	client.say("QUIT", "221 ")
	return got, offered
}

// hold sends the steps one by one, or in groups as RFC 2920 has them.
func (d scene) hold(c *client, pipelined bool) (got []exchange) {
	var batch strings.Builder
	waiting := 0
	for i, s := range d.steps {
		batch.WriteString(s.line + "\r\n" + s.chunk)
		waiting++
		if pipelined && i < len(d.steps)-1 && !s.endsGroup() {
			continue
		}
		c.send(batch.String())
		batch.Reset()
		for ; waiting > 0; waiting-- {
			s := d.steps[i+1-waiting]
			got = append(got, exchange{d.name, s.line, c.reply()})
			if s.data != "" && strings.HasPrefix(got[len(got)-1].reply, "354") {
				c.send(s.data)
				got = append(got, exchange{d.name, "end of data", c.reply()})
			}
		}
	}
	return got
}

var queueIDs = regexp.MustCompile(`queued as [0-9A-F]+`)

// differs says what is wrong with what was read through the proxy, or nothing.
func differs(straight, through exchange) string {
	a, b := queueIDs.ReplaceAllString(straight.reply, "queued"), queueIDs.ReplaceAllString(through.reply, "queued")
	if straight.line != through.line {
		return "the dialogues went different ways"
	}
	if a == b {
		return ""
	}
	if verb, _, _ := strings.Cut(strings.ToUpper(straight.line), " "); verb == "EHLO" || verb == "HELO" {
		if a[:3] == b[:3] {
			return ""
		}
		return "another code"
	}
	if !strings.HasPrefix(a, "5") && !slices.ContainsFunc(own, func(r *regexp.Regexp) bool { return r.MatchString(straight.line + " => " + b) }) {
		return "only the backend says that"
	}
	if status(a) != status(b) && !(strings.HasPrefix(straight.line, "BDAT") && status(a) == "554 5.5.1" && status(b) == "503 5.5.1") { // RFC 3030 has both
		return "another code"
	}
	return ""
}

// own is the replies other than refusals that the proxy gives itself.
var own = []*regexp.Regexp{
	regexp.MustCompile(`(?i)^data => 354 `),
	regexp.MustCompile(`(?i)^(rset|noop\b.*) => 250 2\.0\.0 `),
	regexp.MustCompile(`(?i)^bdat \d+ => 250 2\.0\.0 `),
	regexp.MustCompile(`(?i)^help\b.* => 214 2\.0\.0 `),
	regexp.MustCompile(`(?i)^vrfy .* => 252 2\.\d\.0 `),
}

// status is the code of a reply and its enhanced code. 4.x.x and 5.x.x count; of 2.x.x only the class does.
func status(reply string) string {
	code, rest, _ := strings.Cut(strings.ReplaceAll(reply, "-", " "), " ")
	enhanced, _, _ := strings.Cut(rest, " ")
	if strings.HasPrefix(code, "5") || strings.HasPrefix(code, "4") {
		return code + " " + enhanced
	}
	return code
}

// keywordsOf is what a reply to EHLO offers, sorted.
func keywordsOf(reply string) string {
	var list []string
	for _, line := range strings.Split(reply, "\n")[1:] {
		if !strings.HasPrefix(line[4:], "XCLIENT") {
			list = append(list, line[4:])
		}
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// upgrade begins TLS without looking at the certificate.
func (c *client) upgrade() {
	c.t.Helper()
	secured := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
	if err := secured.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.Conn = secured
	c.r.Reset(secured)
}
