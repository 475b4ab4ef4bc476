package calledtest

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/all"
	"gatepost/filters/filtertest"
	"gatepost/policy"
	"gatepost/proxy"
	"gatepost/proxy/backend"
	"gatepost/proxy/backend/backendtest"
	"gatepost/proxy/front"
	"gatepost/proxy/quarantine"
)

// Stranger is the client of most tests.
var Stranger = netip.MustParseAddrPort("192.0.2.77:40000")

// zone gives the filters something to find.
const zone = `
192.0.2.77          PTR  client.test
client.test         A    192.0.2.77
example.org         TXT  v=spf1 ip4:192.0.2.77 -all
_dmarc.example.org  TXT  v=DMARC1; p=reject
bad.test            TXT  v=spf1 -all
slow.test           TXT  v=spf1 include:example.org ?all
`

// looksAtAll is a rule that is never true and reads a fact of every filter that has something to say of any message.
var looksAtAll = Rule("looks-at-all", `helo.valid and helo.resolves and rdns.confirmed and rdns.name == "x" and spf.result == "none" and `+
	`spf.helo_result == "fail" and dkim.result == "fail" and arc.result == "fail" and dmarc.result == "fail" and dmarc.policy == "reject" and `+
	`exception.client == "blocked" and message.size < 0`, "score", "points", "1")

// patience is how long a dialogue may take.
const patience = 20 * time.Second

// Setup is what the front end under test decides by, and its bounds.
type Setup struct {
	Policy Policy
	Limits proxy.Limits
	Spill  int64 // 0: plenty
}

// Setup of a dialogue.
func (s *Script) Setup() Setup {
	p := Policy{Domains: s.config.Domains, Trusted: s.config.Trusted, Specs: all.Specs(), Zone: filtertest.MustParseZone(zone)}
	for _, keys := range s.config.Rules {
		p.Rules = append(p.Rules, Definition(keys))
	}
	p.Rules = append(p.Rules, looksAtAll)
	return Setup{p, s.config.Limits, int64(s.config.Spill)}
}

// Outcome is all that came of a dialogue.
type Outcome struct {
	Exchanges []Exchange
	Records   []*policy.Record // of transactions
	Messages  []string         // as delivered, envelope on top
}

// Exchange is what a client has sent and what it has read then.
type Exchange struct {
	Sent    string
	Replies []string
	Final   bool // the first reply is the final one to a message
}

// HoldByMTA holds a dialogue with an MTA that asks a front end; finish ends that, so that the journal is complete.
func HoldByMTA(t *testing.T, s *Script, ask func() (Asker, error), j *Journal, finish func()) Outcome {
	t.Helper()
	script := s.backendScript()
	behind, err := backendtest.Start(backendtest.Behaviour{Mailboxes: s.config.Mailboxes, Answer: script.answer})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(behind.Close)
	script.begin()
	m := &MTA{Ask: ask, Behind: behind, Domains: s.config.Domains}
	for _, network := range s.Setup().Policy.Trusted {
		m.Trusted = m.Trusted || netip.MustParsePrefix(network).Contains(Stranger.Addr())
	}
	got := hold(t, s, m.Start(t), "")
	m.Stop()
	finish()
	return Outcome{got, j.Records(policy.TransactionRecord), messagesOf(behind)}
}

