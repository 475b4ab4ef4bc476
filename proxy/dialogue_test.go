package proxy

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
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
	"gatepost/proxy/backend"
	"gatepost/proxy/backend/backendtest"
	"gatepost/proxy/front"
	"gatepost/proxy/quarantine"
	"gatepost/proxy/wire"
	"gatepost/rules"
)

// A dialogue test is a txtar file in testdata:
//
//	-- config --     YAML, see dialogueConfig
//	-- backend --    "PREFIX => REPLY" for command lines that the backend shall answer in its own way; "once PREFIX =>"
//	                 for the first of them only; \r\n, HANGUP and STALL may stand in the reply; SLEEP 1s: the usual
//	                 reply, later
//	-- dialogue --   see below
//	-- delivered --  what the backend was given: "from ARG", "to ARG", an empty line, the message; a line that starts
//	                 with "~" is a regular expression
//	-- journal --    one line a transaction: "CODE ours|backend NOTE"
//	-- kept --       what is in quarantine: "kept by RULE" or "copy by RULE", "from ARG", "to ARG", an empty line, the message
//
// Every dialogue about mail is held with the milter and the policy server too (proxy/called/calledtest), unless a line
// before the first section says "SMTP only: " and the reason.
//
// Lines of a dialogue:
//
//	C: text          the client sends a line; lines that follow each other go in one write
//	C"text"          it sends exactly these bytes, in Go's notation
//	S: regexp        the client must see this line, whole
//	B: regexp        the backend's next command must be this; hand-overs are passed over unless asked for; "B: -": it
//	                 has heard nothing more
//	! directive      see dialogue.direct
type dialogueConfig struct {
	Limits      Limits              `yaml:"limits"`
	LineEndings LineEndings         `yaml:"line_endings"`
	Domains     []string            `yaml:"domains"`
	Trusted     []string            `yaml:"trusted"`
	Hold        filters.Duration    `yaml:"hold"`
	Pause       filters.Duration    `yaml:"pause"` // of the greeting
	TLS         bool                `yaml:"tls"`
	ProxyFrom   bool                `yaml:"proxy_from"`   // 127.0.0.1
	XClientFrom bool                `yaml:"xclient_from"` // 127.0.0.1
	None        bool                `yaml:"client_address_none"`
	Eager       bool                `yaml:"eager"`
	RelayCheck  *bool               `yaml:"relay_check"`
	Keywords    []string            `yaml:"keywords"`
	Mailboxes   []string            `yaml:"mailboxes"`
	BackendMax  int64               `yaml:"backend_max_size"`
	OpenRelay   bool                `yaml:"open_relay"`
	Two         bool                `yaml:"two_backends"`
	NoBackend   bool                `yaml:"no_backend"`
	Spill       filters.Size        `yaml:"spill"`
	Quarantine  filters.Size        `yaml:"quarantine"` // 0: there is none
	Editor      bool                `yaml:"editor"`     // see editor
	Rules       []map[string]string `yaml:"rules"`
}

type dialogue struct {
	t       *testing.T
	h       *house
	c       *client
	heard   *heard
	stopped chan error
	clock   time.Time
	kept    *quarantine.Quarantine
}

// heard is what the backends were told, in order of arrival.
type heard struct {
	mu    sync.Mutex // guards all below
	on    bool
	lines []string
	once  map[int]bool // scripted answers that were used up
}

func (h *heard) add(line string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.on {
		h.lines = append(h.lines, line)
	}
}

func (h *heard) take() (string, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.lines) == 0 {
		return "", false
	}
	line := h.lines[0]
	h.lines = h.lines[1:]
	return line, true
}

func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialogues: %v", err)
	}
	for _, file := range files {
		for _, parker := range []string{"epoll", "threads"} {
			name := strings.TrimSuffix(filepath.Base(file), ".txtar") + "/" + parker
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				runDialogue(t, sections(string(text)), parker == "threads")
			})
		}
	}
}

// sections cuts a txtar file at its "-- name --" lines.
func sections(text string) map[string]string {
	parts, name := map[string]string{}, ""
	for line := range strings.Lines(text) {
		if marker, ok := strings.CutPrefix(line, "-- "); ok && strings.HasSuffix(marker, " --\n") {
			name = strings.TrimSuffix(marker, " --\n")
			parts[name] = ""
			continue
		}
		parts[name] += line
	}
	return parts
}

