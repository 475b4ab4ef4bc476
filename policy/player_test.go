package policy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/rules"
)

// script is what a client says in a session of one transaction, what its mail server answers, and when it leaves.
type script struct {
	sender  string
	rcpts   []string
	unknown map[string]bool // to the backend
	leaves  Step            // the last step that it takes
	bypass  bool
}

func drawScript(t *rapid.T) script {
	s := script{
		sender:  rapid.SampledFrom([]string{"s@example.com", ""}).Draw(t, "sender"),
		rcpts:   rapid.Permutation(recipientNames).Draw(t, "recipients"),
		unknown: map[string]bool{},
		leaves:  StepEnd,
		bypass:  rapid.IntRange(0, 9).Draw(t, "bypass") == 0,
	}
	s.rcpts = s.rcpts[:rapid.IntRange(1, len(s.rcpts)).Draw(t, "how many")]
	if rapid.IntRange(0, 3).Draw(t, "leaves early") == 0 {
		s.leaves = Step(rapid.IntRange(int(StepGreet), int(StepMessage)).Draw(t, "leaves at"))
	}
	for _, r := range s.rcpts {
		s.unknown[r] = rapid.IntRange(0, 3).Draw(t, r+" is unknown") == 0
	}
	return s
}

type keepRecords struct{ list []*Record }

func (k *keepRecords) Record(r *Record) { k.list = append(k.list, r) }

// run runs the script as a front end does and returns what was recorded: the transaction's, if it came to that, and the
// session's.
func (s *script) run(t *rapid.T, e *Engine) []*Recording {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	kept, bypass := &keepRecords{}, &Bypass{}
	if s.bypass {
		bypass.Set(time.Now().Add(time.Hour))
	}
	g := e.NewGate(&filters.Session{ID: "S", Client: filters.ClientAt(testClient)}, &Runtime{Recorder: kept, Bypass: bypass})
	g.Connect(ctx)
	s.dialogue(ctx, t, g)
	g.Close("")
	var list []*Recording
	for _, r := range kept.list {
		list = append(list, RecordingOf(r))
	}
	return list
}

func (s *script) dialogue(ctx context.Context, t *rapid.T, g *Gate) {
	if g.Greet(ctx, false, 0).Action != 0 || s.leaves < StepHelo {
		return
	}
	if g.Helo(ctx, &filters.Greeting{Name: "client.example.com", Extended: filters.Known(true)}).Action != 0 || s.leaves < StepMail {
		return
	}
	v := g.Mail(ctx, &filters.Envelope{ID: "T", ReversePath: s.sender})
	if v.Action == 0 && s.leaves >= StepRcpt && s.recipients(ctx, g) && s.leaves >= StepData {
		v = s.message(ctx, t, g)
	}
	code := 250
	if v.Action != 0 {
		code = v.Reply.Code
	}
	g.Conclude(Ending{Reply: rules.Reply{Code: code}, Ours: v.Action != 0})
}

func (s *script) recipients(ctx context.Context, g *Gate) bool {
	accepted := 0
	for _, r := range s.rcpts {
		v := g.Rcpt(ctx, &filters.Recipient{ForwardPath: r + "@example.org"})
		switch {
		case v.Action != 0:
		case s.unknown[r]:
			g.Refused(rules.Reply{Code: 550, Enhanced: "5.1.1", Text: "unknown"})
		case g.Accepted(ctx).Action == 0:
			accepted++
		}
	}
	return accepted > 0
}

func (s *script) message(ctx context.Context, t *rapid.T, g *Gate) Verdict {
	if v := g.Data(ctx); v.Action != 0 || s.leaves < StepMessage {
		return v
	}
	m := filters.NewMessage(1<<20, nil)
	t.Cleanup(m.Release)
	g.Message(m)
	if s.leaves < StepEnd {
		return Verdict{}
	}
	if _, err := m.Write([]byte("Subject: hello\r\nFrom: a@example.com\r\n\r\nbody\r\n")); err != nil {
		t.Fatal(err)
	}
	m.Complete()
	v, _ := g.EndOfData(ctx)
	return v
}

