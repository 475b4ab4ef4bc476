package policy

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/filters"
)

func TestOnlyWhatCanStillDecideIsWaitedFor(t *testing.T) {
	open := make(chan struct{})
	defer close(open)
	f := &fakes{dnsbl: after(open, listFacts{Score: 9}), spf: answers(spfFacts{Result: "fail"})}
	c := f.connect(t,
		"mail.null and dnsbl.score > 1 -> accept",
		`spf.result == "fail" or dnsbl.score > 1 -> reject`)
	// dnsbl never answers: the first rule is false without it, the second true.
	expect(t, "rcpt", c.deliver("a@example.com", "b@example.org")[1], "550")
}

func TestKnownWaitsForWhatIsOnItsWay(t *testing.T) {
	open := make(chan struct{})
	time.AfterFunc(20*time.Millisecond, func() { close(open) })
	f := &fakes{dnsbl: after(open, listFacts{Score: 9})}
	c := f.connect(t, "not known(dnsbl.score) -> reject")
	expect(t, "rcpt", c.deliver("a@example.com", "b@example.org")[1], "")
}

func TestObservedRulesAreNotWaitedFor(t *testing.T) {
	f := &fakes{dnsbl: hangs[listFacts](), rdns: answers(listFacts{Score: 1})}
	c := f.connect(t,
		"dnsbl.score > 1 -> reject; mode: observe",
		"not known(dnsbl.score) -> reject; mode: observe",
		"rdns.score > 0 -> score; points: 1",
		"rdns.score > 0 -> reject; mode: observe",
		"client.port == 0 -> reject")
	expect(t, "rcpt", c.deliver("a@example.com", "b@example.org")[1], "")
	matched := c.tx.matches
	if len(matched) != 2 || matched[0].Rule.Name != "rule2" || matched[0].Observed || matched[1].Rule.Name != "rule3" || !matched[1].Observed {
		t.Errorf("%+v", matched)
	}
}

func TestWhatIsNotThereInTimeHasFailed(t *testing.T) {
	open := make(chan struct{})
	f := &fakes{dnsbl: func(context.Context, filters.View) (*listFacts, error) { <-open; return &listFacts{Score: 9}, nil }}
	c := f.connect(t, "dnsbl.score > 1 -> reject")
	c.hello()
	c.mail("a@example.com")
	short, cancel := context.WithTimeout(c.ctx, 10*time.Millisecond)
	defer cancel()
	if v := c.Rcpt(short, &filters.Recipient{ForwardPath: "b@example.org"}); v.Action != 0 {
		t.Error(spoken(v))
	}
	close(open)
	// Too late is too late: two recipients of a transaction are judged by the same facts.
	c.stop(connectionLevel)
	expect(t, "later", c.rcpt("c@example.org"), "")
	if got := c.filterRecords()[0].Status; got != "timeout" {
		t.Error(got)
	}
}

func TestFilterTimeout(t *testing.T) {
	f := &fakes{dnsbl: hangs[listFacts](), timeout: 10 * time.Millisecond}
	c := f.connect(t, "dnsbl.score > 1 -> reject; on_error: defer")
	expect(t, "rcpt", c.deliver("a@example.com", "b@example.org")[1], "451 4.4.3")
	if got := c.filterRecords()[0].Status; got != "timeout" {
		t.Error(got)
	}
}

func TestFailures(t *testing.T) {
	for _, test := range []struct {
		name      string
		dnsbl     look[listFacts]
		deferring []string
		rule      string
		want      string
	}{
		{"passes", fails[listFacts](), nil, "dnsbl.score > 1 -> reject", ""},
		{"negated", fails[listFacts](), nil, "not (dnsbl.score > 1) -> reject", ""},
		{"never accepts", fails[listFacts](), nil, "dnsbl.score == 0 -> accept", "554 5.7.1 behind"},
		{"panic passes", panics[listFacts](), nil, "dnsbl.score > 1 -> reject", ""},
		{"the rule defers", fails[listFacts](), nil, "dnsbl.score > 1 -> reject; on_error: defer", "451 4.4.3"},
		{"the filter defers", panics[listFacts](), []string{"dnsbl"}, "dnsbl.score > 1 -> reject", "451 4.4.3"},
		{"also for a score", fails[listFacts](), []string{"dnsbl"}, "dnsbl.score > 1 -> score; points: 1", "451 4.4.3"},
		{"not for a tag", fails[listFacts](), []string{"dnsbl"}, "dnsbl.score > 1 -> tag; header: X-A: b", ""},
		{"not if it is false without", fails[listFacts](), []string{"dnsbl"}, "mail.null and dnsbl.score > 1 -> reject", ""},
		{"not for another filter", fails[listFacts](), []string{"spf"}, "dnsbl.score > 1 -> reject", ""},
		{"a filter that is off has not failed", nil, []string{"dnsbl"}, "dnsbl.score > 1 -> reject; on_error: defer", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := &fakes{dnsbl: test.dnsbl, deferring: test.deferring}
			c := f.connect(t, test.rule, `rcpt.local == "never" or mail.local == "behind" -> reject; reply: 554 5.7.1 behind`)
			from := "a@example.com"
			if strings.HasPrefix(test.want, "554") {
				from = "behind@example.com"
			}
			expect(t, "rcpt", c.deliver(from, "b@example.org")[1], test.want)
		})
	}
}

