package ratelimit

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

// meter is a store that counts for the site, or cannot.
type meter struct {
	filters.Store
	tokens int64
	asked  []filters.Bucket
	alone  error
}

func (m *meter) Allow(_ context.Context, b filters.Bucket) (bool, error) {
	m.asked = append(m.asked, b)
	if m.tokens < 1 {
		return false, m.alone
	}
	m.tokens--
	return true, m.alone
}

func (m *meter) IsEmpty(_ context.Context, b filters.Bucket) (bool, error) {
	m.asked = append(m.asked, b)
	return m.tokens < 1, m.alone
}

func (m *meter) Take(b filters.Bucket, n int64) { m.tokens -= n }

func sharedFilter(t *testing.T, m *meter, strict bool) *Filter {
	t.Helper()
	env := filtertest.NewEnv(filtertest.NewZone())
	env.Store, env.DeferOnError = m, strict
	var r Rate
	if err := r.UnmarshalText([]byte("2/1m")); err != nil {
		t.Fatal(err)
	}
	f, err := New(Config{Limits: []Limit{{Name: "few", Count: countConnections, Per: perClient, Rate: r}}}, env)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestTheSiteCountsWhereTheStoreCan(t *testing.T) {
	m := &meter{tokens: 2}
	f := sharedFilter(t, m, false)
	v := filters.View{Session: &filters.Session{Client: filters.ClientAt(netip.MustParseAddrPort("192.0.2.7:1234"))}}
	for i, want := range []string{"", "", "few"} {
		if facts, err := f.Connect(t.Context(), v); err != nil || facts.Connection != want {
			t.Errorf("connection %d: %+v, %v; want %q", i+1, facts, err, want)
		}
	}
	b := m.asked[0]
	if b.Of != "192.0.2.7/32" || b.Burst != 2 || b.PerSecond <= 0.033 || b.PerSecond >= 0.034 || len(b.Limit) > 64+9 {
		t.Errorf("the bucket is %+v", b)
	}
	// After a reload the site still counts.
	next := sharedFilter(t, m, false)
	next.Adopt(f)
	if facts, err := next.Connect(t.Context(), v); err != nil || facts.Connection != "few" {
		t.Errorf("after a reload: %+v, %v", facts, err)
	}
}

func TestTheDirectionOfLimitsInAnOutage(t *testing.T) {
	v := filters.View{Session: &filters.Session{Client: filters.ClientAt(netip.MustParseAddrPort("192.0.2.7:1234"))}}
	alone := errors.New("counted alone")
	if facts, err := sharedFilter(t, &meter{tokens: 1, alone: alone}, false).Connect(t.Context(), v); err != nil || facts.Connection != "" {
		t.Errorf("with on_error: pass: %+v, %v", facts, err)
	}
	if facts, err := sharedFilter(t, &meter{tokens: 1, alone: alone}, true).Connect(t.Context(), v); !errors.Is(err, alone) {
		t.Errorf("with on_error: defer: %+v, %v", facts, err)
	}
}
