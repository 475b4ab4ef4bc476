package policy

import (
	"context"
	"testing"
	"time"

	"gatepost/filters"
)

// TestBehindAnMTA: a gate that an MTA asks about a connection leaves to it what is the MTA's.
func TestBehindAnMTA(t *testing.T) {
	f := &fakes{early: pauser{on: true, pause: 3 * time.Second}}
	engine := compile(t, f, f.config("earlytalker.waited >= 0 -> reject; at: connect", "not known(helo.extended) and helo.name == \"sure\" -> reject; at: helo"))
	c := session(t, engine, &filters.Session{Client: filters.Client{AskedByMTA: true}}, &Runtime{})
	if pause := c.Connect(c.ctx); pause != 0 {
		t.Errorf("the greeting is held back by %v", pause)
	}
	expect(t, "greeting", c.Greet(c.ctx, false, 0), "")
	expect(t, "EHLO", c.Helo(c.ctx, &filters.Greeting{Name: "sure", Extended: filters.Known(true)}), "")
	expect(t, "HELO or EHLO", c.Helo(c.ctx, &filters.Greeting{Name: "sure"}), "550")
	c.Helo(c.ctx, &filters.Greeting{Name: "other"})
	c.mail("a@example.com")
	expect(t, "a recipient elsewhere", c.rcpt("b@elsewhere.test"), "")
}

func TestBodiesThatNobodyReads(t *testing.T) {
	reads := func(context.Context, filters.View) (*dkimFacts, error) { return &dkimFacts{Result: "none"}, nil }
	for _, test := range []struct {
		name    string
		filters *fakes
		rules   []string
		session filters.Session
		from    string
		engine  bool // somebody may read bodies
		leave   bool
	}{
		{name: "no rule", filters: &fakes{}, leave: true},
		{name: "only the header", filters: &fakes{}, rules: []string{`header("Subject") == "x" -> reject`}, leave: true},
		{name: "the size", filters: &fakes{}, rules: []string{"message.size > 1 -> reject"}, engine: true},
		{name: "the size, observed", filters: &fakes{}, rules: []string{"message.size > 1 -> reject; mode: observe"}, engine: true},
		{name: "the size, but trusted", filters: &fakes{}, rules: []string{"message.size > 1 -> reject"}, session: filters.Session{Client: filters.Client{Trusted: true}}, engine: true, leave: true},
		{name: "a filter", filters: &fakes{dkim: reads}, rules: []string{`dkim.result == "fail" -> reject`}, engine: true},
		{name: "a filter, but discarded", filters: &fakes{dkim: reads}, rules: []string{`mail.local == "void" -> discard`, `dkim.result == "fail" -> reject`}, from: "void@example.com", engine: true, leave: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			engine := compile(t, test.filters, test.filters.config(test.rules...))
			if engine.ReadsBodies() != test.engine {
				t.Errorf("the engine reads bodies: %t", engine.ReadsBodies())
			}
			c := session(t, engine, &test.session, &Runtime{})
			c.hello()
			c.mail(test.from)
			c.rcpt("b@example.org")
			c.Data(c.ctx)
			m := filters.NewMessage(1<<20, nil)
			defer m.Release()
			c.Message(m)
			if leave := c.LeaveBody(); leave != test.leave {
				t.Errorf("leaves the body: %t", leave)
			}
			m.Write([]byte("Subject: x\r\n\r\n"))
			m.Complete()
			c.EndOfData(c.ctx)
			c.Conclude(Ending{})
			if size, known := c.records[0].Facts.Lookup("message.size"); known == test.leave {
				t.Errorf("message.size is %v, known: %t", size, known)
			}
		})
	}
}