// replayAtoms add header fields to what rules read.
var replayAtoms = append([]string{`header("From") != ""`, `header("X-None") == "x"`, "helo.valid", "resolve.valid"}, atoms...)

func drawPolicy(t *rapid.T) []string {
	texts := drawRules(t, replayAtoms, anyAction...)
	for i := range texts {
		label := fmt.Sprintf("rule %d", i)
		if rapid.IntRange(0, 2).Draw(t, label+" defers on errors") == 0 {
			texts[i] += "; on_error: defer"
		}
		if rapid.IntRange(0, 4).Draw(t, label+" observes") == 0 {
			texts[i] += "; mode: observe"
		}
		if at := rapid.SampledFrom([]string{"", "connect", "helo", "mail", "data"}).Draw(t, label+" at"); at != "" && !strings.Contains(texts[i], "-> greylist") {
			texts[i] += "; at: " + at
		}
	}
	return texts
}

// engineFor leaves out rules that cannot act where they say.
func engineFor(t *rapid.T, f *fakes, texts []string) *Engine {
	for {
		e, problems := Compile(f.config(texts...), f.specs(), filters.Env{}, noLists{})
		if e != nil {
			return e
		}
		i := problems[0].Pos.Line - 1
		for _, p := range problems {
			if !p.Warning {
				i = p.Pos.Line - 1
			}
		}
		at := strings.Index(texts[i], "; at:")
		if at < 0 {
			t.Fatalf("%q: %v", texts, problems)
		}
		texts[i] = texts[i][:at]
	}
}

func drawReplayFakes(t *rapid.T) *fakes {
	f := drawFakes(t)
	f.helo = rapid.SampledFrom([]look[heloCheckFacts]{answers(heloCheckFacts{true}), answers(heloCheckFacts{false}), fails[heloCheckFacts](), nil}).Draw(t, "helo")
	f.resolve = drawLook(t, "resolve", heloCheckFacts{true}, heloCheckFacts{false})
	f.early = pauser{on: rapid.Bool().Draw(t, "pauser")}
	if rapid.IntRange(0, 3).Draw(t, "some defer") == 0 {
		f.deferring = []string{"spf", "dnsbl"}
	}
	return f
}

func describe(p *Play) string {
	text := fmt.Sprintf("at %s", stepNames[p.Step])
	if p.Refused != nil {
		text += fmt.Sprintf(" %v %d by %s", p.Refused.Action, p.Refused.Reply.Code, p.Refused.Rule)
	}
	for _, r := range p.Recipients {
		text += fmt.Sprintf("; rcpt %v %d by %s", r.Action, r.Reply.Code, r.Rule)
	}
	if p.Missing != "" {
		text += "; missing " + p.Missing
	}
	return text
}

// The same engine decides again as it did, and never lacks a fact, whatever failed, hung or came late.
func TestPlayUnderTheSameRulesIsTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawReplayFakes(t)
		texts := drawPolicy(t)
		e := engineFor(t, f, texts)
		s := drawScript(t)
		for _, r := range s.run(t, e) {
			was, is := r.Was(), e.NewPlayer(nil).Play(r)
			if is.Missing != "" || !is.Same(&was) {
				t.Fatalf("rules %q\nwas %s\nis  %s\nlooks %+v", texts, describe(&was), describe(&is), r.Looks)
			}
		}
	})
}

