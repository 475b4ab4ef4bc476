package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/proxy/backend"
	"gatepost/proxy/backend/backendtest"
	"gatepost/proxy/front"
	"gatepost/rules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// setup says what a test's house is like; the zero value is a good backend and no rules.
type setup struct {
	limits     func(*Limits)
	listen     Listen
	ending     LineEndings
	domains    []string
	contact    string
	trusted    []string
	rules      []rules.Definition
	hold       time.Duration
	backend    backendtest.Behaviour
	group      func(*backend.Config)
	more       []backendtest.Behaviour // further backends, behind the first
	threads    bool                    // wait in goroutines instead of epoll
	notSeen    bool                    // do not wait until the backends were probed
	traceField bool
	pause      time.Duration // of the greeting; facts early.talked
	editor     bool          // a filter wants the envelope changed as the message says; see editor
	dirty      bool          // the test makes it panic, or be killed
	spill      filters.Spill
	clock      filters.Clock
	keeper     Keeper
}

// house is a proxy with its backends.
type house struct {
	t        testing.TB
	server   *Server
	address  string
	backends []*backendtest.Server
	group    *backend.Group
	log      *safeBuffer
	journal  *journal
	service  Service
}

// journal keeps what gates record.
type journal struct {
	mu        sync.Mutex // guards all below
	records   []*policy.Record
	confirmed []string // IDs
}

// Confirmed implements policy.Confirmer.
func (j *journal) Confirmed(id string, _ time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.confirmed = append(j.confirmed, id)
}

func (j *journal) Record(r *policy.Record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.records = append(j.records, r)
}

func (j *journal) transactions() []*policy.Record {
	j.mu.Lock()
	defer j.mu.Unlock()
	var list []*policy.Record
	for _, r := range j.records {
		if r.Kind == "transaction" {
			list = append(list, r)
		}
	}
	return list
}

type safeBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func compile(t testing.TB, u setup) *policy.Engine {
	t.Helper()
	config := policy.Config{Hostname: "mx.test", Contact: u.contact, Domains: u.domains, Rules: u.rules}
	for _, p := range u.trusted {
		config.Trusted = append(config.Trusted, netip.MustParsePrefix(p))
	}
	var specs []filters.Spec
	if u.pause > 0 {
		specs = append(specs, filters.Define("early", "Does the client wait?", func() earlyConfig { return earlyConfig{} },
			func(earlyConfig, filters.Env) (*early, error) { return &early{u.pause}, nil },
			filters.On(filters.AtConnect, (*early).never)))
	}
	if u.editor {
		specs = append(specs, filters.Define("editor", "Whom shall it go to?", func() editorConfig { return editorConfig{} },
			func(editorConfig, filters.Env) (*editor, error) { return &editor{}, nil },
			filters.On(filters.AtMessage, (*editor).look)))
	}
	engine, problems := policy.Compile(config, specs, filters.Env{Hostname: "mx.test", Clock: filters.SystemClock{}, Log: slog.New(slog.DiscardHandler)}, nil)
	if engine == nil {
		t.Fatalf("policy does not compile: %v", problems)
	}
	return engine
}

// early is a filter that wants a greeting pause.
type early struct{ pause time.Duration }

type earlyConfig struct{}

type earlyFacts struct {
	// Talked tells that the client did not wait.
	Talked bool `fact:"talked"`
}

func (e *early) GreetPause(context.Context, *filters.Session) time.Duration { return e.pause }

func (e *early) Greeted(talked bool, _ time.Duration) any { return &earlyFacts{talked} }

func (e *early) never(context.Context, filters.View) (*earlyFacts, error) {
	return nil, errors.New("the facts come from Greeted")
}

// editor is a filter that wants the envelope changed as fields of the message say: Sender-Is, Also-To, Not-To.
type editor struct{}

type editorConfig struct{}

type editorFacts struct {
	// Edits is how many changes it wants.
	Edits   int `fact:"edits"`
	changes filters.Changes
}