func runDialogue(t *testing.T, sections map[string]string, threads bool) {
	config := dialogueConfig{Limits: DefaultLimits()}
	config.Limits.ConnectionsPerClient = 0
	if text := sections["config"]; text != "" {
		if err := yaml.UnmarshalWithOptions([]byte(text), &config, yaml.Strict()); err != nil {
			t.Fatalf("config: %v", err)
		}
	}
	d := &dialogue{t: t, heard: &heard{once: map[int]bool{}}}
	d.h = start(t, d.setup(config, sections["backend"], threads))
	d.heard.mu.Lock()
	d.heard.on = true
	d.heard.mu.Unlock()
	d.run(sections["dialogue"])
	if want, ok := sections["delivered"]; ok {
		compareLines(t, "delivered", want, d.delivered())
	}
	if want, ok := sections["kept"]; ok {
		compareLines(t, "kept", want, d.inQuarantine())
	}
	if want, ok := sections["journal"]; ok {
		compareLines(t, "journal", want, d.journal(strings.Count(want, "\n")))
	}
}

func (d *dialogue) setup(config dialogueConfig, script string, threads bool) setup {
	behaviour := backendtest.Behaviour{
		Lenient:  config.Eager,
		Keywords: config.Keywords, Mailboxes: config.Mailboxes, MaxSize: config.BackendMax,
		Answer: d.answers(script),
	}
	if config.OpenRelay {
		behaviour.Relay = prefixes("0.0.0.0/0", "::/0")
	}
	u := setup{
		threads: threads, ending: config.LineEndings, domains: config.Domains, trusted: config.Trusted,
		hold: time.Duration(config.Hold), pause: time.Duration(config.Pause), backend: behaviour, traceField: config.None,
		limits: func(l *Limits) { *l = config.Limits }, editor: config.Editor,
		group: func(c *backend.Config) {
			c.Eager = config.Eager
			if config.None {
				c.ClientAddress = backend.NoAddress
			}
			if config.RelayCheck != nil {
				c.RelayCheck = *config.RelayCheck
			}
			if config.NoBackend {
				c.Address = []string{"127.0.0.1:1"}
			}
		},
	}
	if config.Two {
		u.more = []backendtest.Behaviour{{Answer: d.answers("")}}
	}
	if config.Spill > 0 {
		spill, err := front.NewSpill(d.t.TempDir(), int64(config.Spill))
		if err != nil {
			d.t.Fatal(err)
		}
		u.spill = spill
	}
	if config.Quarantine > 0 {
		d.kept = openQuarantine(d.t, config.Quarantine)
		u.keeper = d.kept
	}
	if config.TLS {
		u.listen.Certificate = certificate(d.t)
	}
	local := prefixes("127.0.0.1/32")
	if config.ProxyFrom {
		u.listen.ProxyFrom = local
	}
	if config.XClientFrom {
		u.listen.XClientFrom = local
	}
	for _, r := range config.Rules {
		u.rules = append(u.rules, definition(r))
	}
	return u
}

func definition(r map[string]string) rules.Definition {
	source := func(key string) rules.Source {
		return rules.Source{Text: r[key], At: func(int) rules.Pos { return rules.Pos{File: "test", Line: 1, Column: 1} }}
	}
	return rules.Definition{Name: source("name"), When: source("when"), Then: source("then"), Reply: source("reply"),
		At: source("at"), Mode: source("mode"), OnError: source("on_error"), Header: source("header"), Points: source("points"),
		Delay: source("delay"), Keep: source("keep")}
}

// answers makes the backend's own answers of a script.
func (d *dialogue) answers(script string) func(*backendtest.Session, string) string {
	type answer struct {
		prefix, reply string
		once          bool
	}
	var answers []answer
	for line := range strings.Lines(script) {
		prefix, reply, ok := strings.Cut(strings.TrimSpace(line), " => ")
		if !ok {
			continue
		}
		prefix, once := strings.CutPrefix(prefix, "once ")
		reply = strings.NewReplacer(`\r\n`, "\r\n", "HANGUP", backendtest.Hangup, "STALL", backendtest.Stall).Replace(reply)
		answers = append(answers, answer{prefix, reply, once})
	}
	return func(s *backendtest.Session, line string) string {
		d.heard.add(line)
		d.heard.mu.Lock()
		defer d.heard.mu.Unlock()
		if !d.heard.on {
			return ""
		}
		for i, a := range answers {
			if strings.HasPrefix(line, a.prefix) && !d.heard.once[i] {
				d.heard.once[i] = a.once
				if span, ok := strings.CutPrefix(a.reply, "SLEEP "); ok {
					pause, _ := time.ParseDuration(span)
					time.Sleep(pause)
					return ""
				}
				return a.reply
			}
		}
		return ""
	}
}