// Under other rules the play tells what would really have happened, or that it cannot be told.
func TestPlayUnderOtherRulesIsTheTruth(t *testing.T) {
	told, missing, differ := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		f := drawReplayFakes(t)
		f.timeout = time.Second
		steady(t, &f.dnsbl)
		steady(t, &f.rdns)
		steady(t, &f.helo)
		steady(t, &f.resolve)
		steady(t, &f.spf)
		steady(t, &f.dkim)
		steady(t, &f.dmarc)
		texts := drawPolicy(t)
		before := engineFor(t, f, texts)
		i := rapid.IntRange(0, len(texts)-1).Draw(t, "mutated")
		changed := append([]string(nil), texts...)
		changed[i] = drawPolicy(t)[0]
		after := engineFor(t, f, changed)
		s := drawScript(t)
		was, is := s.run(t, before), s.run(t, after)
		play := after.NewPlayer(nil).Play(was[0])
		if play.Missing != "" {
			missing++
			return
		}
		told++
		if len(was) > len(is) { // refused before MAIL now
			is = append([]*Recording{nil}, is...)
			is[0] = is[1]
		}
		truth := is[0].Was()
		if old := was[0].Was(); !old.Same(&truth) {
			differ++
		}
		if play.Step > s.leaves { // a client that was refused would have stayed, for all that is known
			play.Refused = nil
		}
		if !play.Same(&truth) {
			old := was[0].Was()
			t.Fatalf("rules %q\nnow   %q\nwas   %s\nplay  %s\ntruth %s", texts, changed, describe(&old), describe(&play), describe(&truth))
		}
	})
	t.Logf("%d told, %d of them differ, %d cannot be told", told, differ, missing)
}

// Where nothing of a message was recorded, rules that do not need it can be told all the same.
func TestPlayNamesWhatIsMissing(t *testing.T) {
	f := &fakes{dnsbl: answers(listFacts{Score: 9}), dkim: answers(dkimFacts{"fail"})}
	record := func(texts ...string) *Recording {
		c := f.connect(t, texts...)
		c.deliver("a@example.com", "b@example.org")
		if len(c.Gate.tx.accepted) > 0 {
			c.message(plain)
		}
		c.Conclude(Ending{})
		return RecordingOf(c.records[0])
	}
	refused := record("dnsbl.score > 4 -> reject")
	taken := record("client.port == 0 -> reject")
	for _, test := range []struct {
		recording *Recording
		rule      string
		missing   string
	}{
		{refused, "dnsbl.score > 8 -> reject", ""},
		{refused, "dnsbl.score > 10 -> reject", "the mail server's answer to RCPT"},
		{taken, "dnsbl.score > 8 -> reject", "dnsbl.score"},
		{taken, `dkim.result == "fail" -> reject`, "dkim.result"},
		{taken, `client.port > 0 or dkim.result == "fail" -> reject`, ""},
		{taken, `header("Subject") == "x" -> reject`, `header("Subject")`},
		{taken, `header("Subject") == "x" and message.size > 1000000 -> reject`, ""},
		{taken, "dnsbl.score > 8 -> reject; mode: observe", ""},
	} {
		play := compile(t, f, f.config(test.rule)).NewPlayer(nil).Play(test.recording)
		if play.Missing != test.missing {
			t.Errorf("%s: missing %q, want %q", test.rule, play.Missing, test.missing)
		}
	}
}

// During a bypass nothing is decided, and observed rules do not wait: which of them matched, and so what was waited for behind
// them, was a matter of timing. Nothing that is not recorded is missed.
func TestPlayOfABypassMissesNothing(t *testing.T) {
	f := &fakes{spf: answers(spfFacts{Result: "fail"}), dnsbl: answers(listFacts{Score: 9})}
	c := f.connect(t, `dnsbl.score > 8 -> reject`)
	c.runtime.Bypass = &Bypass{}
	c.runtime.Bypass.Set(time.Now().Add(time.Hour))
	c.deliver("a@example.com", "b@example.org")
	c.message(plain)
	c.Conclude(Ending{Reply: rules.Reply{Code: 250}})
	r := RecordingOf(c.records[0])
	if !r.Bypassed.Transaction {
		t.Fatal("no bypass")
	}
	r.Looks, r.Message = nil, nil
	texts := []string{`spf.result == "fail" -> score; points: 2`, `message.size > 10 -> score; points: 2; at: message`, `dnsbl.score > 8 -> reject`}
	if play := compile(t, f, f.config(texts...)).NewPlayer(nil).Play(r); play.Missing != "" || play.Refused != nil || play.Step != StepEnd {
		t.Errorf("%s", describe(&play))
	}
}

