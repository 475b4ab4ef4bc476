package milter

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/proxy"
	"gatepost/proxy/backend"
	"gatepost/proxy/backend/backendtest"
	"gatepost/proxy/front"
	"gatepost/proxy/quarantine"
)

// The session table: every dialogue of the SMTP front end (proxy/testdata) that is about what is decided, and not about
// its wire, is held twice, with the proxy and with an MTA that asks the milter. The replies must have the same codes, and
// the records the same facts, matches and verdicts.
//
// New dialogues take part by themselves. Out of it is what scope finds to be about the wire, and what says so in its first
// lines: "SMTP only: " and the reason.

// decided are the keys of a dialogue's configuration that both front ends know.
var decided = []string{"domains", "trusted", "rules", "mailboxes", "limits", "quarantine"}

// decidedLimits are the limits that both know.
var decidedLimits = []string{"header_size", "hops", "message_size", "recipients"}

// wireDirectives are about connections, not about mail.
var wireDirectives = regexp.MustCompile(`(?m)^! (drop backend|stop backend|hang up|connect|close|tls|waits|holds|shutdown|stopped|wait )`)

var smtpOnly = regexp.MustCompile(`(?m)^(?:# )?SMTP only: (.+)$`)

// script is a dialogue.
type script struct {
	name, backend, dialogue string
	config                  scriptConfig
}

type scriptConfig struct {
	Domains   []string            `yaml:"domains"`
	Trusted   []string            `yaml:"trusted"`
	Rules     []map[string]string `yaml:"rules"`
	Mailboxes []string            `yaml:"mailboxes"`
	Limits    proxy.Limits        `yaml:"limits"`
	// Quarantine of the proxy; MTAs have their own.
	Quarantine filters.Size `yaml:"quarantine"`
}

// readScript returns why a dialogue is out, or "".
func readScript(t *testing.T, file string) (s script, out string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	parts, name := map[string]string{}, ""
	for line := range strings.Lines(string(text)) {
		if marker, ok := strings.CutPrefix(line, "-- "); ok && strings.HasSuffix(marker, " --\n") {
			name = strings.TrimSuffix(marker, " --\n")
			continue
		}
		parts[name] += line
	}
	s = script{name: strings.TrimSuffix(filepath.Base(file), ".txtar"), backend: parts["backend"], dialogue: parts["dialogue"]}
	if reason := smtpOnly.FindStringSubmatch(parts[""]); reason != nil {
		return s, reason[1]
	}
	var keys map[string]any
	if err := yaml.Unmarshal([]byte(parts["config"]), &keys); err != nil {
		t.Fatal(err)
	}
	for key := range keys {
		if !slices.Contains(decided, key) {
			return s, "it sets " + key
		}
	}
	if limits, ok := keys["limits"].(map[string]any); ok {
		for key := range limits {
			if !slices.Contains(decidedLimits, key) {
				return s, "it sets limits." + key
			}
		}
	}
	if d := wireDirectives.FindString(parts["dialogue"]); d != "" {
		return s, "it says " + d
	}
	if parts["config"] == "" {
		return s, "it has no configuration, and so nothing to decide"
	}
	s.config.Limits = proxy.DefaultLimits()
	s.config.Limits.ConnectionsPerClient = 0
	// The dialogues' client is on loopback; here it is the stranger of both front ends.
	config := strings.ReplaceAll(parts["config"], "127.0.0.1", stranger.Address)
	if err := yaml.Unmarshal([]byte(config), &s.config); err != nil {
		t.Fatal(err)
	}
	return s, ""
}

func TestSessionsThroughBothFronts(t *testing.T) {
	files, err := filepath.Glob("../testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialogues: %v", err)
	}
	held := 0
	for _, file := range files {
		s, out := readScript(t, file)
		if out != "" {
			t.Logf("%s is for SMTP only: %s", s.name, out)
			continue
		}
		held++
		t.Run(s.name, func(t *testing.T) {
			bySMTP, byMilter := holdBySMTP(t, s), holdByMilter(t, s)
			compareReplies(t, bySMTP.exchanges, byMilter.exchanges)
			compareRecords(t, bySMTP.records, byMilter.records)
			if !slices.Equal(bySMTP.messages, byMilter.messages) {
				t.Errorf("delivered\n by SMTP:   %q\n by milter: %q", bySMTP.messages, byMilter.messages)
			}
		})
	}
	t.Logf("%d of %d dialogues through both front ends", held, len(files))
}

// outcome is all that came of a dialogue.
type outcome struct {
	exchanges []exchange
	records   []*policy.Record
	messages  []string // as delivered, envelope on top
}

// messagesOf shows what was delivered. A message that begins with its body has an empty line in front behind an MTA.
func messagesOf(s *backendtest.Server) (list []string) {
	for _, m := range s.Messages() {
		head, body := split(m.Data)
		list = append(list, fmt.Sprintf("%s %s\n%s\r\n%s", m.From, m.To, head, body))
	}
	return list
}

