package main

import (
	queue "container/heap"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/all"
	"gatepost/filters/filtertest"
	"gatepost/policy"
	"gatepost/policy/recommend"
	"gatepost/policy/replay"
	"gatepost/proxy/config"
	"gatepost/proxy/journal"
	"gatepost/rules"
)

// past traffic is made by the real engine under a clock of its own, in front of a mail server that takes everything, and
// written into a real journal.
type synthetic struct {
	t      *testing.T
	file   string
	engine *policy.Engine
	clock  *filtertest.Clock
	kept   *journal.Journal
	start  time.Time
	events events
	serial int
}

// attempt is a message that is tried: now, and where it is deferred after each of the waits.
type attempt struct {
	at       time.Time
	clients  []string // of the first try and its retries; the last one stays
	from, to string
	waits    []time.Duration
}

type events []*attempt

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at.Before(e[j].at) }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(*attempt)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// newSynthetic begins six days ago.
func newSynthetic(t *testing.T, text, zone string) *synthetic {
	t.Helper()
	s := &synthetic{t: t, start: time.Now().Add(-6 * 24 * time.Hour), file: filepath.Join(t.TempDir(), "gatepost.yaml")}
	write(t, s.file, "hostname: mx.example.org\ndomains: [example.org]\nbackend: 127.0.0.1:10025\nstore: {path: state}\n"+text)
	c, problems := config.Load(s.file, all.Specs())
	if c == nil {
		t.Fatal(problems)
	}
	s.clock = filtertest.NewClockAt(s.start)
	env := filtertest.NewEnv(filtertest.MustParseZone(zone))
	env.Hostname, env.Domains, env.Clock, env.Store, env.Log = c.Hostname, c.Domains, s.clock, filtertest.NewStore(s.clock), slog.New(slog.DiscardHandler)
	if s.engine, problems = c.Compile(all.Specs(), env); s.engine == nil {
		t.Fatal(problems)
	}
	var err error
	if s.kept, err = journal.Open(c.Journal, journal.Options{Clock: s.clock}); err != nil {
		t.Fatal(err)
	}
	return s
}

// add plans an attempt some time behind the start.
func (s *synthetic) add(after time.Duration, a attempt) {
	a.at = s.start.Add(after)
	s.events = append(s.events, &a)
}

// play lets everything happen in order, and closes the journal.
func (s *synthetic) play() {
	queue.Init(&s.events)
	for s.events.Len() > 0 {
		a := queue.Pop(&s.events).(*attempt)
		s.clock.Set(a.at)
		if s.try(a) || len(a.waits) == 0 {
			continue
		}
		a.at, a.waits = a.at.Add(a.waits[0]), a.waits[1:]
		if len(a.clients) > 1 {
			a.clients = a.clients[1:]
		}
		queue.Push(&s.events, a)
	}
	if err := s.kept.Close(); err != nil {
		s.t.Fatal(err)
	}
}

// try is one session with one message; true: it was taken, or refused for good.
func (s *synthetic) try(a *attempt) (done bool) {
	ctx := context.Background()
	s.serial++
	client := netip.AddrPortFrom(netip.MustParseAddr(a.clients[0]), 4000)
	id := fmt.Sprintf("S%d", s.serial)
	g := s.engine.NewGate(&filters.Session{ID: id, Client: filters.ClientAt(client), Accepted: a.at},
		&policy.Runtime{Recorder: s.kept, Clock: s.clock})
	defer g.Close("quit")
	g.Connect(ctx)
	for _, v := range []policy.Verdict{g.Greet(ctx, false, 0), g.Helo(ctx, &filters.Greeting{Name: "mail.sender.test", Extended: filters.Known(true)})} {
		if v.Action != 0 {
			return v.Reply.Code >= 500
		}
	}
	message := filters.NewMessage(1<<16, nil)
	defer message.Release() // when nobody reads it any more
	var end policy.Ending
	defer func() { g.Conclude(end) }()
	if v := g.Mail(ctx, &filters.Envelope{ID: id + ".1", ReversePath: a.from, Started: a.at}); v.Action != 0 {
		end.Reply, end.Ours = v.Reply, true
		return v.Reply.Code >= 500
	}
	for _, step := range []func() policy.Verdict{
		func() policy.Verdict { return g.Rcpt(ctx, &filters.Recipient{ForwardPath: a.to}) },
		func() policy.Verdict { return g.Accepted(ctx) },
		func() policy.Verdict { return g.Data(ctx) },
	} {
		if v := step(); v.Action != 0 {
			return v.Reply.Code >= 500
		}
	}
	g.Message(message)
	fmt.Fprintf(message, "From: %s\r\nSubject: hello\r\n\r\nhello\r\n", a.from)
	message.Complete()
	end.Size = message.Size()
	v, _ := g.EndOfData(ctx)
	if end.Reply, end.Ours = v.Reply, true; v.Action == 0 {
		end.Reply, end.Ours = rules.Reply{Code: 250, Enhanced: "2.0.0", Text: "Ok"}, false
	}
	return end.Reply.Code/100 != 4
}

