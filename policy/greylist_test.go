package policy

import (
	"context"
	"errors"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/rules"
)

const suspicious = `mail.domain == "example.com" and rcpt.local != "exempt" -> greylist`

func TestGreylistAsksTheBackendFirst(t *testing.T) {
	f := &fakes{grey: &greylist{state: filters.GreylistNew}, spf: answers(spfFacts{Result: "pass"})}
	c := f.connect(t, `greylist.state == "passed" -> accept`, suspicious)
	c.hello()
	c.mail("a@example.com")
	v := c.Rcpt(c.ctx, &filters.Recipient{ForwardPath: "b@example.org"})
	expect(t, "before the backend", v, "")
	if f.grey.attempts != 0 {
		t.Error("an attempt is recorded for a recipient that the backend may not know")
	}
	expect(t, "behind the backend", c.Accepted(c.ctx), "451 4.7.1 Greylisted, please try again in 5 minutes (id T1)")
	if f.grey.looked != "pass" {
		t.Errorf("the greylister's observation did not wait for SPF: %q", f.grey.looked)
	}
	if f.grey.seen != "pass" {
		t.Errorf("the greylister saw the SPF result %q", f.grey.seen)
	}
	expect(t, "second", c.rcpt("c@example.org"), "451 4.7.1 Greylisted")
	expect(t, "exempt, behind it", c.rcpt("exempt@example.org"), "451 4.7.1 Greylisted")
	if f.grey.attempts != 1 {
		t.Errorf("%d attempts in one transaction", f.grey.attempts)
	}
}

func TestGreylistBehindAnAcceptedRecipient(t *testing.T) {
	f := &fakes{grey: &greylist{state: filters.GreylistEarly}}
	c := f.connect(t, suspicious)
	c.hello()
	c.mail("a@example.com")
	expect(t, "exempt", c.rcpt("exempt@example.org"), "")
	expect(t, "greylisted", c.rcpt("b@example.org"), "452 4.5.3")
	expect(t, "greylisted", c.rcpt("c@example.org"), "452 4.5.3")
	expect(t, "exempt", c.rcpt("exempt@example.org"), "")
	if f.grey.attempts != 1 {
		t.Errorf("%d attempts in one transaction", f.grey.attempts)
	}
	v, _ := c.message(plain)
	expect(t, "message", v, "")
}

func TestGreylistPassed(t *testing.T) {
	f := &fakes{grey: &greylist{state: filters.GreylistPassed}}
	c := f.connect(t, suspicious, `rcpt.local == "trap" -> reject`)
	c.hello()
	c.mail("a@example.com")
	expect(t, "first", c.rcpt("b@example.org"), "")
	expect(t, "second", c.rcpt("c@example.org"), "")
	// A greylisting that was passed shields from nothing behind it.
	expect(t, "trap", c.rcpt("trap@example.org"), "550")
}

func TestGreylistStoreDown(t *testing.T) {
	f := &fakes{grey: &greylist{err: errors.New("store is closed")}}
	c := f.connect(t, suspicious)
	expect(t, "rcpt", c.deliver("a@example.com", "b@example.org")[1], "")
}

// RFC 6647, 5: the null reverse-path of a callout must hear the truth at RCPT.
func TestGreylistOfNullSenderIsSpokenAtData(t *testing.T) {
	for _, test := range []struct {
		state filters.GreylistState
		want  string
	}{{filters.GreylistNew, "451 4.7.1 Greylisted"}, {filters.GreylistPassed, ""}} {
		f := &fakes{grey: &greylist{state: test.state}}
		c := f.connect(t, `mail.null and rcpt.local != "exempt" -> greylist`)
		c.hello()
		c.mail("")
		expect(t, "rcpt", c.rcpt("b@example.org"), "")
		expect(t, "exempt", c.rcpt("exempt@example.org"), "")
		if f.grey.attempts != 0 {
			t.Error("a callout was recorded as an attempt")
		}
		v, _ := c.message(plain)
		expect(t, "data", v, test.want)
	}

	f := &fakes{grey: &greylist{state: filters.GreylistNew}}
	c := f.connect(t, `mail.null and rcpt.local != "exempt" -> greylist`)
	c.hello()
	c.mail("")
	expect(t, "exempt first", c.rcpt("exempt@example.org"), "")
	expect(t, "greylistable behind it", c.rcpt("b@example.org"), "452")
	v, _ := c.message(plain)
	expect(t, "data", v, "")
}