func (d *dialogue) run(text string) {
	d.c = d.h.dial()
	var batch strings.Builder
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		if after, ok := strings.CutPrefix(line, "C:"); ok {
			batch.WriteString(strings.TrimPrefix(after, " ") + "\r\n")
			continue
		}
		if strings.HasPrefix(line, `C"`) {
			raw, err := strconv.Unquote(line[1:])
			if err != nil {
				d.t.Fatalf("line %d: %v", n, err)
			}
			batch.WriteString(raw)
			continue
		}
		d.flush(&batch)
		kind, rest, _ := strings.Cut(line, " ")
		switch kind {
		case "S:":
			d.see(n, rest)
		case "B:":
			d.hear(n, rest)
		case "!":
			d.direct(n, rest)
		default:
			d.t.Fatalf("line %d: %q is no line of a dialogue", n, line)
		}
	}
	d.flush(&batch)
}

func (d *dialogue) flush(batch *strings.Builder) {
	if batch.Len() > 0 {
		d.c.send(batch.String())
		batch.Reset()
	}
}

func (d *dialogue) see(n int, pattern string) {
	d.t.Helper()
	line, err := d.c.r.ReadString('\n')
	if err != nil {
		if pattern == "EOF" && line == "" {
			return
		}
		d.t.Fatalf("line %d: want %q, got %q, %v", n, pattern, line, err)
	}
	line = strings.TrimSuffix(line, "\r\n")
	if !regexp.MustCompile("^(?:" + pattern + ")$").MatchString(line) {
		d.t.Fatalf("line %d: want %q, got %q", n, pattern, line)
	}
}

// handOver matches what is not of interest unless asked for: QUIT ends the probes that came before the dialogue, "." is
// the end of a message.
var handOver = regexp.MustCompile(`^(XCLIENT |EHLO |HELO |QUIT$|\.$)`)

func (d *dialogue) hear(n int, pattern string) {
	d.t.Helper()
	want := regexp.MustCompile("^(?:" + pattern + ")$")
	for limit := time.Now().Add(5 * time.Second); time.Now().Before(limit); time.Sleep(time.Millisecond) {
		line, ok := d.heard.take()
		switch {
		case !ok && pattern == "-":
			return
		case !ok:
		case pattern == "-" && handOver.MatchString(line):
		case want.MatchString(line):
			return
		case !handOver.MatchString(line):
			d.t.Fatalf("line %d: the backend heard %q, want %q", n, line, pattern)
		}
	}
	d.t.Fatalf("line %d: the backend did not hear %q", n, pattern)
}

func (d *dialogue) direct(n int, directive string) {
	d.t.Helper()
	if size, ok := strings.CutPrefix(directive, "fill "); ok { // that many bytes in one line
		length, err := strconv.Atoi(size)
		if err != nil {
			d.t.Fatal(err)
		}
		d.c.send(strings.Repeat("x", length))
		return
	}
	if span, ok := strings.CutPrefix(directive, "wait "); ok { // where it is time that makes the difference
		pause, err := time.ParseDuration(span)
		if err != nil {
			d.t.Fatal(err)
		}
		time.Sleep(pause)
		return
	}
	if span, ok := strings.CutPrefix(directive, "took "); ok {
		least, err := time.ParseDuration(span)
		if took := time.Since(d.clock); err != nil || took < least {
			d.t.Fatalf("line %d: took %s, %v", n, took, err)
		}
		return
	}
	switch directive {
	case "waits": // until the session does
		d.h.until(func(waits, holding bool) bool { return waits })
	case "holds": // until the session holds a reply back
		d.h.until(func(waits, holding bool) bool { return waits && holding })
	case "ehlo":
		d.c.say("EHLO client.test", "250-")
	case "clock":
		d.clock = time.Now()
	case "hang up after the message":
		d.h.backends[0].Deliver = func(*backendtest.Message) error { d.h.backends[0].CloseSessions(); return nil }
	case "connect": // go on with another client
		d.c = d.h.dial()
	case "close":
		d.c.Close()
	case "tls":
		secured := tls.Client(d.c.Conn, &tls.Config{InsecureSkipVerify: true})
		if err := secured.Handshake(); err != nil {
			d.t.Fatalf("line %d: %v", n, err)
		}
		d.c.Conn, d.c.r = secured, bufio.NewReader(secured)
	case "drop backend": // all its sessions end; it goes on listening
		d.h.backends[0].CloseSessions()
	case "stop backend":
		d.h.backends[0].Close()
	case "shutdown":
		d.stopped = make(chan error, 1)
		go func() { d.stopped <- d.h.server.Shutdown(context.Background()) }()
		for !d.h.server.closing.Load() {
			time.Sleep(time.Millisecond)
		}
	case "stopped":
		if err := <-d.stopped; err != nil {
			d.t.Fatal(err)
		}
	default:
		d.t.Fatalf("line %d: unknown directive %q", n, directive)
	}
}

