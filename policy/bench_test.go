package policy

import (
	"context"
	"testing"

	"gatepost/filters"
)

var benchRules = []string{
	`rcpt.local in ["postmaster", "abuse"] -> accept`,
	"dnsbl.score >= 4 -> reject; reply: 554 5.7.1 {client.ip} is listed by {dnsbl.listed}",
	`dnsbl.score > 0 or rdns.score > 1 or spf.result in ["none", "softfail"] -> greylist`,
	`header("Subject") contains "lottery" -> reject`,
	"message.size > 1000000 -> reject; mode: observe",
}

// play is a whole session with one message, behind Accept and before Close.
func play(tb testing.TB, e *Engine, s *filters.Session, m *filters.Message, rt *Runtime) {
	ctx := context.Background()
	g := e.NewGate(s, rt)
	g.Connect(ctx)
	verdicts := [...]Verdict{
		g.Greet(ctx, false, 0),
		g.Helo(ctx, benchGreeting),
		g.Mail(ctx, benchEnvelope),
		g.Rcpt(ctx, benchRecipient),
		g.Accepted(ctx),
		g.Data(ctx),
	}
	for _, v := range verdicts {
		if v.Action != 0 {
			tb.Fatal(spoken(v))
		}
	}
	g.Message(m)
	if v, _ := g.EndOfData(ctx); v.Action != 0 {
		tb.Fatal(spoken(v))
	}
	g.Conclude(Ending{})
	g.Close("")
}

var (
	benchSession   = &filters.Session{ID: "S", Client: filters.ClientAt(testClient)}
	benchGreeting  = &filters.Greeting{Name: "client.example.com", Extended: filters.Known(true)}
	benchEnvelope  = &filters.Envelope{ID: "T", ReversePath: "a@example.com"}
	benchRecipient = &filters.Recipient{ForwardPath: "b@example.org"}
)

func completeMessage(tb testing.TB) *filters.Message {
	m := filters.NewMessage(1<<20, nil)
	tb.Cleanup(m.Release)
	if _, err := m.Write([]byte("Subject: hello\r\nFrom: a@example.com\r\n\r\nbody\r\n")); err != nil {
		tb.Fatal(err)
	}
	m.Complete()
	return m
}

// BenchmarkTransaction is a session of one message with 5 rules and 3 filters on goroutines of their own.
func BenchmarkTransaction(b *testing.B) {
	f := &fakes{dnsbl: answers(listFacts{}), rdns: answers(listFacts{}), spf: answers(spfFacts{Result: "pass"})}
	e, m := compile(b, f, f.config(benchRules...)), completeMessage(b)
	b.ReportAllocs()
	for b.Loop() {
		play(b, e, benchSession, m, nil)
	}
}

// BenchmarkInline is the same with rules that read nothing but what the dialogue tells, and one inline filter.
func BenchmarkInline(b *testing.B) {
	e, m := inlineEngine(b), completeMessage(b)
	b.ReportAllocs()
	for b.Loop() {
		play(b, e, benchSession, m, nil)
	}
}

func inlineEngine(tb testing.TB) *Engine {
	f := &fakes{helo: answers(heloCheckFacts{Valid: true})}
	return compile(tb, f, f.config(benchRules[0], "not helo.valid -> reject", "mail.null and rcpt.count > 1 -> reject", "client.port == 0 -> reject", "message.size > 1000000 -> reject"))
}

// A session with inline filters alone costs a handful of allocations, most of them facts.
func TestInlineSessionAllocates(t *testing.T) {
	e, m := inlineEngine(t), completeMessage(t)
	allocations := testing.AllocsPerRun(200, func() { play(t, e, benchSession, m, nil) })
	t.Logf("%.0f allocations", allocations)
	if allocations > 20 {
		t.Errorf("%.0f allocations", allocations)
	}
}

// A session with three filters that run on goroutines of their own.
func TestTransactionAllocates(t *testing.T) {
	f := &fakes{dnsbl: answers(listFacts{}), rdns: answers(listFacts{}), spf: answers(spfFacts{Result: "pass"})}
	e, m := compile(t, f, f.config(benchRules...)), completeMessage(t)
	allocations := testing.AllocsPerRun(200, func() { play(t, e, benchSession, m, nil) })
	t.Logf("%.0f allocations", allocations)
	if allocations > 49 {
		t.Errorf("%.0f allocations", allocations)
	}
}

// BenchmarkAttempted is BenchmarkTransaction with answers at hand.
func BenchmarkAttempted(b *testing.B) {
	f := &fakes{repeatable: true, dnsbl: answers(listFacts{}), rdns: answers(listFacts{}), spf: answers(spfFacts{Result: "pass"})}
	e, m := compile(b, f, f.config(benchRules...)), completeMessage(b)
	b.ReportAllocs()
	for b.Loop() {
		play(b, e, benchSession, m, nil)
	}
}
