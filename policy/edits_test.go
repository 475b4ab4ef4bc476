package policy

import (
	"context"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

// mover is a filter that wants a header field and a recipient more.
type mover struct{}

type moverFacts struct {
	Moves bool `fact:"moves"`
}

func (*moverFacts) Changes() *filters.Changes {
	return &filters.Changes{
		Fields:   []filters.FieldEdit{{Kind: filters.AppendField, Name: "X", Raw: []byte("X: y\r\n")}},
		Envelope: []filters.EnvelopeEdit{{Kind: filters.AddRecipient, Address: "c@example.org"}},
	}
}

func (*mover) MayEdit() bool { return true }

func (*mover) look(context.Context, filters.View) (*moverFacts, error) { return &moverFacts{true}, nil }

// TestBypassedMailIsNotReaddressed: who gets it is a decision; what stands in it is not.
func TestBypassedMailIsNotReaddressed(t *testing.T) {
	spec := filters.Define("mover", "", func() struct{} { return struct{}{} },
		func(struct{}, filters.Env) (*mover, error) { return &mover{}, nil }, filters.On(filters.AtMessage, (*mover).look))
	engine, problems := Compile(Config{Hostname: "mx.example.org"}, []filters.Spec{spec}, filtertest.NewEnv(filtertest.NewZone()), nil)
	if engine == nil {
		t.Fatal(problems)
	}
	for _, on := range []bool{false, true} {
		var bypass Bypass
		if on {
			bypass.Set(time.Now().Add(time.Hour))
		}
		c := session(t, engine, &filters.Session{}, &Runtime{Bypass: &bypass})
		c.hello()
		c.mail("a@example.com")
		c.rcpt("b@example.org")
		v, edits := c.message(plain)
		expect(t, "message", v, "")
		if len(edits.Insert) != 1 || len(edits.Envelope) != 1 != on {
			t.Errorf("bypass %t: %+v", on, edits)
		}
		c.Conclude(Ending{})
	}
}
