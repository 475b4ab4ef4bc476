package policy

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/rules"
)

// What must never happen, whatever the rules, the recipients, and the order and luck of the filters.

// atoms are conditions over facts of every stage, some of which fail, hang or come late.
var atoms = []string{
	"client.port > 0", "dnsbl.score > 1", "known(dnsbl.score)", "rdns.score > 1",
	`mail.local == "s"`, "mail.null", `spf.result == "fail"`,
	`rcpt.local == "a"`, `rcpt.local in ["b", "c"]`, "rcpt.count > 1", "quota.over", "mailbox.over",
	`greylist.state == "passed"`,
	"message.size > 40", `header("Subject") == "hello"`, `dkim.result == "fail"`, `dmarc.result == "fail"`, "score > 2",
}

func condition(t *rapid.T, label string, from []string) string {
	atom := func(l string) string {
		text := rapid.SampledFrom(from).Draw(t, l)
		if rapid.Bool().Draw(t, l+" negated") {
			return "not (" + text + ")"
		}
		return text
	}
	text := atom(label)
	if rapid.Bool().Draw(t, label+" joined") {
		text = fmt.Sprintf("(%s) %s (%s)", text, rapid.SampledFrom([]string{"and", "or"}).Draw(t, label+" by"), atom(label+" with"))
	}
	return text
}

func drawRules(t *rapid.T, from []string, actions ...string) []string {
	var texts []string
	for i := range rapid.IntRange(1, 6).Draw(t, "rules") {
		label := fmt.Sprintf("rule %d", i)
		texts = append(texts, condition(t, label, from)+" -> "+rapid.SampledFrom(actions).Draw(t, label+" action"))
	}
	return texts
}

var anyAction = []string{
	"accept", "reject", "reject; reply: 554 5.7.1 other", "defer", "greylist", "discard", "quarantine", "drop",
	"score; points: 2", "tag; header: X-Tag: {rcpt.local}", "slow; delay: 1s",
}