func TestPanicIsLoggedWithItsStack(t *testing.T) {
	var log bytes.Buffer
	f := &fakes{dnsbl: panics[listFacts](), quota: panics[quotaFacts]()}
	e, problems := Compile(f.config("dnsbl.score > 1 or quota.over -> reject"), f.specs(), filters.Env{Log: slog.New(slog.NewTextHandler(&log, nil))}, noLists{})
	if e == nil {
		t.Fatal(problems)
	}
	c := session(t, e, &filters.Session{}, &Runtime{})
	expect(t, "rcpt", c.deliver("a@example.com", "b@example.org")[1], "")
	for _, want := range []string{"filter=dnsbl", "filter=quota", "index out of range", "fakes_test.go"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is not in the log: %s", want, &log)
		}
	}
	for _, r := range c.filterRecords() {
		if r.Status != "error" || strings.Contains(r.Error, "goroutine") {
			t.Errorf("%+v", r)
		}
	}
}

func TestObservationsWaitForOthers(t *testing.T) {
	spfKnown := make(chan struct{})
	f := &fakes{
		spf: after(spfKnown, spfFacts{Result: "pass"}),
		dkim: func(ctx context.Context, v filters.View) (*dkimFacts, error) {
			_, err := v.Message.Header(ctx)
			return &dkimFacts{Result: "fail"}, err
		},
		dmarc: func(_ context.Context, v filters.View) (*dmarcFacts, error) {
			spf, ok := v.Facts.Text("spf.result")
			dkim, ok2 := v.Facts.Text("dkim.result")
			if !ok || !ok2 || spf != "pass" || dkim != "fail" {
				return nil, errors.New("did not wait")
			}
			return &dmarcFacts{Result: "fail"}, nil
		},
	}
	c := f.connect(t, `dmarc.result == "fail" -> reject`)
	c.deliver("a@example.com", "b@example.org")
	time.AfterFunc(10*time.Millisecond, func() { close(spfKnown) })
	v, _ := c.message(plain)
	expect(t, "message", v, "550")
}

func TestOnlyWhatIsReadRuns(t *testing.T) {
	var ran atomic.Int32
	count := func(context.Context, filters.View) (*listFacts, error) { ran.Add(1); return &listFacts{}, nil }
	f := &fakes{dnsbl: count, rdns: count, off: []string{"rdns"}}
	c := f.connect(t, "client.port == 0 -> reject", "rdns.score > 1 -> reject")
	c.deliver("a@example.com", "b@example.org")
	c.stop(connectionLevel)
	if ran.Load() != 0 {
		t.Errorf("%d observations ran that no rule reads", ran.Load())
	}
	// What only a reply shows is read as well.
	c = f.connect(t, "not mail.null -> reject; reply: 550 5.7.1 score {dnsbl.score}")
	expect(t, "rcpt", c.deliver("a@example.com", "b@example.org")[1], "550 5.7.1 score 0")
}