// What another release recorded has its own structs, with facts of its own.
func TestPlayOfForeignFacts(t *testing.T) {
	f := &fakes{dnsbl: answers(listFacts{})}
	c := f.connect(t, "dnsbl.score > 4 -> reject")
	c.deliver("a@example.com", "b@example.org")
	c.Conclude(Ending{})
	r := RecordingOf(c.records[0])
	for name, test := range map[string]struct {
		values  values
		action  rules.Action
		missing string
	}{
		"all there":        {values{"dnsbl.score": 7.0, "dnsbl.listed": "x", "dnsbl.later": true}, rules.Reject, ""},
		"one not recorded": {values{"dnsbl.score": 7.0}, 0, "dnsbl.score"},
		"one absent":       {values{"dnsbl.score": 7.0, "dnsbl.listed": nil}, 0, "dnsbl.score"},
		"another kind":     {values{"dnsbl.score": "7", "dnsbl.listed": "x"}, 0, "dnsbl.score"},
	} {
		r.Looks[0].Facts = test.values
		play := compile(t, f, f.config("dnsbl.score > 4 -> reject")).NewPlayer(nil).Play(r)
		action := rules.Action(0)
		if len(play.Recipients) > 0 {
			action = play.Recipients[0].Action
		}
		if play.Missing != test.missing || action != test.action {
			t.Errorf("%s: %s", name, describe(&play))
		}
	}
}

type values map[string]any

func (v values) Shape() any      { return fmt.Sprint(v.Names()) }
func (v values) Names() []string { return slices.Sorted(maps.Keys(v)) }
func (v values) Visit(visitor ValueVisitor) {
	for i, name := range v.Names() {
		switch value := v[name].(type) {
		case bool:
			visitor.Bool(i, value)
		case float64:
			visitor.Number(i, value)
		case string:
			visitor.Text(i, value)
		}
	}
}

// BenchmarkPlay is a transaction with 5 rules and 3 filters.
func BenchmarkPlay(b *testing.B) {
	f := &fakes{dnsbl: answers(listFacts{}), rdns: answers(listFacts{}), spf: answers(spfFacts{Result: "pass"})}
	e, m := compile(b, f, f.config(benchRules...)), completeMessage(b)
	kept := &keepRecords{}
	play(b, e, benchSession, m, &Runtime{Recorder: kept})
	r, p := RecordingOf(kept.list[0]), e.NewPlayer(nil)
	b.ReportAllocs()
	for b.Loop() {
		if result := p.Play(r); result.Missing != "" || result.Step != StepEnd {
			b.Fatal(describe(&result))
		}
	}
}

// Where local parts were disguised, rules that tell them apart cannot be told, save by those that everybody has.
func TestPlayOfDisguisedAddresses(t *testing.T) {
	f := &fakes{}
	c := f.connect(t, `rcpt.local == "b" -> reject`)
	c.deliver("a@example.com", "c@example.org")
	c.Conclude(Ending{})
	r := RecordingOf(c.records[0])
	r.Disguised = true
	for when, missing := range map[string]string{
		`rcpt.local == "b"`: "rcpt.local", `mail.domain == "b" and mail.address == "x"`: "mail.address", "len(mail.local) > 64": "mail.local",
		`rcpt.local in ["postmaster", "abuse"]`: "", `mail.domain == "b"`: "", `in_list(rcpt.address, "postmaster")`: "rcpt.address",
	} {
		config := f.config(when + " -> reject")
		e, _ := Compile(config, f.specs(), filters.Env{}, emptyLists{})
		if e == nil {
			t.Fatal(when)
		}
		if play := e.NewPlayer(nil).Play(r); play.Missing != missing {
			t.Errorf("%s: missing %q, want %q", when, play.Missing, missing)
		}
	}
}

type emptyLists struct{}

func (emptyLists) ReadList(string) ([]byte, error) { return nil, nil }
