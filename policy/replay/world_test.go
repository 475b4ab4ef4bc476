package replay

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	"gatepost/filters/greylist"
	"gatepost/filters/ratelimit"
	"gatepost/policy"
	"gatepost/rules"
)

// spfFilter finds what the sender's domain says: pass.example passes, others fail, error.example has no answer.
type spfFilter struct{}

type spfFacts struct {
	Result        string `fact:"result" values:"none pass fail"`
	Domain        string `fact:"domain"`
	Wide          bool   `fact:"wide"`
	Authenticated string `fact:"authenticated"`
}

func (*spfFilter) Mail(_ context.Context, v filters.View) (*spfFacts, error) {
	_, domain := filters.SplitAddress(v.Envelope.ReversePath)
	switch domain {
	case "error.example":
		return nil, fmt.Errorf("no answer")
	case "pass.example":
		return &spfFacts{Result: "pass", Domain: domain, Authenticated: domain}, nil
	default:
		return &spfFacts{Result: "fail", Domain: domain}, nil
	}
}

// rdnsFilter finds that some clients, in networks of their own, are of one group of hosts.
type rdnsFilter struct{}

type rdnsFacts struct {
	Confirmed bool   `fact:"confirmed"`
	Name      string `fact:"name"`
}

// AuthResults makes it run whatever the rules read, as the product's does.
func (*rdnsFacts) AuthResults(*filters.Session) []filters.AuthResult { return nil }

func (*rdnsFilter) Connect(_ context.Context, v filters.View) (*rdnsFacts, error) {
	switch v.Session.Client.IP.String() {
	case "192.0.2.1":
		return &rdnsFacts{Confirmed: true, Name: "out1.mail.example"}, nil
	case "198.51.100.1":
		return &rdnsFacts{Confirmed: true, Name: "out2.mail.example"}, nil
	}
	return &rdnsFacts{}, nil
}

func specs() []filters.Spec {
	none := func() struct{} { return struct{}{} }
	spf := filters.Define("spf", "", none, func(struct{}, filters.Env) (*spfFilter, error) { return &spfFilter{}, nil },
		filters.On(filters.AtMail, (*spfFilter).Mail))
	rdns := filters.Define("rdns", "", none, func(struct{}, filters.Env) (*rdnsFilter, error) { return &rdnsFilter{}, nil },
		filters.On(filters.AtConnect, (*rdnsFilter).Connect, filters.Repeatable()))
	return []filters.Spec{rdns, spf, greylist.Spec, ratelimit.Spec}
}

// site is rules and settings.
type site struct {
	rules    []string
	delay    time.Duration
	messages int64 // from one client, in ten minutes; other limits follow

	manyLimits bool
}

func (s *site) String() string {
	return fmt.Sprintf("%q, delay %s, %d messages", s.rules, s.delay, s.messages)
}