// exchange is what a client has sent and what it has read then.
type exchange struct {
	sent    string
	replies []string
}

func (s *script) behaviour() backendtest.Behaviour {
	type scripted struct{ prefix, reply string }
	var answers []scripted
	for line := range strings.Lines(s.backend) {
		if prefix, reply, ok := strings.Cut(strings.TrimSpace(line), " => "); ok {
			answers = append(answers, scripted{prefix, strings.ReplaceAll(reply, `\r\n`, "\r\n")})
		}
	}
	return backendtest.Behaviour{Mailboxes: s.config.Mailboxes, Answer: func(_ *backendtest.Session, line string) string {
		for _, a := range answers {
			if strings.HasPrefix(line, a.prefix) {
				return a.reply
			}
		}
		return ""
	}}
}

func (s *script) setup() setup {
	u := setup{domains: s.config.Domains, trusted: s.config.Trusted, limits: func(l *proxy.Limits) { *l = s.config.Limits }}
	for _, r := range s.config.Rules {
		u.rules = append(u.rules, definition(r))
	}
	return u
}

func holdBySMTP(t *testing.T, s script) outcome {
	behind, err := backendtest.Start(s.behaviour())
	if err != nil {
		t.Fatal(err)
	}
	defer behind.Close()
	log := slog.New(slog.DiscardHandler)
	config := backend.Default()
	config.Address = []string{behind.Address()}
	group, err := backend.New(config, backend.Options{Hostname: "mx.test", Log: log, DomainsConfigured: len(s.config.Domains) > 0})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { group.Run(ctx) })
	<-group.Probed()
	spill, err := front.NewSpill(t.TempDir(), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	j := &journal{}
	server, err := proxy.New(proxy.Options{Spill: spill, Log: log, Clock: filters.SystemClock{}, Service: proxy.Service{
		Hostname: "mx.test", Engine: compile(t, s.setup()), Runtime: &policy.Runtime{Recorder: j}, Backend: group, Limits: s.config.Limits, Quarantine: keep(t, s.config.Quarantine), Hold: 20 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	socket, err := proxy.Listen{Address: "127.0.0.1:0", ProxyFrom: []netip.Prefix{prefix("127.0.0.1/32")}}.Bind(ctx)
	if err != nil {
		t.Fatal(err)
	}
	running.Go(func() { server.Serve(ctx, socket) })
	got := hold(t, s, socket.Addr().String(), fmt.Sprintf("PROXY TCP4 %s 127.0.0.1 %d 25\r\n", stranger.Address, stranger.Port))
	stop, done := context.WithTimeout(ctx, 5*time.Second)
	defer done()
	if err := server.Shutdown(stop); err != nil {
		t.Error(err)
	}
	return outcome{got, j.records, messagesOf(behind)}
}

// keep is the proxy's quarantine: 0 bytes are none.
func keep(t *testing.T, size filters.Size) *quarantine.Quarantine {
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

func holdByMilter(t *testing.T, s script) outcome {
	behind, err := backendtest.Start(s.behaviour())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(behind.Close)
	h := start(t, s.setup())
	trusted := slices.ContainsFunc(s.config.Trusted, func(p string) bool {
		return prefix(p).Contains(netip.MustParseAddr(stranger.Address))
	})
	m := &mta{house: h, behind: behind, domains: s.config.Domains, trusted: trusted, client: stranger}
	got := hold(t, s, startMTA(t, m), "")
	m.socket.Close()
	m.serving.Wait()
	h.server.Shutdown(t.Context())
	return outcome{got, h.journal.records, messagesOf(behind)}
}

// hold sends what the script's client says, and reads as many replies as the script has.
func hold(t *testing.T, s script, address, first string) (list []exchange) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	conn.Write([]byte(first))
	in := bufio.NewReader(conn)
	current := exchange{}
	next := func() {
		if len(current.replies) > 0 || current.sent == "" {
			return
		}
		conn.Write([]byte(current.sent))
	}
	say := func(text string) {
		if len(current.replies) > 0 {
			list = append(list, current)
			current = exchange{}
		}
		current.sent += text
	}
	for line := range strings.Lines(s.dialogue) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "C:"):
			say(strings.TrimPrefix(strings.TrimPrefix(line, "C:"), " ") + "\r\n")
		case strings.HasPrefix(line, `C"`):
			raw, err := strconv.Unquote(line[1:])
			if err != nil {
				t.Fatal(err)
			}
			say(raw)
		case strings.HasPrefix(line, "! fill "):
			n, _ := strconv.Atoi(strings.TrimPrefix(line, "! fill "))
			say(strings.Repeat("x", n))
		case line == "! ehlo":
			say("EHLO client.test\r\n")
			next()
			current.replies = append(current.replies, readReply(in))
		case strings.HasPrefix(line, "S:"):
			next()
			pattern := strings.TrimPrefix(strings.TrimPrefix(line, "S:"), " ")
			if len(pattern) > 3 && pattern[3] == '-' { // the reply goes on
				continue
			}
			current.replies = append(current.replies, readReply(in))
		}
	}
	if current.sent != "" {
		next()
		list = append(list, current)
	}
	return list
}

