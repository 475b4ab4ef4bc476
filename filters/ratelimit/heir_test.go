package ratelimit

import (
	"net/netip"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

// limited is a filter that allows two connections a minute, and one bucket of refused recipients per sender domain.
func limited(t *testing.T, clock filters.Clock) *Filter {
	t.Helper()
	env := filtertest.NewEnv(filtertest.NewZone())
	env.Clock = clock
	var r Rate
	if err := r.UnmarshalText([]byte("4/1m")); err != nil {
		t.Fatal(err)
	}
	f, err := New(Config{Limits: []Limit{{Name: "few", Count: countConnections, Per: perClient, Rate: r},
		{Name: "noise", Count: countMessages, Per: perSenderDomain, Rate: r}}}, env)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAnotherProcessCountsOn(t *testing.T) {
	clock := filtertest.NewClock()
	before, heir := limited(t, clock), limited(t, clock)
	v := filters.View{Session: &filters.Session{Client: filters.ClientAt(netip.MustParseAddrPort("[2001:db8::7]:1234"))}, Envelope: &filters.Envelope{ReversePath: "a@example.net"}}
	connect := func(f *Filter) string {
		t.Helper()
		facts, err := f.Connect(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		return facts.Connection
	}
	connect(before)
	connect(before)
	for range 3 { // a message of the last one is more than there was room for
		for range 3 {
			before.Concluded(&filters.Outcome{View: v, Kind: filters.MessageOutcome, Code: 250})
		}
	}
	before.CountElsewhere(heir)
	before.Taken(func(b filters.Bucket, n int64) bool { heir.Take(b, n); return true })
	if got := connect(heir); got != "" {
		t.Errorf("the third connection: %q", got)
	}
	if got := connect(before); got != "" {
		t.Errorf("the fourth, at the old one: %q", got)
	}
	if got := connect(heir); got != "few" {
		t.Errorf("the fifth: %q", got)
	}
	if got := connect(before); got != "few" {
		t.Errorf("the sixth, at the old one: %q", got)
	}
	facts, err := heir.Mail(t.Context(), v)
	if err != nil || facts.Message != "noise" {
		t.Errorf("%+v, %v", facts, err)
	}
	clock.Advance(time.Minute) // 5 tokens in debt, 4 come
	if facts, _ := heir.Mail(t.Context(), v); facts.Message != "noise" {
		t.Error("the debt was forgotten")
	}
	before.CountElsewhere(nil)
	if got := connect(before); got != "" {
		t.Errorf("it counts itself again, and has not heard of the others: %q", got)
	}
	if ok, err := heir.Allow(t.Context(), filters.Bucket{Limit: "unknown", Of: "x", Burst: 1}); !ok || err != nil {
		t.Errorf("a limit that is gone: %t, %v", ok, err)
	}
}
