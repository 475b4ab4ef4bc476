package backend

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"gatepost/proxy/backend/backendtest"
)

func checkRelay(c *Config) { c.RelayCheck = true }

func TestRelayCheckPasses(t *testing.T) {
	for name, test := range map[string]struct {
		b       backendtest.Behaviour
		address ClientAddress
	}{
		"5xx":      {backendtest.Behaviour{Relay: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, XClient},
		"4xx":      {backendtest.Behaviour{Answer: answering("RCPT", "450 4.7.1 later")}, XClient},
		"proxy-v1": {backendtest.Behaviour{Proxy: backendtest.ProxyV1}, ProxyV1},
		"proxy-v2": {backendtest.Behaviour{Proxy: backendtest.ProxyV2}, ProxyV2},
		"no <>":    {backendtest.Behaviour{Answer: answering("MAIL FROM:<>", "550 5.1.0 no bounces")}, XClient},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, test.b)
			g, logs := newGroup(t, func(c *Config) { checkRelay(c); c.ClientAddress = test.address }, s)
			wantError(t, g.Ready(), "relay check", "not been done yet")
			if _, err := g.Dial(testContext(t), testClient()); err == nil {
				t.Error("a client was taken before the check")
			}
			run(t, g)
			if err := g.Ready(); err != nil {
				t.Error(err)
			}
			if !g.Seen() || !strings.Contains(logs.String(), "relay check passed") {
				t.Errorf("seen %v, log: %s", g.Seen(), logs)
			}
			dial(t, g, testClient()).Close()
			s.Close()
			if sess := s.Sessions()[0]; sess.Client.Addr() != netip.MustParseAddr("192.0.2.1") {
				t.Errorf("the stranger came from %v", sess.Client)
			}
		})
	}
}

func TestOpenRelayGetsNoMail(t *testing.T) {
	open := start(t, backendtest.Behaviour{Relay: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}})
	g, logs := newGroup(t, checkRelay, open)
	run(t, g)
	wantError(t, g.Ready(), "relay for strangers", "mynetworks", "backend.relay_check: off")
	if !strings.Contains(logs.String(), "level=ERROR") || !strings.Contains(logs.String(), "mynetworks") {
		t.Errorf("log: %s", logs)
	}
	_, err := g.Dial(testContext(t), testClient())
	wantError(t, err, "relay for strangers")

	safe := start(t, backendtest.Behaviour{})
	g, _ = newGroup(t, checkRelay, open, safe)
	run(t, g)
	if err := g.Ready(); err != nil {
		t.Errorf("one backend is in order: %v", err)
	}
	if c := dial(t, g, testClient()); c.Address() != safe.Address() {
		t.Error("went to the open relay")
	}
}

func TestRelayCheckThatProvesNothing(t *testing.T) {
	for name, b := range map[string]backendtest.Behaviour{
		"MAIL refused": {Answer: answering("MAIL", "550 5.7.1 no")},
		"421 to RCPT":  {Answer: answering("RCPT", "421 4.7.0 no"+backendtest.Hangup)},
		"hang up":      {Answer: answering("RCPT", backendtest.Hangup)},
		"no greeting":  {Greeting: backendtest.Hangup},
	} {
		t.Run(name, func(t *testing.T) {
			g, logs := newGroup(t, checkRelay, start(t, b))
			run(t, g)
			wantError(t, g.Ready())
			if logs.String() == "" {
				t.Error("nothing was logged")
			}
		})
	}
}

// Why nothing is proved can change: a backend that was down is up, but answers MAIL with 550.
func TestNewReasonForNoProofIsLogged(t *testing.T) {
	s := start(t, backendtest.Behaviour{Answer: answering("MAIL", "550 5.7.1 no")})
	g, logs := newGroup(t, checkRelay, s)
	g.servers[0].unproved(errors.New("it was down at first"))
	for range 2 {
		if err := g.servers[0].probe(testContext(t)); err == nil {
			t.Fatal("proved")
		}
	}
	if n := strings.Count(logs.String(), "came to nothing"); n != 1 {
		t.Errorf("told %d times: %s", n, logs)
	}
}

// What was proved is kept while the backend is away.
func TestProofOutlivesOutage(t *testing.T) {
	s := start(t, backendtest.Behaviour{})
	g, _ := newGroup(t, checkRelay, s)
	run(t, g)
	s.Close()
	if err := g.servers[0].probe(testContext(t)); err == nil {
		t.Fatal("a closed backend was probed")
	}
	if err := g.Ready(); err != nil {
		t.Error(err)
	}
}

func TestRelayCheckDoesNotApply(t *testing.T) {
	open := backendtest.Behaviour{Relay: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}
	g, _ := newGroup(t, nil, start(t, open))
	if err := g.Ready(); err != nil {
		t.Errorf("relay_check: off: %v", err)
	}
	s := start(t, open)
	g, _ = newGroup(t, func(c *Config) { checkRelay(c); c.ClientAddress = NoAddress }, s)
	run(t, g)
	if err := g.Ready(); err != nil || strings.Contains(transcript(s), "RCPT") {
		t.Errorf("client_address: none: %v\n%s", err, transcript(s))
	}
}

func TestProbeTeachesTheWays(t *testing.T) {
	s := start(t, backendtest.Behaviour{})
	g, _ := newGroup(t, nil, s)
	run(t, g)
	c := dial(t, g, testClient())
	envelope(t, c)
	want := 3
	if eager {
		want = 1
	}
	if segments := s.Sessions()[1].Segments(); len(segments) != want {
		t.Errorf("the first client's commands came in %q", segments)
	}
}

// A session that is answered otherwise than the probe was does not change what is promised to others, but makes the
// prober look again.
func TestOtherKeywordsInASession(t *testing.T) {
	s := start(t, backendtest.Behaviour{Answer: func(sess *backendtest.Session, line string) string {
		if line != "EHLO helo.example.org" {
			return ""
		}
		sess.Helo = "helo.example.org"
		return "250-backend.test\r\n250-PIPELINING\r\n250 XCLIENT NAME ADDR"
	}})
	g, _ := newGroup(t, nil, s)
	run(t, g)
	c := dial(t, g, testClient())
	ask(t, c, "MAIL FROM:<>", 250)
	if e := c.Extensions(); e.Chunking || !e.Pipelining {
		t.Errorf("this session has %+v", e)
	}
	if e, _ := g.Extensions(); !e.Chunking {
		t.Errorf("all have %+v", e)
	}
}

func TestRecoveryIsNoticed(t *testing.T) {
	g, logs := newGroup(t, nil, start(t, backendtest.Behaviour{}))
	g.servers[0].failed(errors.New("some reason"))
	if !g.servers[0].down() {
		t.Fatal("not down")
	}
	run(t, g)
	if g.servers[0].down() || !strings.Contains(logs.String(), "works again") {
		t.Errorf("log: %s", logs)
	}
}