// readReply reads a whole reply.
func readReply(in *bufio.Reader) string {
	var reply []string
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return strings.Join(append(reply, "EOF"), "\n")
		}
		reply = append(reply, strings.TrimSuffix(line, "\r\n"))
		if len(line) < 4 || line[3] != '-' {
			return strings.Join(reply, "\n")
		}
	}
}

// status is what of a reply has to be the same: the code and, where it is a refusal of ours, the enhanced code. A milter
// has only 421 to close a connection with, and the refusal of a connection is in the MTA's words.
func status(reply string, ours bool) string {
	code, rest, _ := strings.Cut(strings.ReplaceAll(reply, "-", " "), " ")
	enhanced, _, _ := strings.Cut(rest, " ")
	switch {
	case reply == "EOF" || code == "421":
		return "closed"
	case ours:
		return code + " " + enhanced
	}
	return code
}

func compareReplies(t *testing.T, bySMTP, byMilter []exchange) {
	t.Helper()
	for i, a := range bySMTP {
		if i >= len(byMilter) {
			t.Fatalf("by milter there are %d exchanges, by SMTP %d", len(byMilter), len(bySMTP))
		}
		for k, reply := range a.replies {
			other := ""
			if k < len(byMilter[i].replies) {
				other = byMilter[i].replies[k]
			}
			if ours := a.sent != "" && strings.Contains(reply, "(id "); status(reply, ours) != status(other, ours) {
				t.Errorf("%.200q\n by SMTP:   %q\n by milter: %q", a.sent, reply, other)
			}
		}
	}
}

// unknowable are facts that a milter may not have, and why.
var unknowable = map[string]string{
	"helo.extended": "Postfix does not tell EHLO from HELO",
	"message.size":  "where nothing reads it, the body is left out",
}

func compareRecords(t *testing.T, bySMTP, byMilter []*policy.Record) {
	t.Helper()
	a, b := transactionsOf(bySMTP), transactionsOf(byMilter)
	if len(a) != len(b) {
		t.Fatalf("%d transactions by SMTP, %d by milter", len(a), len(b))
	}
	for i := range a {
		if x, y := told(a[i]), told(b[i]); x != y {
			t.Errorf("transaction %d\n by SMTP:   %s\n by milter: %s", i+1, x, y)
		}
		x, y := factsOf(a[i]), factsOf(b[i])
		for _, name := range slices.Sorted(maps.Keys(x)) {
			other, known := y[name]
			if name == "message.size" && other == plusEmptyLine(x[name]) {
				other = x[name]
			}
			if other != x[name] && (known || unknowable[name] == "") {
				t.Errorf("transaction %d: %s is %q by SMTP, %q by milter", i+1, name, x[name], other)
			}
			delete(y, name)
		}
		if len(y) > 0 {
			t.Errorf("transaction %d: known by milter only: %v", i+1, y)
		}
	}
}

// plusEmptyLine is the size of a message that begins with its body: MTAs put in the empty line that ends the header.
func plusEmptyLine(size string) string {
	n, _ := strconv.Atoi(size)
	return strconv.Itoa(n + len("\r\n"))
}

func transactionsOf(records []*policy.Record) (list []*policy.Record) {
	for _, r := range records {
		if r.Kind == policy.TransactionRecord {
			list = append(list, r)
		}
	}
	return list
}

// told is what a record says of the verdicts.
func told(r *policy.Record) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<%s>", r.Envelope.ReversePath)
	for _, rcpt := range r.Recipients {
		name := ""
		if rcpt.Rule != nil {
			name = rcpt.Rule.Name
		}
		fmt.Fprintf(&b, " <%s> %d %s", rcpt.Address, rcpt.Reply.Code, name)
	}
	for _, m := range r.Matched {
		fmt.Fprintf(&b, " %s/%s", m.Rule.Name, m.Recipient)
	}
	code := r.Ending.Reply.Code
	if code == 421 { // drop
		code = 0
	}
	fmt.Fprintf(&b, " ends %d ours=%t", code, r.Ending.Ours)
	return b.String()
}

// factsOf is all facts that are known.
func factsOf(r *policy.Record) map[string]string {
	list := map[string]string{}
	for _, g := range policy.Groups(nil) {
		for i := range g.Type.NumField() {
			name := g.Type.Field(i).Tag.Get("fact")
			if name == "" || name == "header" {
				continue
			}
			name = g.Name + "." + name
			if value, known := r.Facts.Lookup(name); known {
				list[name] = fmt.Sprint(value)
			}
		}
	}
	return list
}
