package ratelimit

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

// everyLimit has one of each that is possible.
func everyLimit() Config {
	c := Config{}
	for count, owners := range possible {
		for _, per := range owners {
			c.Limits = append(c.Limits, Limit{
				Name: count + "-" + per, Count: count, Per: per,
				Rate: Rate{Amount: Amount{N: 7}, Per: filters.Duration(time.Minute)},
			})
		}
	}
	return c
}

// drawView is a client with a sender and, perhaps, a recipient.
func drawView(t *rapid.T, client string) filters.View {
	v := filtertest.Connected(client)
	v.Envelope = &filters.Envelope{ReversePath: rapid.SampledFrom([]string{"", "a@example.com", "b@example.net"}).Draw(t, "sender")}
	if rapid.Bool().Draw(t, "to somebody") {
		v.Recipient = &filters.Recipient{ForwardPath: rapid.SampledFrom([]string{"x@example.org", "Y@example.org"}).Draw(t, "recipient")}
	}
	return v
}

// An outcome takes from no other buckets than those in which it is said to be counted.
func TestCountedInNamesWhatIsTaken(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		env := filtertest.NewEnv(filtertest.NewZone())
		f, err := New(everyLimit(), env)
		if err != nil {
			t.Fatal(err)
		}
		v := drawView(t, "192.0.2.1")
		kind := filters.MessageOutcome
		if v.Recipient != nil {
			kind = filters.RecipientOutcome
		}
		o := filters.Outcome{Kind: kind, View: v, Size: 3}
		switch rapid.IntRange(0, 2).Draw(t, "end") {
		case 0:
			o.Code = 250
		case 1:
			o.Code, o.Ours = 550, true
		default:
			o.GivenUp = kind == filters.MessageOutcome
		}
		f.Concluded(&o)
		said := map[Bucket]bool{}
		for _, b := range f.CountedIn(nil, kind, v) {
			said[b] = true
		}
		for i := range f.limits {
			l := &f.limits[i]
			key, ok := l.key(&v)
			if b := (Bucket{key, l}); ok && f.Tokens(b) < float64(l.burst) && !said[b] {
				t.Errorf("%s was counted", l.Name)
			}
		}
	})
}

// Somebody who is over a limit is so because of a bucket that is said to be looked at.
func TestLookedAtNamesWhatIsAsked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, err := New(everyLimit(), filtertest.NewEnv(filtertest.NewZone()))
		if err != nil {
			t.Fatal(err)
		}
		v := drawView(t, "192.0.2.1")
		stage := filters.AtMail
		if v.Recipient != nil {
			stage = filters.AtRcpt
		}
		if rapid.Bool().Draw(t, "connecting") {
			stage, v = filters.AtConnect, filtertest.Connected("192.0.2.1")
		}
		l := &f.limits[rapid.IntRange(0, len(f.limits)-1).Draw(t, "limit")]
		key, ok := l.key(&v)
		if !ok {
			return
		}
		drained := Bucket{key, l}
		f.Drain(drained)
		said := false
		for _, b := range f.LookedAt(nil, stage, v) {
			said = said || b == drained
		}
		var name string
		switch stage {
		case filters.AtConnect:
			facts, _ := f.Connect(t.Context(), v)
			name = facts.Connection
		case filters.AtMail:
			facts, _ := f.Mail(t.Context(), v)
			name = facts.Message
		default:
			facts, _ := f.Rcpt(t.Context(), v)
			name = facts.Recipient
		}
		if said != (name == l.Name) {
			t.Errorf("%s drained, at %v %q is exceeded, said to be looked at: %v", l.Name, stage, name, said)
		}
	})
}

// A copy has the tokens of the bucket, also a debt, and fills as that does.
func TestCopiesAreAlike(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clock := filtertest.NewClock()
		env := filtertest.NewEnv(filtertest.NewZone())
		env.Clock = clock
		f, err := New(everyLimit(), env)
		if err != nil {
			t.Fatal(err)
		}
		v := filtertest.Connected("192.0.2.1")
		b := f.CountedIn(nil, filters.MessageOutcome, v)[0]
		twin := f.Twin()
		twin.Drain(b)
		for range rapid.IntRange(0, 20).Draw(t, "messages") {
			f.counter.take(b.key, b.limit, 1, clock.Now())
			clock.Advance(time.Duration(rapid.IntRange(0, 9999).Draw(t, "ms")) * time.Millisecond)
		}
		twin.CopyFrom(f, b)
		for range 3 {
			if own, copied := f.Tokens(b), twin.Tokens(b); math.Abs(own-copied) > 1e-6 {
				t.Fatalf("%v, the copy %v", own, copied)
			}
			clock.Advance(time.Duration(rapid.IntRange(0, 99).Draw(t, "s")) * time.Second)
		}
	})
}

// Of whom nothing is known but the client, something may be counted for any sender and any recipient.
func TestAnybodys(t *testing.T) {
	f, err := New(everyLimit(), filtertest.NewEnv(filtertest.NewZone()))
	if err != nil {
		t.Fatal(err)
	}
	v := filtertest.Connected("192.0.2.1")
	count := func(kind filters.OutcomeKind) int { return len(f.Anybodys(nil, kind, v)) }
	if m, r := count(filters.MessageOutcome), count(filters.RecipientOutcome); m != 3 || r != 3 {
		t.Errorf("%d and %d limits, want 3 (messages, abandoned and bytes of a domain) and 3 (recipients of a domain and of a recipient, refused of a domain)", m, r)
	}
	v.Envelope = &filters.Envelope{}
	if m, r := count(filters.MessageOutcome), count(filters.RecipientOutcome); m != 0 || r != 1 {
		t.Errorf("%d and %d limits with a sender, want none and 1", m, r)
	}
}