// A client may take its time over the message: only what comes after it counts against the filter's time-out.
func TestClockOfMessageObservationsStartsAtTheEndOfData(t *testing.T) {
	f := &fakes{timeout: 30 * time.Millisecond, dkim: func(ctx context.Context, v filters.View) (*dkimFacts, error) {
		var b strings.Builder
		if _, err := v.Message.Reader(ctx).WriteTo(&b); err != nil {
			return nil, err
		}
		return &dkimFacts{Result: "fail"}, nil
	}}
	c := f.connect(t, `dkim.result == "fail" -> reject`)
	c.deliver("a@example.com", "b@example.org")
	m := c.growing()
	if _, err := m.Write([]byte(plain)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(60 * time.Millisecond) // the subject of this test: longer than the time-out
	m.Complete()
	v, _ := c.EndOfData(c.ctx)
	expect(t, "message", v, "550")

	f.dkim = hangs[dkimFacts]()
	c = f.connect(t, `dkim.result == "fail" -> reject; on_error: defer`)
	c.deliver("a@example.com", "b@example.org")
	v, _ = c.message(plain)
	expect(t, "message of a filter that hangs", v, "451 4.4.3")
}

func TestClockOfThoseThatWaitedStartsAnew(t *testing.T) {
	open := make(chan struct{})
	f := &fakes{dkim: after(open, dkimFacts{Result: "pass"}), dmarc: hangs[dmarcFacts](), timeout: time.Minute}
	c := f.connect(t, `dmarc.result == "fail" -> reject`)
	c.deliver("a@example.com", "b@example.org")
	m := c.growing()
	m.Complete()
	c.startClock()
	dmarc := c.runOf(c.engine.byStage[filters.AtMessage][1].slot)
	dmarc.deadline = time.Now()
	close(open)
	c.join(c.ctx, c.engine.byStage[filters.AtMessage][1].after)
	if left := time.Until(dmarc.deadline); left < time.Second {
		t.Errorf("%v left of a minute", left)
	}
}

func TestNothingIsLeftRunning(t *testing.T) {
	var left atomic.Int32
	hang := func(ctx context.Context) error {
		left.Add(1)
		defer left.Add(-1)
		<-ctx.Done()
		return ctx.Err()
	}
	f := &fakes{
		dnsbl:   func(ctx context.Context, _ filters.View) (*listFacts, error) { return nil, hang(ctx) },
		spf:     func(ctx context.Context, _ filters.View) (*spfFacts, error) { return nil, hang(ctx) },
		mailbox: func(ctx context.Context, _ filters.View) (*quotaFacts, error) { return nil, hang(ctx) },
		dkim:    func(ctx context.Context, _ filters.View) (*dkimFacts, error) { return nil, hang(ctx) },
	}
	c := f.connect(t, `dnsbl.score > 1 -> reject; mode: observe`, `mailbox.over -> reject; mode: observe`, `dkim.result == "fail" -> reject; mode: observe`)
	c.hello()
	c.mail("a@example.com")
	for range 50 {
		if v := c.rcpt("b@example.org"); v.Action != 0 {
			t.Fatal(spoken(v))
		}
		if c.running() > c.engine.maxRunning {
			t.Fatalf("%d goroutines of at most %d", c.running(), c.engine.maxRunning)
		}
	}
	m := c.growing()
	m.Complete()
	short, cancel := context.WithTimeout(c.ctx, 10*time.Millisecond)
	defer cancel()
	c.EndOfData(short)
	c.Conclude(Ending{})
	for _, r := range c.busy.running {
		if r.level >= transactionLevel {
			t.Errorf("%s runs on behind its transaction", r.filter)
		}
	}
	c.Close("")
	if n := left.Load(); n != 0 || c.running() != 0 {
		t.Errorf("%d observations run on behind the session", n)
	}
	for _, r := range c.records[0].Filters {
		if r.Status != "unfinished" && r.Status != "timeout" || r.Duration == 0 {
			t.Errorf("%+v", r)
		}
	}
	c.Gate = c.engine.NewGate(c.session, nil) // for the cleanup
}

// What Authentication-Results waits for anyway is there for rules that only watch, although they wait for nothing.
func TestObservedRuleSeesWhatIsKnownInTheEnd(t *testing.T) {
	release := make(chan struct{})
	f := &fakes{spf: func(context.Context, filters.View) (*spfFacts, error) {
		<-release
		return &spfFacts{Result: "fail"}, nil
	}}
	c := f.connect(t, `spf.result == "fail" and message.size > 0 -> reject; mode: observe`)
	c.deliver("a@example.com", "b@example.org")
	timer := time.AfterFunc(20*time.Millisecond, func() { close(release) }) // while EndOfData waits for it
	defer timer.Stop()
	v, _ := c.message(plain)
	expect(t, "message", v, "")
	c.Conclude(Ending{})
	if matched := c.records[0].Matched; len(matched) != 1 || !matched[0].Observed {
		t.Errorf("matched %v", matched)
	}
}

// With on_error: defer it matters whether a condition is false or unknown, and that must not depend on which filter was
// quicker: dnsbl has failed at once, and that the rest is false comes later.
func TestDeferralDoesNotDependOnSpeed(t *testing.T) {
	for name, late := range map[string]struct {
		facts listFacts
		want  string
	}{
		"the rest is false": {listFacts{Score: 0}, ""},
		"the rest is true":  {listFacts{Score: 9}, "451 4.4.3"},
	} {
		t.Run(name, func(t *testing.T) {
			open := make(chan struct{})
			f := &fakes{dnsbl: fails[listFacts](), rdns: after(open, late.facts)}
			c := f.connect(t, "dnsbl.score > 1 and rdns.score > 1 -> reject; on_error: defer")
			c.hello()
			c.mail("a@example.com")
			for c.slot(0).status == running {
				c.receive(c.ctx, time.Now().Add(5*time.Second))
			}
			time.AfterFunc(time.Millisecond, func() { close(open) })
			expect(t, "RCPT", c.rcpt("b@example.org"), late.want)
		})
	}
}

// The bypass lets mail pass that rules would have wait for a filter that failed, too.
func TestBypassDefersNothing(t *testing.T) {
	bypass := &Bypass{}
	bypass.Set(time.Now().Add(time.Hour))
	f := &fakes{dnsbl: fails[listFacts]()}
	c := session(t, compile(t, f, f.config("dnsbl.score > 1 -> reject; on_error: defer", "dnsbl.score > 1 -> score; points: 1; on_error: defer")),
		&filters.Session{}, &Runtime{Bypass: bypass})
	c.hello()
	c.mail("a@example.com")
	expect(t, "RCPT", c.rcpt("b@example.org"), "")
}
