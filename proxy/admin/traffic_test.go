package admin

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatepost/filters/filtertest"
	"gatepost/policy"
	"gatepost/proxy/telemetry"
	"gatepost/rules"
)

func ended(at time.Time, code int, matched ...string) *policy.Record {
	r := &policy.Record{Kind: policy.TransactionRecord, End: at, Ending: policy.Ending{Reply: rules.Reply{Code: code}}}
	for _, name := range matched {
		r.Matched = append(r.Matched, policy.Match{Rule: &rules.Rule{Name: name}})
	}
	return r
}

// Whatever the order and however long the pauses, the charts show what ended in their time and nothing else.
func TestTrafficOverTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		traffic := NewTraffic()
		now := filtertest.Start
		var ends []time.Time
		for range rapid.IntRange(0, 50).Draw(t, "n") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(3*time.Hour)).Draw(t, "pause")))
			traffic.Record(ended(now, 250))
			ends = append(ends, now)
		}
		now = now.Add(time.Duration(rapid.Int64Range(0, int64(30*time.Hour)).Draw(t, "rest")))
		for _, bars := range []struct {
			width time.Duration
			n     int
		}{{hourBar, hourBars}, {dayBar, dayBars}} {
			list := traffic.Over(now, bars.width, bars.n)
			last := now.Truncate(bars.width).Add(bars.width)
			for i, got := range list {
				from := last.Add(-time.Duration(bars.n-i) * bars.width)
				want := uint64(0)
				for _, end := range ends {
					// The oldest slots of a day have been used again.
					if !end.Before(from) && end.Before(from.Add(bars.width)) && end.Truncate(slot).After(now.Truncate(slot).Add(-24*time.Hour)) {
						want++
					}
				}
				if got.Total() != want {
					t.Fatalf("bar %d of %s: %d, want %d", i, bars.width, got.Total(), want)
				}
			}
		}
	})
}

func TestOutcomesOfRules(t *testing.T) {
	traffic := NewTraffic()
	traffic.Record(ended(filtertest.Start, 550, "a", "b", "a", "a"))
	traffic.Record(ended(filtertest.Start.Add(time.Minute), 250, "b"))
	traffic.Record(&policy.Record{Kind: policy.SessionRecord, End: filtertest.Start.Add(time.Hour), Matched: ended(filtertest.Start, 0, "a").Matched})
	if tally, last := traffic.Rule("a"); tally != (Tally{telemetry.Reject: 1}) || !last.Equal(filtertest.Start) {
		t.Errorf("%v %s", tally, last)
	}
	if tally, last := traffic.Rule("b"); tally != (Tally{telemetry.Reject: 1, telemetry.Accept: 1}) || !last.Equal(filtertest.Start.Add(time.Minute)) {
		t.Errorf("%v %s", tally, last)
	}
	if tally, last := traffic.Rule("c"); tally.Total() != 0 || !last.IsZero() {
		t.Errorf("%v %s", tally, last)
	}
	for i := range 2 * maxRules {
		traffic.Record(ended(filtertest.Start, 250, strings.Repeat("x", i%60)+string(rune('a'+i%26))+string(rune('0'+i))))
	}
	if len(traffic.rules) > maxRules {
		t.Errorf("%d rules", len(traffic.rules))
	}
}

// A clock that is set back must not count into a slot of long ago.
func TestTrafficWhenTheClockIsSetBack(t *testing.T) {
	traffic := NewTraffic()
	traffic.Record(ended(filtertest.Start, 250))
	traffic.Record(ended(filtertest.Start.Add(-time.Hour), 250))
	if list := traffic.Over(filtertest.Start, hourBar, hourBars); list[hourBars-1].Total() != 2 {
		t.Errorf("%v", list)
	}
}

func TestTrafficAllocatesNothing(t *testing.T) {
	traffic := NewTraffic()
	r := ended(filtertest.Start, 250, "a", "b")
	traffic.Record(r)
	if n := testing.AllocsPerRun(100, func() { traffic.Record(r) }); n > 0 {
		t.Errorf("%v allocations a record", n)
	}
}

func BenchmarkTraffic(b *testing.B) {
	traffic := NewTraffic()
	r := ended(filtertest.Start, 250, "a", "b")
	b.ReportAllocs()
	for b.Loop() {
		traffic.Record(r)
	}
}

func TestChartsAreScaled(t *testing.T) {
	for n, want := range map[uint64]uint64{0: 4, 4: 4, 5: 8, 9: 20, 21: 40, 41: 80, 81: 200, 1999: 2000, 2001: 4000} {
		if got := roundUp(n); got != want {
			t.Errorf("%d: %d", n, got)
		}
	}
	c := draw("x", "X", []Tally{{telemetry.Accept: 2}, {}, {telemetry.Accept: 1, telemetry.Reject: 3}}, time.Minute, filtertest.Start)
	picture := string(c.Picture)
	for _, want := range []string{`class="v-accept" d="M0.75 80.00h238.50v80.00h-238.50zM480.75 120.00h238.50v40.00h-238.50z"`, `class="v-reject" d="M480.75 0.00h238.50v120.00h-238.50z"`} {
		if !strings.Contains(picture, want) {
			t.Errorf("without %s: %s", want, picture)
		}
	}
	if strings.Contains(picture, "v-defer") || len(c.Rows) != 3 || c.Rows[2].Tally.Total() != 4 {
		t.Errorf("%+v", c)
	}
}
