package policy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/rules"
)

// The fakes are filters with the names and facts of real ones, whose methods do what a test says.

type listFacts struct {
	Score  float64 `fact:"score"`
	Listed string  `fact:"listed"`
}

type spfFacts struct {
	Result string `fact:"result" values:"none pass fail softfail"`
}

func (f *spfFacts) AuthResults(*filters.Session) []filters.AuthResult {
	return []filters.AuthResult{{Method: "spf", Result: f.Result}}
}

type dkimFacts struct {
	Result string `fact:"result" values:"none pass fail"`
}

type dmarcFacts struct {
	Result string `fact:"result" values:"none pass fail"`
}

type heloCheckFacts struct {
	Valid bool `fact:"valid"`
}

type quotaFacts struct {
	Over bool `fact:"over"`
}

type talkFacts struct {
	Talked bool    `fact:"talked"`
	Waited float64 `fact:"waited"`
}

type greyFacts struct {
	State string `fact:"state" values:"new early passed"`
}

// fakes are the filters of one engine.
type fakes struct {
	dnsbl, rdns    look[listFacts] // connect, asynchronous
	helo           look[heloCheckFacts]
	resolve        look[heloCheckFacts] // helo, asynchronous
	spf            look[spfFacts]       // mail, asynchronous, behind helo
	quota          look[quotaFacts]     // rcpt, inline
	mailbox        look[quotaFacts]     // rcpt, asynchronous
	dkim           look[dkimFacts]      // message
	dmarc          look[dmarcFacts]     // message, behind spf and dkim
	sums           look[quotaFacts]     // message, behind resolve
	early          pauser
	grey           *greylist
	counter        *counter // rcpt, inline
	independent    bool     // quota
	told           *witness
	off, deferring []string
	timeout        time.Duration
	repeatable     bool // all but inline ones
}

// look is a filter with one observation.
type look[T any] func(ctx context.Context, v filters.View) (*T, error)

func (l *look[T]) look(ctx context.Context, v filters.View) (*T, error) { return (*l)(ctx, v) }

type none struct{}

func noConfig() none { return none{} }

func define[T any](name string, l look[T], stage filters.Stage, options ...filters.Option) filters.Spec {
	build := func(none, filters.Env) (*look[T], error) {
		if l == nil {
			return nil, nil
		}
		return &l, nil
	}
	return filters.Define(name, name, noConfig, build, filters.On(stage, (*look[T]).look, options...))
}

type pauser struct {
	pause time.Duration
	on    bool
}

func (p *pauser) look(context.Context, filters.View) (*talkFacts, error) { panic("never called") }
func (p *pauser) GreetPause(context.Context, *filters.Session) time.Duration {
	return p.pause
}
func (p *pauser) Greeted(talked bool, waited time.Duration) any {
	return &talkFacts{Talked: talked, Waited: waited.Seconds()}
}

type greylist struct {
	state    filters.GreylistState
	first    time.Time
	err      error
	alone    bool // does not ask the backend
	attempts int
	looked   string // spf.result when it looked
	seen     string // spf.result at the last attempt
}

func (g *greylist) look(_ context.Context, v filters.View) (*greyFacts, error) {
	g.looked, _ = v.Facts.Text("spf.result")
	return &greyFacts{State: string(g.state)}, nil
}
func (g *greylist) AskBackend() bool     { return !g.alone }
func (g *greylist) Delay() time.Duration { return 5 * time.Minute }
func (g *greylist) Attempt(_ context.Context, v filters.View) (filters.GreylistAttempt, error) {
	g.attempts++
	g.seen, _ = v.Facts.Text("spf.result")
	return filters.GreylistAttempt{State: g.state, First: g.first}, g.err
}

// counter lets so many recipients pass that are not deferred by us, and so many that are refused.
type counter struct {
	accepted, refused int
	left              [2]int
	foresight         int // how often it was asked
}

func (c *counter) begin() { c.left = [2]int{c.accepted, c.refused} }

func (c *counter) look(context.Context, filters.View) (*quotaFacts, error) {
	if c.left[0] < 0 {
		return nil, errors.New("overdrawn")
	}
	return &quotaFacts{Over: c.left[0] < 1 || c.left[1] < 1}, nil
}

func (c *counter) Concluded(o *filters.Outcome) {
	if o.Kind != filters.RecipientOutcome || o.Ours && o.Code < 500 {
		return
	}
	c.left[0]--
	if o.Code >= 500 {
		c.left[1]--
	}
}

func (c *counter) Foresees(_ filters.View, n int) bool {
	c.foresight++
	return c.left[0] > n && c.left[1] > n
}