// drawLook makes a filter that answers, at once or late, fails or hangs. What it answers is drawn once.
func drawLook[T any](t *rapid.T, name string, values ...T) look[T] {
	value := rapid.SampledFrom(values).Draw(t, name)
	switch rapid.SampledFrom([]string{"at once", "late", "fails", "hangs", "off"}).Draw(t, name+" answers") {
	case "at once":
		return answers(value)
	case "late":
		return func(ctx context.Context, _ filters.View) (*T, error) {
			select {
			case <-time.After(time.Millisecond):
				return &value, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	case "fails":
		return fails[T]()
	case "hangs":
		return hangs[T]()
	default:
		return nil
	}
}

func drawFakes(t *rapid.T) *fakes {
	lists := []listFacts{{Score: 0}, {Score: 5}}
	return &fakes{
		dnsbl:   drawLook(t, "dnsbl", lists...),
		rdns:    drawLook(t, "rdns", lists...),
		spf:     drawLook(t, "spf", spfFacts{"pass"}, spfFacts{"fail"}),
		dkim:    drawLook(t, "dkim", dkimFacts{"pass"}, dkimFacts{"fail"}),
		dmarc:   drawLook(t, "dmarc", dmarcFacts{"pass"}, dmarcFacts{"fail"}),
		quota:   func(_ context.Context, v filters.View) (*quotaFacts, error) { return overOf(v) },
		mailbox: overAfter(time.Millisecond),
		grey: &greylist{
			state: rapid.SampledFrom([]filters.GreylistState{filters.GreylistNew, filters.GreylistEarly, filters.GreylistPassed}).Draw(t, "greylist"),
			alone: rapid.Bool().Draw(t, "greylists alone"),
		},
		timeout: 3 * time.Millisecond,
	}
}

func overOf(v filters.View) (*quotaFacts, error) {
	local, _ := filters.SplitAddress(v.Recipient.ForwardPath)
	return &quotaFacts{Over: local == "over"}, nil
}

// heard is what the client of one transaction heard.
type heard struct {
	rcpt map[string]Verdict
	data Verdict
	tags string
}

func engineOf(t *rapid.T, f *fakes, texts []string) *Engine {
	e, problems := Compile(f.config(texts...), f.specs(), filters.Env{}, noLists{})
	if e == nil {
		t.Fatalf("%v: %v", texts, problems)
	}
	return e
}

// transact plays one session of one transaction. Recipients are distinct.
func transact(t *rapid.T, e *Engine, rt *Runtime, sender string, to []string) (h heard, spokenBefore bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	g := e.NewGate(&filters.Session{ID: "S", Client: filters.ClientAt(testClient)}, rt)
	defer g.Close("")
	h.rcpt = map[string]Verdict{}
	g.Connect(ctx)
	before := []Verdict{g.Greet(ctx, false, 0), g.Helo(ctx, &filters.Greeting{Name: "client.example.com"}), g.Mail(ctx, &filters.Envelope{ID: "T", ReversePath: sender})}
	for _, v := range before {
		if v.Action != 0 {
			return h, true
		}
	}
	needed := g.NeedsBackend(ctx)
	accepted := 0
	for _, r := range to {
		v := g.Rcpt(ctx, &filters.Recipient{ForwardPath: r + "@example.org"})
		if v.Action == 0 {
			if !needed && (e.askBackend || !g.NeedsBackend(ctx)) {
				t.Fatalf("RCPT of %s needs the backend, but a refusal was certain", r)
			}
			v = g.Accepted(ctx)
		}
		h.rcpt[r] = v
		if v.Action == 0 {
			accepted++
		}
	}
	if accepted > 0 {
		if h.data = g.Data(ctx); h.data.Action == 0 {
			m := filters.NewMessage(1<<20, nil)
			defer m.Release()
			g.Message(m)
			if _, err := m.Write([]byte("Subject: hello\r\nFrom: a@example.com\r\n\r\nbody\r\n")); err != nil {
				t.Fatal(err)
			}
			m.Complete()
			var edits Edits
			h.data, edits = g.EndOfData(ctx)
			h.tags = string(edits.Prepend)
		}
	}
	g.Conclude(Ending{})
	return h, false
}

var testClient = netip.MustParseAddrPort("192.0.2.9:4000")

var recipientNames = []string{"a", "b", "c", "over", "postmaster"}

func TestNeverHalfGreylisted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := engineOf(t, drawFakes(t), drawRules(t, atoms, append(anyAction, "greylist", "greylist")...))
		to := rapid.Permutation(recipientNames).Draw(t, "recipients")
		h, _ := transact(t, e, nil, rapid.SampledFrom([]string{"s@example.com", ""}).Draw(t, "sender"), to)
		delivered, greylisted := "", ""
		for r, v := range h.rcpt {
			switch {
			case v.Action == rules.Greylist:
				greylisted = r
			case v.Action == 0 && h.data.Action == 0:
				delivered = r
			}
		}
		if delivered != "" && greylisted != "" {
			t.Fatalf("%s is delivered to, and %s greylisted", delivered, greylisted)
		}
	})
}

// Whoever shares a transaction gets the answer that it would have got alone: the same reply at the end of data, and the
// same tags.
func TestClassesNeverMixAnswers(t *testing.T) {
	actions := []string{"accept", "reject", "reject; reply: 554 5.7.1 other", "defer", "discard", "quarantine", "score; points: 2", "tag; header: X-Tag: {mail.local}"}
	rapid.Check(t, func(t *rapid.T) {
		f := drawFakes(t)
		// A look-up that races its time-out may come out differently in the second session; that is not the subject.
		f.timeout = time.Second
		for _, l := range []*look[listFacts]{&f.dnsbl, &f.rdns} {
			steady(t, l)
		}
		steady(t, &f.spf)
		steady(t, &f.dkim)
		steady(t, &f.dmarc)
		// How many are in front is no property of a recipient.
		alike := slices.DeleteFunc(slices.Clone(atoms), func(atom string) bool { return strings.HasPrefix(atom, "rcpt.count") })
		texts := drawRules(t, alike, actions...)
		e := engineOf(t, f, texts)
		to := rapid.Permutation(recipientNames).Draw(t, "recipients")
		together, early := transact(t, e, nil, "s@example.com", to)
		if early {
			return
		}
		for r, v := range together.rcpt {
			if v.Action != 0 {
				continue
			}
			alone, _ := transact(t, e, nil, "s@example.com", []string{r})
			if got, want := spoken(together.data), spoken(alone.data); alone.rcpt[r].Action != 0 || got != want || together.tags != alone.tags {
				t.Fatalf("%s with others: %q %q; alone: %q %q %q", r, got, together.tags, spoken(alone.rcpt[r]), want, alone.tags)
			}
		}
	})
}