// found is what the command says, as its readers see it.
type found struct {
	Transactions, Sessions int
	Recommendations        []struct {
		Kind, Subject, Text, Change, Untried string
		Figures                              json.RawMessage
		Backtest                             *replay.Report
	}
	Fits []string
}

func (s *synthetic) recommend() (f found, text string) {
	s.t.Helper()
	run := &served{t: s.t, file: s.file}
	output, status := run.command("recommend", "--json")
	if err := json.Unmarshal([]byte(output), &f); err != nil || status != 0 {
		s.t.Fatalf("status %d, %v:\n%s", status, err, output)
	}
	text, _ = run.command("recommend")
	return f, text
}

// pick finds one recommendation and reads its figures.
func (f *found) pick(t *testing.T, kind, subject string, figures any) (backtest *replay.Report, change string) {
	t.Helper()
	for _, r := range f.Recommendations {
		if r.Kind != kind || r.Subject != subject {
			continue
		}
		if err := json.Unmarshal(r.Figures, figures); err != nil {
			t.Fatal(err)
		}
		return r.Backtest, r.Change
	}
	t.Fatalf("no %s for %s: %+v", kind, subject, f.Recommendations)
	return nil, ""
}

func (f *found) has(kind, subject string) bool {
	for _, r := range f.Recommendations {
		if r.Kind == kind && (r.Subject == subject || subject == "") {
			return true
		}
	}
	return false
}

// losesMail tells whether something that was delivered would not be.
func losesMail(r *replay.Report) bool {
	return slices.ContainsFunc(r.Changes, func(g replay.Group) bool { return g.Was == replay.Delivered && g.Is >= replay.Greylisted })
}

const greylistAll = "filters: {ratelimit: {enabled: false}, greylist: {delay: 5m, window: 1d}}\nrules:\n  - {name: everybody, when: not mail.null, then: greylist}\n"

// Mail servers that come back after 70 to 100 seconds, and then after an hour, are held up for an hour by a delay of five
// minutes and for a good minute by one of a minute. Who never comes back stays out with both.
func TestRecommendedDelay(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	s := newSynthetic(t, greylistAll, "")
	for i := range 200 {
		retry := 70*time.Second + time.Duration(random.Int64N(int64(30*time.Second)))
		s.add(time.Duration(i)*10*time.Minute, attempt{clients: []string{fmt.Sprintf("10.1.%d.1", i)}, from: fmt.Sprintf("news@s%d.test", i), to: "ann@example.org",
			waits: []time.Duration{retry, time.Hour, time.Hour}})
		if i%2 == 0 {
			s.add(time.Duration(i)*10*time.Minute, attempt{clients: []string{fmt.Sprintf("10.2.%d.1", i)}, from: fmt.Sprintf("spam@x%d.test", i), to: "ann@example.org"})
		}
		if i%4 == 0 { // repeats at once, and no more
			s.add(time.Duration(i)*10*time.Minute, attempt{clients: []string{fmt.Sprintf("10.3.%d.1", i)}, from: fmt.Sprintf("spam@y%d.test", i), to: "ann@example.org",
				waits: []time.Duration{5 * time.Second, 5 * time.Second}})
		}
	}
	s.play()
	f, text := s.recommend()
	var g recommend.Greylisting
	report, change := f.pick(t, "greylist", "greylist", &g)
	if g.Delay.String() != "1m" || g.Window.String() != "4h" || g.Waits != 350 || g.Returned != 200 || g.KeptOut != 150 {
		t.Errorf("%+v", g)
	}
	if p5, p95 := time.Duration(g.Retry.P5), time.Duration(g.Retry.P95); p5 < 70*time.Second || p5 > 75*time.Second || p95 < 95*time.Second || p95 > 100*time.Second {
		t.Errorf("the retries: %+v", g.Retry)
	}
	if change != "filters:\n  greylist: {delay: 1m, window: 4h}\n" || !strings.Contains(text, "Greylist for 1m instead of 5m, with a window of 4h instead of 1d.") {
		t.Errorf("%q\n%s", change, text)
	}
	// The first retry would have passed; those behind it would not have been needed.
	if report == nil || len(report.Changes) == 0 || report.Changes[0].Count != 200 || report.Changes[0].Was != replay.Greylisted || losesMail(report) {
		t.Errorf("%+v", report)
	}
}