func (s *site) config() policy.Config {
	grey := greylist.Defaults()
	grey.Delay = filters.Duration(s.delay)
	limits := ratelimit.Defaults()
	limit := func(name, count, per string, n int64, time time.Duration) ratelimit.Limit {
		return ratelimit.Limit{Name: name, Count: count, Per: per, Rate: ratelimit.Rate{Amount: ratelimit.Amount{N: n}, Per: filters.Duration(time)}}
	}
	limits.Limits = []ratelimit.Limit{
		limit("connections", "connections", "client", s.messages, 5*time.Minute),
		limit("messages", "messages", "client", s.messages, 10*time.Minute),
	}
	if s.manyLimits {
		limits.Limits = append(limits.Limits,
			limit("domains", "messages", "sender_domain", s.messages+1, 20*time.Minute),
			limit("recipients", "recipients", "client", 2*s.messages, 10*time.Minute),
			limit("refused", "refused", "client", s.messages, 10*time.Minute),
			limit("abandoned", "abandoned", "client", s.messages, 10*time.Minute),
			limit("bytes", "bytes", "client", 20*s.messages, 10*time.Minute),
			limit("to", "recipients", "recipient", s.messages, time.Hour))
	}
	c := policy.Config{Hostname: "mx.example.org", Domains: []string{"example.org"}, Filters: map[string]policy.FilterConfig{
		"rdns":      {Common: policy.Common{Enabled: true}},
		"spf":       {Common: policy.Common{Enabled: true}},
		"greylist":  {Common: policy.Common{Enabled: true}, Settings: &grey},
		"ratelimit": {Common: policy.Common{Enabled: true}, Settings: &limits},
	}}
	for i, text := range s.rules {
		source := func(s string) rules.Source {
			return rules.Source{Text: strings.TrimSpace(s), At: func(int) rules.Pos { return rules.Pos{File: "test", Line: i + 1} }}
		}
		parts := strings.Split(text, ";")
		when, then, _ := strings.Cut(parts[0], "->")
		d := rules.Definition{Name: source(fmt.Sprintf("rule%d", i)), When: source(when), Then: source(then)}
		if len(parts) > 1 {
			switch key, value, _ := strings.Cut(strings.TrimSpace(parts[1]), ": "); key {
			case "mode":
				d.Mode = source(value)
			case "at":
				d.At = source(value)
			}
		}
		c.Rules = append(c.Rules, d)
	}
	return c
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func (s *site) compile(t fataler, store filters.Store, clock filters.Clock) *policy.Engine {
	t.Helper()
	c := s.config()
	e, problems := policy.Compile(c, specs(), filters.Env{Hostname: c.Hostname, Clock: clock, Store: store}, nil)
	if e == nil {
		t.Fatalf("%s: %v", s, problems)
	}
	return e
}

// visit is a session: when, by whom, with which transactions.
type visit struct {
	wait   time.Duration // since the last
	client netip.AddrPort
	mails  []mail
}

type mail struct {
	from string
	to   []string // "unknown@…" is refused by the backend
	last policy.Step
}

type keeper struct{ list []*policy.Recording }

func (k *keeper) Record(r *policy.Record) { k.list = append(k.list, policy.RecordingOf(r)) }

// history runs visits under a site with a memory of its own and returns what was recorded, by id.
func history(t fataler, s *site, visits []visit) []*policy.Recording {
	clock := filtertest.NewClock()
	e := s.compile(t, filtertest.NewStore(clock), clock)
	kept := &keeper{}
	for i, v := range visits {
		clock.Advance(v.wait)
		v.run(e, &policy.Runtime{Recorder: kept, Clock: clock}, fmt.Sprintf("S%d", i), clock.Now())
		if runner, ok := e.Filter("greylist").(filters.Runner); ok {
			runner.Run(stopped)
		}
	}
	return kept.list
}

func (v *visit) run(e *policy.Engine, rt *policy.Runtime, id string, now time.Time) {
	ctx := context.Background()
	g := e.NewGate(&filters.Session{ID: id, Client: filters.ClientAt(v.client), Accepted: now}, rt)
	defer g.Close("")
	g.Connect(ctx)
	if g.Greet(ctx, false, 0).Action != 0 || g.Helo(ctx, &filters.Greeting{Name: "client.example"}).Action != 0 {
		return
	}
	for i, m := range v.mails {
		m.run(ctx, g, fmt.Sprintf("%s.%d", id, i+1), now)
	}
}

func (m *mail) run(ctx context.Context, g *policy.Gate, id string, now time.Time) {
	end := policy.Ending{}
	defer func() { g.Conclude(end) }()
	refused := func(v policy.Verdict) bool {
		if v.Action != 0 {
			end.Reply, end.Ours = v.Reply, true
		}
		return v.Action != 0
	}
	if refused(g.Mail(ctx, &filters.Envelope{ID: id, ReversePath: m.from, Started: now})) {
		return
	}
	accepted := 0
	for _, to := range m.to {
		if g.Rcpt(ctx, &filters.Recipient{ForwardPath: to}).Action != 0 {
			continue
		}
		if strings.HasPrefix(to, "unknown@") {
			g.Refused(rules.Reply{Code: 550, Enhanced: "5.1.1", Text: "unknown"})
		} else if g.Accepted(ctx).Action == 0 {
			accepted++
		}
	}
	if accepted == 0 || m.last < policy.StepData || refused(g.Data(ctx)) {
		return
	}
	message := filters.NewMessage(1<<16, nil)
	defer message.Release()
	g.Message(message)
	if _, err := message.Write([]byte("Subject: hello\r\n\r\n")); err != nil {
		return
	}
	message.Complete()
	end.Size = message.Size()
	if v, _ := g.EndOfData(ctx); !refused(v) {
		end.Reply = rules.Reply{Code: 250}
	}
}

// Random worlds.

var clients = []string{"192.0.2.1", "192.0.2.2", "198.51.100.1", "2001:db8::1"}

func drawVisits(t *rapid.T) []visit {
	senders := []string{"a@pass.example", "b@pass.example", "c@fail.example", "d@error.example", ""}
	mails := rapid.Custom(func(t *rapid.T) mail {
		return mail{
			from: rapid.SampledFrom(senders).Draw(t, "from"),
			to:   rapid.SampledFrom([][]string{{"x@example.org"}, {"y@example.org", "x@example.org"}, {"unknown@example.org", "z@example.org"}, {"unknown@example.org"}}).Draw(t, "to"),
			last: rapid.SampledFrom([]policy.Step{policy.StepEnd, policy.StepEnd, policy.StepEnd, policy.StepRcpt}).Draw(t, "last"),
		}
	})
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) visit {
		return visit{
			wait:   rapid.SampledFrom([]time.Duration{time.Second, time.Minute, 6 * time.Minute, 20 * time.Minute, 30 * time.Hour}).Draw(t, "wait"),
			client: netip.AddrPortFrom(netip.MustParseAddr(rapid.SampledFrom(clients).Draw(t, "client")), 4000),
			mails:  rapid.SliceOfN(mails, 0, 2).Draw(t, "mails"),
		}
	}), 1, 25).Draw(t, "visits")
}

