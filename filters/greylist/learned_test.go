package greylist

import (
	"testing"
	"time"

	"gatepost/filters"
)

// What was learned elsewhere passes, for as long as it would have been known there.
func TestLearn(t *testing.T) {
	s := newSite(t)
	now := s.clock.Now()
	text := func(s string) *string { return &s }
	all := []Learned{
		{Client: "192.0.2.0", Sender: text("List-17@example.org"), Last: now.Add(-time.Hour)},
		{Client: "2001:db8::", Sender: text(""), Last: now.Add(-30 * 24 * time.Hour)},
		{Client: "198.51.100.9", Last: now},
		{Key: "d:example.net", Last: now},
		{Client: "192.0.2.0", Sender: text("old@example.org"), Last: now.Add(-36 * 24 * time.Hour)}, // expired
		{Client: "192.0.0.0/16", Sender: text("wide@example.org"), Last: now},
		{Client: "nonsense", Last: now}, {Key: "x:y", Last: now}, {Key: "n:", Last: now}, {Last: now},
	}
	for _, want := range []int{4, 0} { // learning twice is learning once
		added, invalid, err := s.f.Learn(t.Context(), all)
		if added != want || invalid != 5 || err != nil {
			t.Errorf("added %d, want %d; %d are invalid; %v", added, want, invalid, err)
		}
	}
	for _, v := range []filters.View{
		from("192.0.2.77", "list-18@example.org", ""), from("2001:db8::1", "", ""), from("198.51.100.1", "anybody@example.com", ""), from("203.0.113.1", "a@example.net", "example.net"),
	} {
		if got := s.attempt(v); got != filters.GreylistPassed {
			t.Errorf("%s from %s: %s", v.Envelope.ReversePath, v.Session.AddrPort(), got)
		}
	}
	if got := s.attempt(from("192.0.2.77", "old@example.org", "")); got != filters.GreylistNew {
		t.Errorf("an expired pass: %s", got)
	}
}

// What one greylist knows another one learns, with the same time to live.
func TestKnownIsLearned(t *testing.T) {
	a, b := newSite(t), newSite(t)
	for _, query := range []string{"192.0.2.7 alice@example.org", "example.net", "198.51.100.0/24"} {
		if _, err := a.f.Pass(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	a.attempt(from("203.0.113.5", "waiting@example.com", ""))
	a.clock.Advance(10 * 24 * time.Hour)
	b.clock.Advance(10 * 24 * time.Hour)
	var known []Learned
	if err := a.f.Known(t.Context(), func(l Learned) bool { known = append(known, l); return true }); err != nil {
		t.Fatal(err)
	}
	if added, invalid, err := b.f.Learn(t.Context(), known); added != 3 || invalid != 0 || err != nil {
		t.Fatalf("%d, %d, %v of %+v", added, invalid, err, known)
	}
	var again []Learned
	if err := b.f.Known(t.Context(), func(l Learned) bool { again = append(again, l); return true }); err != nil {
		t.Fatal(err)
	}
	last := map[string]time.Time{}
	for _, l := range known {
		last[l.Key] = l.Last
	}
	for _, l := range again {
		if !l.Last.Equal(last[l.Key]) {
			t.Errorf("%s lives on from %s and not from %s", l.Key, l.Last, last[l.Key])
		}
	}
	if len(again) != 3 {
		t.Errorf("%+v", again)
	}
}