// A configuration that fits is left as it is; a window that is too short for who comes back is not.
func TestRecommendedWindow(t *testing.T) {
	s := newSynthetic(t, strings.Replace(greylistAll, "window: 1d", "window: 4h", 1), "")
	for i := range 100 {
		wait := 6 * time.Minute
		if i%10 == 0 {
			wait = 10 * time.Hour
		}
		s.add(time.Duration(i)*10*time.Minute, attempt{clients: []string{fmt.Sprintf("10.1.%d.1", i)}, from: fmt.Sprintf("news@s%d.test", i), to: "ann@example.org",
			waits: []time.Duration{wait, wait}})
	}
	s.play()
	f, _ := s.recommend()
	var g recommend.Greylisting
	report, _ := f.pick(t, "greylist", "greylist", &g)
	if g.Delay.String() != "5m" || g.Window.String() != "1d" {
		t.Errorf("%+v", g)
	}
	// With the short window the ten started anew with their second attempt, and passed with their third.
	if report == nil || report.Differ != 20 || report.Changes[0].Was != replay.Greylisted {
		t.Errorf("%+v", report)
	}
}

// Senders whose retries come from elsewhere are named with their networks; without greylisting for these nothing of them
// is deferred.
func TestRecommendedPools(t *testing.T) {
	s := newSynthetic(t, greylistAll, "spf.test TXT v=spf1 ip4:10.0.0.0/8 -all")
	for i := range 10 {
		for _, domain := range []string{"pool.test", "spf.test"} {
			s.add(time.Duration(i)*time.Hour, attempt{clients: []string{"10.8.1.1", "10.8.2.1", "10.8.1.7"}, from: fmt.Sprintf("user%c@%s", 'a'+i, domain), to: "ann@example.org",
				waits: []time.Duration{10 * time.Minute, 20 * time.Minute}})
		}
		s.add(time.Duration(i)*time.Hour, attempt{clients: []string{"10.9.1.1", "10.9.1.9"}, from: fmt.Sprintf("user%c@one.test", 'a'+i), to: "ann@example.org",
			waits: []time.Duration{10 * time.Minute}})
	}
	s.play()
	f, _ := s.recommend()
	if f.has("pool", "one.test") || f.has("pool", "spf.test") {
		t.Errorf("%+v", f.Recommendations)
	}
	var p recommend.Pool
	report, change := f.pick(t, "pool", "pool.test", &p)
	if p.Waits != 10 || len(p.Networks) != 2 || p.Lost != 0 || p.HeldUp.String() != "30m" {
		t.Errorf("%+v", p)
	}
	if !strings.Contains(change, `and not in_network(client.ip, "10.8.1.0/24", "10.8.2.0/24")`) {
		t.Error(change)
	}
	if report == nil || losesMail(report) || report.Differ == 0 {
		t.Fatalf("%+v", report)
	}
	for _, g := range report.Changes {
		if g.Was != replay.Greylisted || g.Is != replay.Passed {
			t.Errorf("%+v", g)
		}
	}
}

// Clients send 1 to 100 messages in an hour, each number once: 99 % of them at most 100, and a limit of twice that lets
// all of them through.
func TestRecommendedLimits(t *testing.T) {
	s := newSynthetic(t, `filters:
  ratelimit:
    limits:
      - {name: strict, count: messages, per: client, rate: 20/1h}
      - {name: loose, count: connections, per: client, rate: 100000/1h}
      - {name: fitting, count: recipients, per: sender_domain, rate: 200/1h}
rules:
  - {name: too-many, when: 'ratelimit.message != ""', then: defer, mode: observe}
`, "")
	for client := range 100 {
		for n := range client + 1 {
			s.add(time.Duration(client)*time.Hour+time.Duration(n)*30*time.Second, attempt{clients: []string{fmt.Sprintf("10.1.%d.1", client)},
				from: fmt.Sprintf("news@s%d.test", client), to: "ann@example.org"})
		}
	}
	s.play()
	f, _ := s.recommend()
	for _, name := range []string{"strict", "loose"} {
		var l recommend.Limit
		report, _ := f.pick(t, "limit", name, &l)
		if l.Good != 100 || l.P50 < 48 || l.P50 > 55 || l.P99 < 99 || l.P99 > 108 || l.Max < 100 || l.Max > 108 {
			t.Errorf("%+v", l)
		}
		if l.Amount < 2*l.P99 || l.Amount > 3*l.P99 || l.Over != 0 {
			t.Errorf("%s: %d is recommended for %d", name, l.Amount, l.P99)
		}
		if report == nil || losesMail(report) {
			t.Errorf("%+v", report)
		}
		if name == "strict" && l.OverNow != 80 {
			t.Errorf("%d of the clients are above 20", l.OverNow)
		}
	}
	if f.has("limit", "fitting") {
		t.Errorf("%+v", f.Recommendations)
	}
}