func TestGreylistWithoutTheBackend(t *testing.T) {
	f := &fakes{grey: &greylist{state: filters.GreylistNew, alone: true}}
	c := f.connect(t, `mail.domain == "example.com" -> greylist`)
	c.hello()
	c.mail("a@example.com")
	if c.NeedsBackend(c.ctx) {
		t.Error("the backend is dialled for nothing")
	}
	expect(t, "rcpt", c.Rcpt(c.ctx, &filters.Recipient{ForwardPath: "b@example.org"}), "451 4.7.1 Greylisted")
	c.Conclude(Ending{})

	f.grey.state = filters.GreylistPassed
	c.mail("a@example.com")
	expect(t, "rcpt", c.Rcpt(c.ctx, &filters.Recipient{ForwardPath: "b@example.org"}), "")
	if !c.NeedsBackend(c.ctx) {
		t.Error("the sender has passed, and the backend is not dialled")
	}
}

func TestGreylistAtTheEndOfData(t *testing.T) {
	f := &fakes{grey: &greylist{state: filters.GreylistNew}}
	c := f.connect(t, "message.size > 0 -> greylist; reply: 451 4.7.1 Later")
	c.deliver("a@example.com", "b@example.org", "c@example.org")
	v, _ := c.message(plain)
	expect(t, "message", v, "451 4.7.1 Later")
	if v.Action != rules.Greylist {
		t.Error(v.Action)
	}
}

func TestGreylistFilterOff(t *testing.T) {
	f := &fakes{}
	e, problems := Compile(f.config(suspicious), f.specs(), filters.Env{}, noLists{})
	if len(problems) != 1 || !problems[0].Warning {
		t.Error(problems)
	}
	c := session(t, e, &filters.Session{}, &Runtime{})
	expect(t, "rcpt", c.deliver("a@example.com", "b@example.org")[1], "")
}

func TestObservedGreylistWritesNoState(t *testing.T) {
	f := &fakes{grey: &greylist{state: filters.GreylistNew}}
	c := f.connect(t, suspicious+"; mode: observe")
	expect(t, "rcpt", c.deliver("a@example.com", "b@example.org")[1], "")
	if f.grey.attempts != 0 {
		t.Error("recorded an attempt")
	}
}

// What the greylister's facts tell is how the sender stood before this attempt, even if they are slow to come.
func TestAttemptWaitsForTheLook(t *testing.T) {
	f := &fakes{grey: &greylist{state: filters.GreylistPassed}}
	attempted := -1
	f.dkim = answers(dkimFacts{})
	specs := f.specs()
	for i := range specs {
		if specs[i].Name == "greylist" {
			specs[i] = filters.Define("greylist", "", noConfig, func(none, filters.Env) (*greylist, error) { return f.grey, nil },
				filters.On(filters.AtMail, func(g *greylist, _ context.Context, _ filters.View) (*greyFacts, error) {
					time.Sleep(5 * time.Millisecond)
					attempted = g.attempts
					return &greyFacts{State: string(g.state)}, nil
				}))
		}
	}
	config := f.config("client.port > 0 -> greylist", `greylist.state == "early" -> reject`)
	e, problems := Compile(config, specs, filters.Env{}, noLists{})
	if e == nil {
		t.Fatal(problems)
	}
	c := session(t, e, &filters.Session{}, &Runtime{})
	c.hello()
	c.mail("a@example.com")
	expect(t, "RCPT", c.rcpt("b@example.org"), "")
	if f.grey.attempts != 1 || attempted != 0 {
		t.Errorf("%d attempts, of which the look has seen %d", f.grey.attempts, attempted)
	}
}