type witness struct{ outcomes []filters.Outcome }

func (w *witness) look(context.Context, filters.View) (*struct{}, error) { return &struct{}{}, nil }
func (w *witness) Concluded(o *filters.Outcome)                          { w.outcomes = append(w.outcomes, *o) }

func (f *fakes) specs() []filters.Spec {
	specs := []filters.Spec{
		define("dnsbl", f.dnsbl, filters.AtConnect),
		define("rdns", f.rdns, filters.AtConnect),
		define("helo", f.helo, filters.AtHelo, filters.Inline()),
		define("resolve", f.resolve, filters.AtHelo),
		define("spf", f.spf, filters.AtMail, filters.After("helo")),
		define("quota", f.quota, filters.AtRcpt, filters.Inline(), func(o *filters.Observation) { o.Independent = f.independent }),
		filters.Define("counter", "", noConfig, func(none, filters.Env) (*counter, error) { return f.counter, nil },
			filters.On(filters.AtRcpt, (*counter).look, filters.Inline())),
		define("mailbox", f.mailbox, filters.AtRcpt),
		define("dkim", f.dkim, filters.AtMessage),
		define("dmarc", f.dmarc, filters.AtMessage, filters.After("spf", "dkim")),
		define("sums", f.sums, filters.AtMessage, filters.After("resolve")),
		filters.Define("earlytalker", "", noConfig, func(none, filters.Env) (*pauser, error) {
			if !f.early.on {
				return nil, nil
			}
			return &f.early, nil
		}, filters.On(filters.AtConnect, (*pauser).look)),
		filters.Define("greylist", "", noConfig, func(none, filters.Env) (*greylist, error) { return f.grey, nil },
			filters.On(filters.AtMail, (*greylist).look, filters.After("spf"), filters.Inline())),
		filters.Define("told", "", noConfig, func(none, filters.Env) (*witness, error) { return f.told, nil },
			filters.On(filters.AtMail, (*witness).look, filters.Inline())),
	}
	for _, spec := range specs {
		for i := range spec.Observations {
			spec.Observations[i].Repeatable = f.repeatable
		}
	}
	return specs
}

// answers makes a look that finds the same each time.
func answers[T any](facts T) look[T] {
	return func(context.Context, filters.View) (*T, error) { return &facts, nil }
}