func (d *dialogue) delivered() string {
	var b strings.Builder
	for _, server := range d.h.backends {
		for _, m := range server.Messages() {
			fmt.Fprintf(&b, "from %s\n", m.From)
			for _, to := range m.To {
				fmt.Fprintf(&b, "to %s\n", to)
			}
			fmt.Fprintf(&b, "\n%s", strings.ReplaceAll(string(m.Data), "\r\n", "\n"))
		}
	}
	return b.String()
}

func openQuarantine(t *testing.T, size filters.Size) *quarantine.Quarantine {
	t.Helper()
	config := quarantine.Defaults()
	config.Path, config.Size = t.TempDir(), size
	q, err := quarantine.Open(config, quarantine.Options{Clock: filters.SystemClock{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	return q
}

// inQuarantine is what is kept, the oldest first.
func (d *dialogue) inQuarantine() string {
	d.t.Helper()
	page, err := d.kept.List(d.t.Context(), quarantine.Query{})
	if err != nil {
		d.t.Fatal(err)
	}
	var b strings.Builder
	for _, s := range slices.Backward(page.Items) {
		e, err := d.kept.Show(d.t.Context(), s.ID)
		if err != nil {
			d.t.Fatal(err)
		}
		text, err := os.ReadFile(e.File)
		if err != nil {
			d.t.Fatal(err)
		}
		what := "kept"
		if e.Copy {
			what = "copy"
		}
		fmt.Fprintf(&b, "%s by %s\nfrom <%s>%s\n", what, e.Rule.Name, e.ReversePath, wire.AppendParams(nil, e.Params))
		for _, r := range e.Recipients {
			fmt.Fprintf(&b, "to <%s>%s\n", r.Address, wire.AppendParams(nil, r.Params))
		}
		for field := range strings.SplitSeq(strings.TrimSuffix(string(e.Prepend), "\r\n"), "\r\n") {
			fmt.Fprintf(&b, "on top %s\n", field)
		}
		fmt.Fprintf(&b, "\n%s", strings.ReplaceAll(string(text), "\r\n", "\n"))
	}
	return b.String()
}

// journal waits for n records.
func (d *dialogue) journal(n int) string {
	for limit := time.Now().Add(5 * time.Second); time.Now().Before(limit) && len(d.h.journal.transactions()) < n; {
		time.Sleep(time.Millisecond)
	}
	var b strings.Builder
	for _, r := range d.h.journal.transactions() {
		who := "backend"
		if r.Ending.Ours {
			who = "ours"
		}
		fmt.Fprintln(&b, strings.TrimSpace(fmt.Sprintf("%03d %s %s", r.Ending.Reply.Code, who, r.Ending.Note)))
	}
	return b.String()
}

func compareLines(t *testing.T, what, want, got string) {
	t.Helper()
	w, g := strings.Split(strings.TrimRight(want, "\n"), "\n"), strings.Split(strings.TrimRight(got, "\n"), "\n")
	for i := range max(len(w), len(g)) {
		if i >= len(w) || i >= len(g) {
			t.Fatalf("%s has %d lines, want %d:\n%s", what, len(g), len(w), got)
		}
		pattern, isPattern := strings.CutPrefix(w[i], "~")
		if isPattern && regexp.MustCompile("^(?:"+pattern+")$").MatchString(g[i]) || !isPattern && w[i] == g[i] {
			continue
		}
		t.Fatalf("%s, line %d: got %q, want %q", what, i+1, g[i], w[i])
	}
}

// certificate makes a file with a certificate, for mx.test and 127.0.0.1, and its key.
func certificate(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mx.pem")
	writeCertificate(t, file, "mx.test")
	return file
}

// writeCertificate makes a certificate for a name and 127.0.0.1, signed by itself, and returns it.
func writeCertificate(t testing.TB, file, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, Subject: pkix.Name{CommonName: name},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}