// One list never lists anybody, one lists everybody, one has its uses and one does not answer.
func TestRecommendedLists(t *testing.T) {
	const size = 400
	zone := "*.much.test A 127.0.0.2\nx.never.test A 127.0.0.9\n*.dead.test SERVFAIL\n"
	for i := range size / 40 {
		zone += fmt.Sprintf("1.%d.1.198.good.test A 127.0.0.2\n", i)
	}
	s := newSynthetic(t, `filters:
  ratelimit: {enabled: false}
  dnsbl:
    zones:
      - {zone: never.test, codes: {127.0.0.2: 4}, test: off}
      - {zone: much.test, codes: {127.0.0.2: 1}, test: off}
      - {zone: good.test, codes: {127.0.0.2: 4}, test: off}
      - {zone: dead.test, codes: {127.0.0.2: 4}, test: off}
rules:
  - {name: listed, when: dnsbl.score >= 4, then: reject}
  - {name: dubious, when: dnsbl.score > 0 and mail.local == "odd", then: reject, at: message}
  - {name: idle, when: 'mail.domain == "nowhere.test"', then: reject}
  - {name: blind, when: 'dnsbl.helo_score > 0 or mail.local == "nobody"', then: reject}
`, zone)
	for i := range size {
		from := "news@s.test"
		if i%4 == 0 {
			from = "odd@s.test"
		}
		s.add(time.Duration(i)*time.Minute, attempt{clients: []string{fmt.Sprintf("198.1.%d.1", i%256)}, from: from, to: "ann@example.org"})
	}
	s.play()
	f, text := s.recommend()
	var z recommend.Zone
	if report, _ := f.pick(t, "list", "never.test", &z); z.Listed != 0 || z.Answered != size || report == nil || report.Differ != 0 {
		t.Errorf("%+v, %+v", z, report)
	}
	report, _ := f.pick(t, "list", "much.test", &z)
	if z.Listed != size || report == nil || report.Differ == 0 || losesMail(report) {
		t.Fatalf("%+v, %+v", z, report)
	}
	for _, g := range report.Changes { // without its point nothing odd is refused
		if g.Was != replay.Refused || g.Is != replay.Passed || g.WasBy != "dubious" {
			t.Errorf("%+v", g)
		}
	}
	if f.pick(t, "list", "dead.test", &z); z.Failed != size {
		t.Errorf("%+v", z)
	}
	if f.has("list", "good.test") {
		t.Errorf("%+v", f.Recommendations)
	}
	var n neverMatched
	if report, _ := f.pick(t, "rule", "idle", &n); n.Looked == 0 || len(n.Unknown) != 0 || report == nil || report.Differ != 0 {
		t.Errorf("%+v, %+v", n, report)
	}
	if f.pick(t, "rule", "blind", &n); len(n.Unknown) != 1 || n.Unknown[0] != "dnsbl.helo_score" {
		t.Errorf("%+v", n)
	}
	if f.has("rule", "listed") || f.has("rule", "dubious") {
		t.Errorf("%+v", f.Recommendations)
	}
	for _, want := range []string{"Do without the list never.test: it lists nobody.", "It reads what was never known: dnsbl.helo_score", "list good.test: listed "} {
		if !strings.Contains(text, want) {
			t.Errorf("without %q:\n%s", want, text)
		}
	}
}

// Of little mail nothing is recommended, and that is said.
func TestNothingIsRecommendedOfLittle(t *testing.T) {
	s := newSynthetic(t, greylistAll, "")
	for i := range 5 {
		s.add(time.Duration(i)*time.Hour, attempt{clients: []string{"10.1.1.1"}, from: fmt.Sprintf("a%c@s.test", 'a'+i), to: "ann@example.org", waits: []time.Duration{time.Hour}})
	}
	s.play()
	f, text := s.recommend()
	if len(f.Recommendations) != 0 || len(f.Fits) != 2 || !strings.Contains(text, "Nothing is recommended.") || !strings.Contains(text, "which says too little") {
		t.Errorf("%+v\n%s", f, text)
	}
}