var conditions = []string{
	`spf.result == "fail"`, `spf.result == "pass"`, "not known(spf.result)", "mail.null", `in_network(client.ip, "192.0.2.0/24")`,
	`greylist.state == "passed"`, `greylist.state == "early"`, `ratelimit.message != ""`, `ratelimit.connection != ""`, `ratelimit.recipient != ""`, `rcpt.local == "x"`,
	"message.size > 10", `header("Subject") == "hello"`,
}

func drawRule(t *rapid.T, label string) string {
	text := rapid.SampledFrom(conditions).Draw(t, label)
	if rapid.Bool().Draw(t, label+" negated") {
		text = "not (" + text + ")"
	}
	text += " -> " + rapid.SampledFrom([]string{"greylist", "greylist", "greylist", "reject", "defer", "accept"}).Draw(t, label+" then")
	switch rapid.IntRange(0, 7).Draw(t, label+" mode") {
	case 0:
		text += "; mode: observe"
	case 1:
		if strings.HasPrefix(text, "mail.null") || strings.HasPrefix(text, "spf.") || strings.HasPrefix(text, "not (mail.null") {
			text = strings.Replace(text, "-> greylist", "-> defer", 1) + "; at: mail"
		}
	}
	return text
}

func drawSite(t *rapid.T) *site {
	s := &site{delay: 5 * time.Minute, messages: int64(rapid.IntRange(1, 4).Draw(t, "messages"))}
	for i := range rapid.IntRange(1, 4).Draw(t, "rules") {
		s.rules = append(s.rules, drawRule(t, fmt.Sprintf("rule %d", i)))
	}
	return s
}

// mutate changes one thing.
func (s *site) mutate(t *rapid.T) *site {
	c := *s
	c.rules = append([]string(nil), s.rules...)
	switch rapid.IntRange(0, 4).Draw(t, "mutation") {
	case 0:
		c.delay = 15 * time.Minute
	case 1:
		c.messages = s.messages + 2
	case 2:
		c.rules = c.rules[1:]
	default:
		c.rules[rapid.IntRange(0, len(c.rules)-1).Draw(t, "place")] = drawRule(t, "mutated")
	}
	return &c
}

func backtestOf(t fataler, s *site, list []*policy.Recording) *Report {
	m := NewMemory()
	b := New(s.compile(t, m, m.Clock()), m)
	for _, r := range list {
		b.Add(r)
	}
	return b.Report()
}

// The rules of then change nothing, wherever in the history the journal begins.
func TestSameRulesChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSite(t)
		s.manyLimits = rapid.Bool().Draw(t, "many limits")
		list := history(t, s, drawVisits(t))
		list = list[rapid.IntRange(0, len(list)-1).Draw(t, "begins"):]
		if r := backtestOf(t, s, list); r.Differ != 0 || r.Untold != 0 {
			t.Fatalf("%s: %+v", s, r)
		}
	})
}

// What other rules would have done is what they do when the same sessions are really run under them, over all that can
// be told.
func TestOtherRulesAreToldTheTruth(t *testing.T) {
	differ, told, untold := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		s := drawSite(t)
		s.manyLimits = rapid.Bool().Draw(t, "many limits")
		visits := drawVisits(t)
		changed := s.mutate(t)
		was, is := history(t, s, visits), map[string]*policy.Recording{}
		for _, r := range history(t, changed, visits) {
			is[r.ID] = r
		}
		m := NewMemory()
		b := New(changed.compile(t, m, m.Clock()), m)
		for _, r := range was {
			b.Add(r)
			if b.last.Missing != "" {
				untold++
				if r.Envelope == nil {
					return // of whom the mail would have come depends on it
				}
				continue
			}
			real, ok := is[r.ID]
			if !ok || r.Envelope == nil {
				continue
			}
			told++
			old, truth := r.Was(), real.Was()
			if !old.Same(&truth) {
				differ++
			}
			if b.last.Refused != nil && b.last.Step > real.Reached {
				b.last.Refused = nil // a client that was refused would have stayed, for all that is known
			}
			if !b.last.Same(&truth) {
				t.Fatalf("was %s\nnow %s\n%s: was %+v\nplay %+v\ntruth %+v\nattempts %+v %+v", s, changed, r.ID, old, b.last, truth, r.Attempt, real.Attempt)
			}
		}
	})
	t.Logf("%d told, of which %d differ; %d cannot be told", told, differ, untold)
}

func addr(ip string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(ip), 4000) }
