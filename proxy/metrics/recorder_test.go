package metrics

import (
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/all"
	"gatepost/filters/filtertest"
	"gatepost/policy"
	"gatepost/proxy/config"
	"gatepost/rules"
)

// compiled is the engine of a configuration.
func compiled(t testing.TB, text string) *policy.Engine {
	t.Helper()
	c, problems := config.Parse("g.yaml", []byte("domains: [example.org]\nbackend: 127.0.0.1:10025\n"+text), all.Specs())
	if c == nil {
		t.Fatal(problems)
	}
	engine, problems := c.Compile(all.Specs(), filtertest.NewEnv(filtertest.NewZone()))
	if engine == nil {
		t.Fatal(problems)
	}
	return engine
}

func newRecorder(t testing.TB) *Recorder {
	t.Helper()
	r, err := NewRecorder(all.Specs())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const watchful = `
rules:
  - {name: forbidden, when: 'helo.name == "bad.test"', then: reject}
  - {name: watched, when: 'exception.client == "none"', then: reject, mode: observe}
`

// played runs sessions of two recipients each through the engine.
func played(t testing.TB, e *policy.Engine, r policy.Recorder, helo string, transactions int) {
	t.Helper()
	ctx := t.Context()
	g := e.NewGate(filtertest.Connected("192.0.2.7").Session, &policy.Runtime{Recorder: r})
	g.Connect(ctx)
	g.Greet(ctx, false, 0)
	g.Helo(ctx, &filters.Greeting{Name: helo, Extended: filters.Known(true)})
	for range transactions {
		g.Mail(ctx, &filters.Envelope{ID: "t", ReversePath: "bob@example.net"})
		code := 0
		for range 2 {
			if v := g.Rcpt(ctx, &filters.Recipient{ForwardPath: "alice@example.org"}); v.Action != 0 && v.Action != rules.Accept {
				continue
			}
			g.Accepted(ctx)
			code = 250
		}
		g.Conclude(policy.Ending{Reply: rules.Reply{Code: code}})
	}
	g.Close("quit")
}

func TestRecordsAreCounted(t *testing.T) {
	e, r := compiled(t, watchful), newRecorder(t)
	r.Use(e.Rules())
	played(t, e, r, "good.test", 3)
	played(t, e, r, "bad.test", 1)
	played(t, e, r, "good.test", 0)
	got := gathered(t, r)
	for name, want := range map[string]float64{
		`gatepost_transactions_total{verdict="accept"}`:                       3,
		`gatepost_transactions_total{verdict="reject"}`:                       1,
		`gatepost_transactions_total{verdict="abandon"}`:                      0,
		`gatepost_recipients_total{by="gatepost",result="refused"}`:           2,
		`gatepost_recipients_total{by="backend",result="accepted"}`:           6,
		`gatepost_rule_matches_total{mode="enforced",rule="forbidden"}`:       2,
		`gatepost_rule_matches_total{mode="observed",rule="forbidden"}`:       0,
		`gatepost_rule_matches_total{mode="observed",rule="watched"}`:         6,
		`gatepost_facts_total{fact="exception.client",value="none"}`:          3, // once for each session
		`gatepost_facts_total{fact="mail.null",value="false"}`:                4, // once for each transaction
		`gatepost_filter_observations_total{filter="ratelimit",status="ok"}`:  0,
		`gatepost_filter_observations_total{filter="exception",status="ok"}`:  3,
		`gatepost_filter_observations_total{filter="dnsbl",status="timeout"}`: 0,
		`gatepost_filter_duration_seconds{filter="exception"}`:                3,
	} {
		if value, ok := got[name]; !ok || value != want {
			t.Errorf("%s is %v (%v), want %v", name, value, ok, want)
		}
	}
}

func TestObservationsOfRecipientsAreAllCounted(t *testing.T) {
	e, r := compiled(t, "rules:\n  - {name: r, when: 'exception.recipient == \"blocked\"', then: reject}\n"), newRecorder(t)
	played(t, e, r, "good.test", 2)
	if n := gathered(t, r)[`gatepost_filter_observations_total{filter="exception",status="ok"}`]; n != 4 {
		t.Errorf("%v observations of 4 recipients", n)
	}
}

func TestSessionsThatARuleRefuses(t *testing.T) {
	e, r := compiled(t, "rules:\n  - {name: r, when: 'exception.client == \"none\"', then: reject, at: connect}\n"), newRecorder(t)
	g := e.NewGate(filtertest.Connected("192.0.2.7").Session, &policy.Runtime{Recorder: r})
	g.Connect(t.Context())
	g.Greet(t.Context(), false, 0)
	g.Close("quit")
	if n := gathered(t, r)[`gatepost_sessions_refused_total{reason="rule"}`]; n != 1 {
		t.Errorf("%v", n)
	}
}

func TestRulesComeAndGo(t *testing.T) {
	r := newRecorder(t)
	rule := func(name string) string {
		return "rules:\n  - {name: " + name + ", when: 'helo.name == \"bad.test\"', then: reject}\n"
	}
	matches := func(name string) (float64, bool) {
		value, ok := gathered(t, r)[`gatepost_rule_matches_total{mode="enforced",rule="`+name+`"}`]
		return value, ok
	}
	first, second := compiled(t, rule("first")), compiled(t, rule("second"))
	r.Use(first.Rules())
	r.Use(first.Rules()) // as it was
	played(t, first, r, "bad.test", 1)
	r.Use(second.Rules())
	played(t, first, r, "bad.test", 1) // a session that finishes on the old rules
	if _, ok := matches("first"); ok {
		t.Error("a rule that is gone is exported")
	}
	r.Use(first.Rules())
	if n, _ := matches("first"); n != 4 {
		t.Errorf("after it came back it has %v matches", n)
	}
	r.Use(second.Rules())
	r.Use(second.Rules())
	if len(r.rules.Load().all) != 1 {
		t.Errorf("%d rules are remembered", len(r.rules.Load().all))
	}
	played(t, first, r, "bad.test", 1) // nobody counts that any more
}

// record is what a transaction leaves.
func record(t testing.TB, r *Recorder, rules string) *policy.Record {
	var last *policy.Record
	e := compiled(t, rules)
	r.Use(e.Rules())
	played(t, e, recorderFunc(func(rec *policy.Record) {
		if rec.Kind == policy.TransactionRecord {
			last = rec
		}
	}), "bad.test", 1)
	for i := range last.Filters {
		last.Filters[i].Duration = 3 * time.Millisecond
	}
	return last
}

type recorderFunc func(*policy.Record)

func (f recorderFunc) Record(rec *policy.Record) { f(rec) }

func TestARecordCostsNothing(t *testing.T) {
	r := newRecorder(t)
	rec := record(t, r, "")
	if n := testing.AllocsPerRun(100, func() { r.Record(rec) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRecord(b *testing.B) {
	for name, rules := range map[string]string{"two rules": watchful, "default rules": ""} {
		b.Run(name, func(b *testing.B) {
			r := newRecorder(b)
			rec := record(b, r, rules)
			b.ReportAllocs()
			for b.Loop() {
				r.Record(rec)
			}
		})
	}
}