// HoldBySMTP holds it with the proxy.
func HoldBySMTP(t *testing.T, s *Script) Outcome {
	t.Helper()
	script := s.backendScript()
	behind, err := backendtest.Start(backendtest.Behaviour{Mailboxes: s.config.Mailboxes, Answer: script.answer})
	if err != nil {
		t.Fatal(err)
	}
	defer behind.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	log := slog.New(slog.DiscardHandler)
	config := backend.Default()
	config.Address = []string{behind.Address()}
	group, err := backend.New(config, backend.Options{Hostname: Hostname, Log: log, DomainsConfigured: len(s.config.Domains) > 0})
	if err != nil {
		t.Fatal(err)
	}
	running.Go(func() { group.Run(ctx) })
	<-group.Probed()
	script.begin()
	j := &Journal{}
	server := s.proxy(t, group, j, log)
	socket, err := proxy.Listen{Address: "127.0.0.1:0", ProxyFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}.Bind(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	running.Go(func() { server.Serve(ctx, socket) })
	got := hold(t, s, socket.Addr().String(), fmt.Sprintf("PROXY TCP4 %s 127.0.0.1 %d 25\r\n", Stranger.Addr(), Stranger.Port()))
	stop, done := context.WithTimeout(ctx, 5*time.Second)
	defer done()
	if err := server.Shutdown(stop); err != nil {
		t.Error(err)
	}
	return Outcome{got, j.Records(policy.TransactionRecord), messagesOf(behind)}
}

func (s *Script) proxy(t *testing.T, group *backend.Group, j *Journal, log *slog.Logger) *proxy.Server {
	t.Helper()
	setup := s.Setup()
	engine, _ := Compile(t, setup.Policy)
	room := setup.Spill
	if room == 0 {
		room = 1 << 30
	}
	spill, err := front.NewSpill(t.TempDir(), room)
	if err != nil {
		t.Fatal(err)
	}
	server, err := proxy.New(proxy.Options{Spill: spill, Log: log, Clock: filters.SystemClock{}, Service: proxy.Service{
		Hostname: Hostname, Engine: engine, Runtime: &policy.Runtime{Recorder: j}, Backend: group, Limits: setup.Limits,
		Quarantine: keep(t, s.config.Quarantine), Hold: patience}})
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// keep is the proxy's quarantine: 0 bytes are none.
func keep(t *testing.T, size filters.Size) *quarantine.Quarantine {
	t.Helper()
	if size == 0 {
		return nil
	}
	config := quarantine.Defaults()
	config.Path, config.Size = t.TempDir(), size
	q, err := quarantine.Open(config, quarantine.Options{Clock: filters.SystemClock{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	return q
}

// messagesOf shows what was delivered. A message that begins with its body has an empty line in front behind an MTA.
func messagesOf(s *backendtest.Server) (list []string) {
	for _, m := range s.Messages() {
		head, body := Split(m.Data)
		list = append(list, fmt.Sprintf("%s %s\n%s\r\n%s", m.From, m.To, head, body))
	}
	return list
}

// holding is a dialogue in progress.
type holding struct {
	conn net.Conn
	in   *bufio.Reader
	now  Exchange
	list []Exchange
}

// hold sends what the script's client says, and reads as many replies as the script has.
func hold(t *testing.T, s *Script, address, first string) []Exchange {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	conn.Write([]byte(first))
	h := &holding{conn: conn, in: bufio.NewReader(conn)}
	for line := range strings.Lines(s.dialogue) {
		switch line = strings.TrimRight(line, "\n"); {
		case strings.HasPrefix(line, "C:"):
			h.say(strings.TrimPrefix(strings.TrimPrefix(line, "C:"), " ") + "\r\n")
		case strings.HasPrefix(line, `C"`):
			raw, err := strconv.Unquote(line[1:])
			if err != nil {
				t.Fatal(err)
			}
			h.say(raw)
		case strings.HasPrefix(line, "! fill "):
			n, _ := strconv.Atoi(strings.TrimPrefix(line, "! fill "))
			h.say(strings.Repeat("x", n))
		case line == "! ehlo":
			h.say("EHLO client.test\r\n")
			h.see()
		case strings.HasPrefix(line, "S:"):
			pattern := strings.TrimPrefix(strings.TrimPrefix(line, "S:"), " ")
			if len(pattern) < 4 || pattern[3] != '-' { // else the reply goes on
				h.see()
			}
		}
	}
	h.send()
	return append(h.list, h.now)
}

// say gathers what goes in one write.
func (h *holding) say(text string) {
	if len(h.now.Replies) > 0 {
		last := h.now.Replies[len(h.now.Replies)-1]
		h.list = append(h.list, h.now)
		h.now = Exchange{Final: strings.HasPrefix(last, "354")}
	}
	h.now.Sent += text
}

func (h *holding) send() {
	if len(h.now.Replies) == 0 && h.now.Sent != "" {
		h.conn.Write([]byte(h.now.Sent))
	}
}

func (h *holding) see() {
	h.send()
	reply, err := ReadReply(h.in)
	if err != nil {
		reply = "EOF"
	}
	h.now.Replies = append(h.now.Replies, reply)
}

// ReadReply reads a whole reply; there is CRLF between its lines.
func ReadReply(in *bufio.Reader) (string, error) {
	var reply []string
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return "", err
		}
		line = strings.TrimSuffix(line, "\r\n")
		reply = append(reply, line)
		if len(line) < 4 || line[3] != '-' {
			return strings.Join(reply, "\r\n"), nil
		}
	}
}