// after makes a look that finds it when the gate opens, or gives up with its context.
func after[T any](open <-chan struct{}, facts T) look[T] {
	return func(ctx context.Context, _ filters.View) (*T, error) {
		select {
		case <-open:
			return &facts, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// hangs makes a look that never finds anything.
func hangs[T any]() look[T] { return after(nil, *new(T)) }

func fails[T any]() look[T] {
	return func(context.Context, filters.View) (*T, error) { return nil, errors.New("server failure") }
}

func panics[T any]() look[T] {
	return func(context.Context, filters.View) (*T, error) { panic("index out of range") }
}

// ruleOf is a rule as a test writes it: "when -> then", and further keys as "key: value".
func ruleOf(i int, text string) rules.Definition {
	source := func(s string) rules.Source {
		return rules.Source{Text: strings.TrimSpace(s), At: func(int) rules.Pos { return rules.Pos{File: "test", Line: i + 1, Column: 1} }}
	}
	parts := strings.Split(text, ";")
	when, then, _ := strings.Cut(parts[0], "->")
	d := rules.Definition{Name: source(fmt.Sprintf("rule%d", i)), When: source(when), Then: source(then)}
	for _, part := range parts[1:] {
		key, value, _ := strings.Cut(part, ":")
		switch strings.TrimSpace(key) {
		case "reply":
			d.Reply = source(value)
		case "at":
			d.At = source(value)
		case "mode":
			d.Mode = source(value)
		case "on_error":
			d.OnError = source(value)
		case "header":
			d.Header = source(value)
		case "points":
			d.Points = source(value)
		case "delay":
			d.Delay = source(value)
		case "keep":
			d.Keep = source(value)
		default:
			panic("unknown key " + key)
		}
	}
	return d
}

type noLists struct{}

func (noLists) ReadList(string) ([]byte, error) { return nil, fs.ErrNotExist }

func (f *fakes) config(texts ...string) Config {
	c := Config{Hostname: "mx.example.org", Domains: []string{"example.org", ".example.net"}, Filters: map[string]FilterConfig{}}
	for _, spec := range f.specs() {
		common := Common{Enabled: !slices.Contains(f.off, spec.Name), Timeout: filters.Duration(f.timeout)}
		if slices.Contains(f.deferring, spec.Name) {
			common.OnError = "defer"
		}
		c.Filters[spec.Name] = FilterConfig{Common: common}
	}
	for i, text := range texts {
		c.Rules = append(c.Rules, ruleOf(i, text))
	}
	return c
}

func compile(t testing.TB, f *fakes, c Config) *Engine {
	t.Helper()
	e, problems := Compile(c, f.specs(), filters.Env{Hostname: c.Hostname, Clock: filters.SystemClock{}}, noLists{})
	for _, p := range problems {
		if !p.Warning {
			t.Errorf("%s %v: %s", p.Key, p.Pos, p.Message)
		}
	}
	if e == nil {
		t.FailNow()
	}
	return e
}

// client drives a gate as a front end does.
type client struct {
	*Gate
	t       testing.TB
	ctx     context.Context
	records []*Record
	spoke   bool
	mails   int
}

func (c *client) Record(r *Record) { c.records = append(c.records, r) }

func (f *fakes) connect(t testing.TB, texts ...string) *client {
	t.Helper()
	return session(t, compile(t, f, f.config(texts...)), &filters.Session{}, &Runtime{})
}

// session connects. What s does not say is that of a stranger.
func session(t testing.TB, e *Engine, s *filters.Session, rt *Runtime) *client {
	t.Helper()
	c := &client{t: t}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	c.ctx = ctx
	if s.ID == "" {
		s.ID = "S1"
	}
	if !s.IP.IsValid() {
		s.IP, s.Port = netip.MustParseAddr("192.0.2.9"), 4000
	}
	if rt.Recorder == nil {
		rt.Recorder = c
	}
	c.Gate = e.NewGate(s, rt)
	t.Cleanup(func() {
		c.Gate.Close("")
		cancel()
	})
	return c
}

func (c *client) greet() Verdict {
	c.Connect(c.ctx)
	return c.Greet(c.ctx, c.spoke, 0)
}

func (c *client) hello() Verdict {
	c.greet()
	return c.Helo(c.ctx, &filters.Greeting{Name: "client.example.com", Extended: filters.Known(true)})
}

func (c *client) mail(from string) Verdict {
	c.mails++
	return c.Mail(c.ctx, &filters.Envelope{ID: fmt.Sprintf("T%d", c.mails), ReversePath: from})
}

// rcpt is one RCPT at a backend that takes everybody.
func (c *client) rcpt(to string) Verdict {
	if v := c.Rcpt(c.ctx, &filters.Recipient{ForwardPath: to}); v.Action != 0 {
		return v
	}
	return c.Accepted(c.ctx)
}

// growing is DATA and a message of which nothing has come yet.
func (c *client) growing() *filters.Message {
	c.t.Helper()
	if v := c.Data(c.ctx); v.Action != 0 {
		c.t.Fatalf("DATA is answered %+v", v)
	}
	m := filters.NewMessage(1<<20, nil)
	c.t.Cleanup(m.Release)
	c.Message(m)
	c.Growing()
	return m
}

// message is a whole message.
func (c *client) message(text string) (Verdict, Edits) {
	c.t.Helper()
	if v := c.Data(c.ctx); v.Action != 0 {
		return v, Edits{}
	}
	m := filters.NewMessage(1<<20, nil)
	c.t.Cleanup(func() {
		c.Gate.Close("") // an observation that nobody waited for may be reading still
		m.Release()
	})
	c.Message(m)
	if _, err := m.Write([]byte(strings.ReplaceAll(text, "\n", "\r\n"))); err != nil {
		c.t.Fatal(err)
	}
	m.Complete()
	return c.EndOfData(c.ctx)
}

// deliver is a session up to RCPT.
func (c *client) deliver(from string, to ...string) []Verdict {
	c.hello()
	verdicts := []Verdict{c.mail(from)}
	for _, r := range to {
		verdicts = append(verdicts, c.rcpt(r))
	}
	return verdicts
}

// spoken is a verdict as the client sees it, and "" for none.
func spoken(v Verdict) string {
	if v.Action == 0 {
		return ""
	}
	if v.Action == rules.Drop {
		return "drop"
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s %s", v.Reply.Code, v.Reply.Enhanced, v.Reply.Text))
}

func expect(t testing.TB, what string, v Verdict, want string) {
	t.Helper()
	if got := spoken(v); (want == "") != (got == "") || !strings.HasPrefix(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// overAfter finds the mailbox `over` full, after a while.
func overAfter(d time.Duration) look[quotaFacts] {
	return func(ctx context.Context, v filters.View) (*quotaFacts, error) {
		select {
		case <-time.After(d):
			local, _ := filters.SplitAddress(v.Recipient.ForwardPath)
			return &quotaFacts{Over: local == "over"}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