func steady[T any](t *rapid.T, l *look[T]) {
	if *l == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Millisecond)
	defer cancel()
	facts, err := (*l)(ctx, filters.View{})
	*l = func(context.Context, filters.View) (*T, error) {
		time.Sleep(100 * time.Microsecond)
		return facts, err
	}
}

// Of a fact that is absent nothing follows: neither greylisting nor acceptance, however it is negated.
func TestAbsentFactsDecideNothing(t *testing.T) {
	absent := []string{"dnsbl.score > 1", "rdns.score > 1", `spf.result == "fail"`, `spf.result in ["pass", "none"]`, `dkim.result == "pass"`, "dnsbl.score + rdns.score < 5"}
	rapid.Check(t, func(t *rapid.T) {
		f := &fakes{grey: &greylist{state: filters.GreylistNew}, timeout: 2 * time.Millisecond}
		f.dnsbl = rapid.SampledFrom([]look[listFacts]{nil, fails[listFacts](), hangs[listFacts]()}).Draw(t, "dnsbl")
		f.rdns = rapid.SampledFrom([]look[listFacts]{nil, fails[listFacts](), panics[listFacts]()}).Draw(t, "rdns")
		f.spf = rapid.SampledFrom([]look[spfFacts]{nil, fails[spfFacts](), hangs[spfFacts]()}).Draw(t, "spf")
		f.dkim = rapid.SampledFrom([]look[dkimFacts]{nil, fails[dkimFacts](), hangs[dkimFacts]()}).Draw(t, "dkim")
		var texts []string
		for i := range rapid.IntRange(1, 4).Draw(t, "rules") {
			text := rapid.SampledFrom(absent).Draw(t, fmt.Sprint(i))
			if rapid.Bool().Draw(t, fmt.Sprint(i, " negated")) {
				text = "not (" + text + ")"
			}
			texts = append(texts, text+" -> "+rapid.SampledFrom([]string{"greylist", "accept", "reject", "discard", "quarantine", "drop"}).Draw(t, fmt.Sprint(i, " action")))
		}
		texts = append(texts, "message.size > 0 -> defer; reply: 450 4.7.0 end of rules")
		h, _ := transact(t, engineOf(t, f, texts), nil, "s@example.com", []string{"a"})
		if h.rcpt["a"].Action != 0 || h.data.Reply.Code != 450 {
			t.Fatalf("%q %q", spoken(h.rcpt["a"]), spoken(h.data))
		}
		if f.grey.attempts != 0 {
			t.Fatal("an attempt was recorded")
		}
	})
}

func TestObserveChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		texts := drawRules(t, atoms, anyAction...)
		bypassed := rapid.Bool().Draw(t, "by bypass")
		rt := &Runtime{Bypass: new(Bypass)}
		if bypassed {
			rt.Bypass.Set(time.Now().Add(time.Hour))
		}
		f := drawFakes(t)
		for i := range texts {
			if !bypassed {
				texts[i] += "; mode: observe"
			}
		}
		h, early := transact(t, engineOf(t, f, texts), rt, "s@example.com", rapid.Permutation(recipientNames).Draw(t, "recipients"))
		if early {
			t.Fatal("refused before RCPT")
		}
		for r, v := range h.rcpt {
			if v.Action != 0 || !bypassed && v != (Verdict{}) {
				t.Fatalf("%s: %+v", r, v)
			}
		}
		if h.data.Action != 0 || !bypassed && h.data != (Verdict{}) {
			t.Fatalf("data: %+v", h.data)
		}
		if f.grey.attempts != 0 {
			t.Fatal("an attempt was recorded")
		}
	})
}