func (f *editorFacts) Changes() *filters.Changes { return &f.changes }

func (*editor) MayEdit() bool { return true }

func (*editor) look(ctx context.Context, v filters.View) (*editorFacts, error) {
	header, err := v.Message.Header(ctx)
	if err != nil {
		return nil, err
	}
	facts := &editorFacts{}
	for _, field := range header.Fields {
		kind, known := map[string]filters.EnvelopeEditKind{"Sender-Is": filters.ChangeSender, "Also-To": filters.AddRecipient, "Not-To": filters.DeleteRecipient}[field.Name]
		if !known {
			continue
		}
		_, value, _ := strings.Cut(string(field.Raw), ":")
		address, param, hasParam := strings.Cut(strings.TrimSpace(value), " ")
		edit := filters.EnvelopeEdit{Kind: kind, Address: address}
		if key, value, _ := strings.Cut(param, "="); hasParam {
			edit.Params = []filters.Param{{Key: key, Value: value, HasValue: true}}
		}
		facts.changes.Envelope = append(facts.changes.Envelope, edit)
	}
	facts.Edits = len(facts.changes.Envelope)
	return facts, nil
}

// start builds and runs a house; it is torn down with the test.
func start(t testing.TB, u setup) *house {
	t.Helper()
	h, stop := startUnbound(t, u)
	t.Cleanup(stop)
	return h
}

// startUnbound builds and runs a house until stop.
func startUnbound(t testing.TB, u setup) (_ *house, stop func()) {
	t.Helper()
	h := &house{t: t, log: &safeBuffer{}, journal: &journal{}}
	log := slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	config := backend.Default()
	for _, b := range append([]backendtest.Behaviour{u.backend}, u.more...) {
		s, err := backendtest.Start(b)
		if err != nil {
			t.Fatal(err)
		}
		h.backends = append(h.backends, s)
		config.Address = append(config.Address, s.Address())
	}
	if u.group != nil {
		u.group(&config)
	}
	group, err := backend.New(config, backend.Options{Hostname: "mx.test", Log: log, DomainsConfigured: len(u.domains) > 0})
	if err != nil {
		t.Fatal(err)
	}
	h.group = group
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { group.Run(ctx) })
	if !u.notSeen {
		<-group.Probed()
	}
	var submission *backend.Group
	if u.listen.Submission {
		if submission, err = backend.New(config.ForSubmission(), backend.Options{Hostname: "mx.test", Log: log, DomainsConfigured: len(u.domains) > 0}); err != nil {
			t.Fatal(err)
		}
		running.Go(func() { submission.Run(ctx) })
		<-submission.Probed()
	}
	if u.clock == nil {
		u.clock = filters.SystemClock{}
	}
	if u.spill == nil {
		if u.spill, err = front.NewSpill(t.TempDir(), 1<<30); err != nil {
			t.Fatal(err)
		}
	}
	h.service = Service{
		Hostname:    "mx.test",
		Engine:      compile(t, u),
		Runtime:     &policy.Runtime{Recorder: h.journal, Clock: u.clock},
		Backend:     group,
		Submission:  submission,
		Limits:      DefaultLimits(),
		LineEndings: u.ending,
		Hold:        20 * time.Second,
		TraceField:  u.traceField,
		Quarantine:  u.keeper,
	}
	h.service.Limits.ConnectionsPerClient = 0
	if u.hold > 0 {
		h.service.Hold = u.hold
	}
	if u.limits != nil {
		u.limits(&h.service.Limits)
	}
	options := Options{Service: h.service, Spill: u.spill, Log: log, Clock: u.clock}
	if u.threads {
		h.server = newServer(options, newThreads())
	} else if h.server, err = New(options); err != nil {
		t.Fatal(err)
	}
	u.listen.Address = "127.0.0.1:0"
	socket, err := u.listen.Bind(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	h.address = socket.Addr().String()
	running.Go(func() {
		if err := h.server.Serve(ctx, socket); err != nil {
			t.Error(err)
		}
	})
	return h, func() {
		stop, done := context.WithTimeout(context.Background(), 5*time.Second)
		defer done()
		if err := h.server.Shutdown(stop); err != nil && !u.dirty {
			t.Errorf("shutdown: %v", err)
		}
		cancel()
		running.Wait()
		for _, b := range h.backends {
			b.Close()
		}
		if n := h.server.Metrics().Open.Load(); n != 0 {
			t.Errorf("%d sessions are left", n)
		}
		if n := h.server.Metrics().Panics.Load(); n != 0 && !u.dirty {
			t.Errorf("%d panics:\n%s", n, h.log)
		}
		if t.Failed() {
			t.Logf("log:\n%s", h.log)
		}
	}
}

