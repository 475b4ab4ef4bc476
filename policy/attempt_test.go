package policy

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/rules"
)

// remembered makes a look whose answers are at hand, or not: then what an attempt finds is wrong, and must not count.
func remembered[T any](t *rapid.T, name string, l look[T]) look[T] {
	atHand := rapid.Bool().Draw(t, name+" is at hand")
	return func(ctx context.Context, v filters.View) (*T, error) {
		if a := filters.AttemptOf(ctx); a != nil && !atHand {
			a.Miss()
			if ctx.Err() == nil {
				panic("the context of an attempt that missed goes on")
			}
			return new(T), nil
		}
		return l(ctx, v)
	}
}

// sessionHeard is what a client hears, and what filters have told of it.
type sessionHeard struct {
	verdicts []string
	filters  map[string]FilterRecord
}

func playSession(t *rapid.T, e *Engine, to []string) (h sessionHeard, alone bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c := &client{}
	g := e.NewGate(&filters.Session{ID: "S", Client: filters.ClientAt(testClient)}, &Runtime{Recorder: c})
	say := func(v Verdict) bool {
		h.verdicts = append(h.verdicts, spoken(v))
		return v.Action == 0
	}
	g.Connect(ctx)
	if say(g.Greet(ctx, false, 0)) && say(g.Helo(ctx, &filters.Greeting{Name: "client.example.com"})) && say(g.Mail(ctx, &filters.Envelope{ID: "T", ReversePath: "s@example.com"})) {
		accepted := false
		for _, r := range to {
			accepted = say(g.Rcpt(ctx, &filters.Recipient{ForwardPath: r + "@example.org"})) && say(g.Accepted(ctx)) || accepted
		}
		if accepted && say(g.Data(ctx)) {
			m := filters.NewMessage(1<<20, nil)
			defer m.Release()
			g.Message(m)
			m.Write([]byte("Subject: hello\r\n\r\nA message of more than 40 bytes, all told.\r\n"))
			m.Complete()
			v, _ := g.EndOfData(ctx)
			say(v)
		}
		g.Conclude(Ending{})
	}
	alone = g.busy == nil
	g.Close("")
	h.filters = map[string]FilterRecord{}
	for _, f := range c.records[0].Filters {
		f.Duration = 0
		h.filters[fmt.Sprint(f.Name, f.Stage)] = f
	}
	return h, alone
}

// A session hears the same, and its facts are the same, whether observations are attempted first or not.
func TestAttemptsChangeNothing(t *testing.T) {
	alone := 0
	rapid.Check(t, func(t *rapid.T) {
		f := promptFakes(t)
		texts := drawRules(t, atoms, append(anyAction, "accept", "greylist")...)
		to := rapid.SliceOfNDistinct(rapid.SampledFrom(recipientNames), 1, 3, rapid.ID).Draw(t, "recipients")
		want, _ := playSession(t, engineOf(t, f, texts), to)
		f.repeatable = true
		f.dnsbl, f.rdns, f.spf = remembered(t, "dnsbl", f.dnsbl), remembered(t, "rdns", f.rdns), remembered(t, "spf", f.spf)
		f.dkim, f.dmarc = remembered(t, "dkim", f.dkim), remembered(t, "dmarc", f.dmarc)
		got, withoutGoroutines := playSession(t, engineOf(t, f, texts), to)
		if withoutGoroutines {
			alone++
		}
		if fmt.Sprint(got.verdicts) != fmt.Sprint(want.verdicts) {
			t.Fatalf("rules %q: heard %q, without attempts %q", texts, got.verdicts, want.verdicts)
		}
		for name, f := range got.filters {
			// What no rule waits for may come late.
			if w, ok := want.filters[name]; f.Status != "unfinished" && w.Status != "unfinished" && (!ok || !reflect.DeepEqual(f, w)) {
				t.Fatalf("rules %q: %s told %+v, without attempts %+v", texts, name, f, w)
			}
		}
	})
	if alone == 0 {
		t.Error("no session did without goroutines")
	}
}

// A resolver and a store that know nothing of attempts are not waited for in one.
func TestAttemptsNeverWait(t *testing.T) {
	env := attemptable(filters.Env{Resolver: stuckResolver{}, Store: stuckStore{}})
	if again := attemptable(env); again.Resolver != env.Resolver || again.Store != env.Store {
		t.Error("wrapped twice")
	}
	ask := map[string]func(ctx context.Context) error{
		"A":    func(ctx context.Context) error { _, err := env.Resolver.LookupA(ctx, "a.test"); return err },
		"AAAA": func(ctx context.Context) error { _, err := env.Resolver.LookupAAAA(ctx, "a.test"); return err },
		"TXT":  func(ctx context.Context) error { _, err := env.Resolver.LookupTXT(ctx, "a.test"); return err },
		"MX":   func(ctx context.Context) error { _, err := env.Resolver.LookupMX(ctx, "a.test"); return err },
		"PTR":  func(ctx context.Context) error { _, err := env.Resolver.LookupPTR(ctx, testClient.Addr()); return err },
		"Peek": func(ctx context.Context) error { _, err := env.Store.Peek(ctx, "s", nil); return err },
	}
	for name, ask := range ask {
		var a filters.Attempt
		inner, cancel := context.WithCancel(&a)
		if err := ask(inner); err != filters.ErrNotAtHand || !a.Missed() {
			t.Errorf("%s: %v, missed: %t", name, err, a.Missed())
		}
		cancel()
	}
}

type (
	stuckResolver struct{ filters.Resolver }
	stuckStore    struct{ filters.Store }
)

// A message of which some is still to come is not attempted: the session would wait for itself.
func TestMessageThatGrowsIsNotAttempted(t *testing.T) {
	f := &fakes{repeatable: true, dkim: func(ctx context.Context, v filters.View) (*dkimFacts, error) {
		_, err := v.Message.Header(ctx)
		return &dkimFacts{Result: "fail"}, err
	}}
	c := f.connect(t, `dkim.result == "fail" -> reject`)
	c.deliver("a@example.com", "b@example.org")
	m := c.growing()
	if c.running() != 1 {
		t.Errorf("%d observations run", c.running())
	}
	m.Write([]byte(plain))
	m.Complete()
	v, _ := c.EndOfData(c.ctx)
	expect(t, "message", v, "550")
	c.Conclude(Ending{Reply: rules.Reply{Code: 550}})
}
