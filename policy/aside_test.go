package policy

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/rules"
)

// envelopeHeard is what a client hears about its recipients, and what is recorded of that.
type envelopeHeard struct {
	verdicts []string // by recipient
	recorded []string
	data     string
}

// askTogether plays a transaction whose recipients are asked for in groups of a size; 1 is one at a time. Those of the name
// unknown are refused by the backend.
func askTogether(t *rapid.T, e *Engine, to []string, group int) (h envelopeHeard, together bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if counter, ok := e.Filter("counter").(*counter); ok {
		counter.begin()
	}
	c := &client{}
	g := e.NewGate(&filters.Session{ID: "S", Client: filters.ClientAt(testClient)}, &Runtime{Recorder: c})
	defer g.Close("")
	g.Connect(ctx)
	for _, v := range []Verdict{g.Greet(ctx, false, 0), g.Helo(ctx, &filters.Greeting{Name: "client.example.com"}), g.Mail(ctx, &filters.Envelope{ID: "T", ReversePath: "s@example.com"})} {
		if v.Action != 0 {
			return h, false
		}
	}
	h.verdicts = make([]string, len(to))
	var waiting []int
	answer := func() {
		for _, i := range waiting {
			if to[i] == "unknown" {
				g.Refused(rules.Reply{Code: 550})
				h.verdicts[i] = "550 by the backend"
			} else {
				h.verdicts[i] = spoken(g.Accepted(ctx))
			}
		}
		waiting = nil
	}
	for i, r := range to {
		if v := g.Rcpt(ctx, &filters.Recipient{ForwardPath: r + "@example.org"}); v.Action != 0 {
			h.verdicts[i] = spoken(v)
			answer()
			continue
		}
		waiting = append(waiting, i)
		if more := i+1 < len(to) && len(waiting) < group; (more || len(waiting) > 1) && g.Aside() && more {
			continue
		}
		together = together || len(waiting) > 1
		answer()
	}
	answer()
	if slices.Contains(h.verdicts, "") {
		h.data = spoken(g.Data(ctx))
	}
	g.Conclude(Ending{})
	for _, r := range c.records[0].Recipients {
		heard := fmt.Sprint(r.Address, r.Reply.Code, r.Asked)
		for _, f := range r.Filters {
			heard += fmt.Sprintf(" %s %s %+v", f.Name, f.Status, f.Facts)
		}
		h.recorded = append(h.recorded, heard)
	}
	return h, together
}

// promptFakes answer or fail at once: what one gate has in time, another has too.
func promptFakes(t *rapid.T) *fakes {
	lists := []look[listFacts]{answers(listFacts{Score: 0}), answers(listFacts{Score: 5}), fails[listFacts]()}
	return &fakes{
		dnsbl: rapid.SampledFrom(lists).Draw(t, "dnsbl"),
		rdns:  rapid.SampledFrom(lists).Draw(t, "rdns"),
		spf:   rapid.SampledFrom([]look[spfFacts]{answers(spfFacts{"pass"}), answers(spfFacts{"fail"}), fails[spfFacts]()}).Draw(t, "spf"),
		dkim:  answers(dkimFacts{"pass"}),
		dmarc: fails[dmarcFacts](),
		quota: func(_ context.Context, v filters.View) (*quotaFacts, error) { return overOf(v) },
		grey: &greylist{
			state: rapid.SampledFrom([]filters.GreylistState{filters.GreylistNew, filters.GreylistEarly, filters.GreylistPassed}).Draw(t, "greylist"),
			alone: rapid.Bool().Draw(t, "greylists alone"),
		},
	}
}

// However many recipients are under way, each is told and recorded the same.
func TestAsideChangesNothing(t *testing.T) {
	together, counted := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		f := promptFakes(t)
		f.independent = true
		f.quota = rapid.SampledFrom([]look[quotaFacts]{f.quota, fails[quotaFacts](), nil}).Draw(t, "quota")
		if f.quota != nil && rapid.Bool().Draw(t, "failed quota defers") {
			f.deferring = []string{"quota"}
		}
		texts := drawRules(t, atoms, append(anyAction, "accept", "greylist")...)
		if rapid.Bool().Draw(t, "counts") {
			f.counter = &counter{accepted: rapid.IntRange(0, 8).Draw(t, "accepted"), refused: rapid.IntRange(1, 8).Draw(t, "refused")}
			texts = append(texts, "counter.over -> defer; reply: 452 4.5.3 Enough")
		}
		e := engineOf(t, f, texts)
		to := rapid.SliceOfN(rapid.SampledFrom(append(recipientNames, "unknown")), 1, 6).Draw(t, "recipients")
		one, _ := askTogether(t, e, to, 1)
		for _, group := range []int{2, 50} {
			many, together2 := askTogether(t, e, to, group)
			if fmt.Sprint(one) != fmt.Sprint(many) {
				t.Fatalf("%q: %q: one at a time\n%+v, in groups of %d\n%+v", texts, to, one, group, many)
			}
			if together2 {
				together++
				if f.counter != nil && f.counter.foresight > 0 {
					counted++
				}
			}
		}
	})
	if together == 0 || counted == 0 {
		t.Errorf("%d times set aside, %d of them with a filter that foresees", together, counted)
	}
}

// What becomes known while recipients wait for the backend is known to them.
func TestAsideHearsOfWhatBecomesKnown(t *testing.T) {
	open := make(chan struct{})
	f := &fakes{dnsbl: func(ctx context.Context, _ filters.View) (*listFacts, error) {
		<-open
		return &listFacts{Score: 5}, nil
	}}
	c := f.connect(t, `dnsbl.score > 1 and message.size > 0 -> reject`)
	c.hello()
	c.mail("a@example.com")
	for _, r := range []string{"a@example.org", "b@example.org"} {
		if v := c.Rcpt(c.ctx, &filters.Recipient{ForwardPath: r}); v.Action != 0 || !c.Aside() {
			t.Fatal("not set aside")
		}
	}
	close(open)
	for c.running() > 0 {
		c.poll()
	}
	expect(t, "first", c.Accepted(c.ctx), "")
	expect(t, "second", c.Accepted(c.ctx), "")
	for _, r := range []*recipient{c.tx.class, c.tx.rcpt} {
		if score, known := r.facts.Lookup("dnsbl.score"); !known {
			t.Errorf("%s: %v", r.ForwardPath, score)
		}
	}
	v, _ := c.message(plain)
	expect(t, "message", v, "550")
}

// What becomes of one recipient decides about the next: nobody is set aside.
func TestAsideNeedsIndependence(t *testing.T) {
	for _, test := range []struct {
		rule  string
		grey  *greylist
		aside bool
	}{
		{`rcpt.local == "b" -> reject`, nil, true},
		{"rcpt.count > 1 -> reject", nil, false},
		{"quota.over -> reject", nil, false},
		{"mailbox.over -> reject", nil, false},
		{"client.port > 0 -> greylist", &greylist{}, true},
		{"client.port > 0 -> greylist", &greylist{alone: true}, false},
	} {
		c := (&fakes{grey: test.grey, mailbox: overAfter(0), quota: func(_ context.Context, v filters.View) (*quotaFacts, error) { return overOf(v) }}).connect(t, test.rule)
		c.hello()
		c.mail("")
		c.Rcpt(c.ctx, &filters.Recipient{ForwardPath: "a@example.org"})
		if aside := c.Aside(); aside != test.aside {
			t.Errorf("%s, greylist %+v: %v", test.rule, test.grey, aside)
		}
	}
}