// client is a test's SMTP client.
type client struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func (h *house) dial() *client {
	h.t.Helper()
	return h.dialFor(h.t)
}

func (h *house) dialFor(t testing.TB) *client {
	t.Helper()
	c, err := net.Dial("tcp", h.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{t, c, bufio.NewReader(c)}
}

// hello dials and says EHLO.
func (h *house) hello() *client {
	h.t.Helper()
	c := h.dial()
	c.expect("220 ")
	c.send("EHLO client.test\r\n")
	c.expect("250")
	return c
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

// reply reads one reply, its lines joined by "\n".
func (c *client) reply() string {
	c.t.Helper()
	var lines []string
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return strings.Join(append(lines, "EOF: "+err.Error()), "\n")
		}
		line = strings.TrimSuffix(line, "\r\n")
		lines = append(lines, line)
		if len(line) < 4 || line[3] != '-' {
			return strings.Join(lines, "\n")
		}
	}
}

// expect reads replies, one for each prefix.
func (c *client) expect(prefixes ...string) string {
	c.t.Helper()
	got := ""
	for _, prefix := range prefixes {
		if got = c.reply(); !strings.HasPrefix(got, prefix) {
			c.t.Fatalf("got %q, want %q", got, prefix)
		}
	}
	return got
}

// say sends a command and expects a reply.
func (c *client) say(line, prefix string) string {
	c.t.Helper()
	c.send(line + "\r\n")
	got := c.reply()
	if !strings.HasPrefix(got, prefix) {
		c.t.Fatalf("%s: got %q, want %q", line, got, prefix)
	}
	return got
}

func TestOneMessage(t *testing.T) {
	for _, threads := range []bool{false, true} {
		h := start(t, setup{threads: threads})
		c := h.hello()
		c.say("MAIL FROM:<a@example.org>", "250 2.1.0")
		c.say("RCPT TO:<b@example.com>", "250 2.1.5")
		c.say("DATA", "354 ")
		c.say("Subject: x\r\n\r\n..stuffed\r\n.", "250 2.0.0 Ok: queued as")
		c.say("QUIT", "221 2.0.0")
		c.expect("EOF")
		got := h.backends[0].Messages()
		if len(got) != 1 || string(got[0].Data) != "Subject: x\r\n\r\n.stuffed\r\n" {
			t.Fatalf("delivered %+v", got)
		}
	}
}

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

// until waits until a session is as it should be.
func (h *house) until(ready func(waits, holding bool) bool) {
	h.t.Helper()
	for limit := time.Now().Add(5 * time.Second); time.Now().Before(limit); time.Sleep(time.Millisecond) {
		found := false
		h.server.eachSession(func(s *session) {
			found = found || ready(h.server.lot.(interface {
				state(*session) (waits, holding bool)
			}).state(s))
		})
		if found {
			return
		}
	}
	h.t.Fatal("no session is as it should be")
}

func (p *threads) state(s *session) (waits, holding bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return s.place.waits != forNothing, s.place.waits != forNothing && s.holding
}
