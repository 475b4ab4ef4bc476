package dnsbl

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/filters/filtertest"
)

func TestListsThatFailTheirTest(t *testing.T) {
	for _, c := range []struct {
		name, zone, reason string
	}{
		{"answers everything", "*.bl.test A 127.0.0.2", "answers everything"},
		{"answers everything from elsewhere", "*.bl.test A 203.0.113.1", "dead"},
		{"dead", "other.test A 192.0.2.1", "dead"},
		{"refuses", "*.bl.test A 127.255.255.254", "resolver of your own"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFilter(t, testPointsOfAll+c.zone, block, second)
			if c.name == "dead" || strings.HasPrefix(c.zone, "*") {
				f.zone.Remove("2.0.0.127.bl.test")
				f.zone.Remove("2.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.bl.test")
			}
			for range 3 {
				if got := f.client(t, "192.0.2.9"); *got.Score != 0 || len(got.Failed) != 1 || got.Failed[0] != "bl.test" {
					t.Errorf("%+v, score %v", got, *got.Score)
				}
			}
			if log := f.log.String(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, c.reason) {
				t.Errorf("log: %s", log)
			}
		})
	}
}

func TestListComesBack(t *testing.T) {
	f := newFilter(t, "*.bl.test A 127.0.0.2", block)
	if got, err := f.Client(t.Context(), filtertest.Connected("192.0.2.1")); err == nil {
		t.Errorf("a list that answers everything counts: %+v", got)
	}
	f.zone.Remove("*.bl.test")
	if err := f.zone.Add("2.0.0.127.bl.test", "A", "127.0.0.2"); err != nil {
		t.Fatal(err)
	}
	if !f.clients[0].testAll(t.Context()) {
		t.Error("a sane list fails its test")
	}
	if got := f.client(t, "192.0.2.1"); *got.Score != 0 {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(f.log.String(), "in use again") {
		t.Errorf("log: %s", f.log)
	}
}

func TestListGoesMad(t *testing.T) {
	f := newFilter(t, testPointsOfAll+entries, block)
	if got := f.client(t, "192.0.2.9"); *got.Score != 5 {
		t.Fatalf("score %v", *got.Score)
	}
	if err := f.zone.Add("1.0.0.127.bl.test", "A", "127.0.0.2"); err != nil {
		t.Fatal(err)
	}
	if f.clients[0].testAll(t.Context()) {
		t.Error("a list that answers everything passes its test")
	}
	if got, err := f.Client(t.Context(), filtertest.Connected("192.0.2.9")); err == nil {
		t.Errorf("it still counts: %+v", got)
	}
}

func TestTestWithoutAnAnswerChangesNothing(t *testing.T) {
	f := newFilter(t, testPointsOfAll+entries, block)
	f.client(t, "192.0.2.9")
	for _, name := range []string{"1.0.0.127.bl.test", reversedTestPoint + "bl.test"} {
		if err := f.zone.Add(name, "TIMEOUT", ""); err != nil {
			t.Fatal(err)
		}
	}
	f.clients[0].testAll(t.Context())
	if got := f.client(t, "192.0.2.9"); *got.Score != 5 {
		t.Errorf("a sane list was dropped for a time-out: %+v", got)
	}
}

var reversedTestPoint = testPoints[aboutIPv6].clean

func TestRefusalOfOneQuestionTakesTheListOut(t *testing.T) {
	f := newFilter(t, testPointsOfAll+entries, block, second)
	f.client(t, "192.0.2.14")
	asked := f.zone.Asked("A", "9.2.0.192.bl.test")
	if got := f.client(t, "192.0.2.9"); *got.Score != 2 || f.zone.Asked("A", "9.2.0.192.bl.test") != asked {
		t.Errorf("the list was asked again: %+v", got)
	}
	if strings.Count(f.log.String(), "refuses to answer our resolver") != 1 {
		t.Errorf("log: %s", f.log)
	}
}

func TestListWithoutTest(t *testing.T) {
	untestedList := block
	untestedList.Test = "off"
	f := newFilter(t, entries, untestedList)
	if got := f.client(t, "192.0.2.9"); *got.Score != 5 || f.zone.Queries() != 1 {
		t.Errorf("%+v after %d questions", got, f.zone.Queries())
	}
	if _, err := f.Client(t.Context(), filtertest.Connected("192.0.2.14")); err == nil {
		t.Error("a refusal was taken for an answer")
	}
	if _, err := f.Client(t.Context(), filtertest.Connected("192.0.2.9")); err == nil {
		t.Error("the list was not left out after its refusal")
	}
	f.clock.Advance(retryLast)
	if got := f.client(t, "192.0.2.9"); *got.Score != 5 {
		t.Errorf("the list got no other chance: %+v", got)
	}
}

func TestFamilies(t *testing.T) {
	forced, without := v4only, block
	forced.IPv6, without.IPv4 = "on", "off"
	f := newFilter(t, testPointsOfAll+entries, forced)
	if got, err := f.Client(t.Context(), filtertest.Connected("2001:db8::6")); err == nil {
		t.Errorf("ipv6: on, and the test failed: %+v", got)
	}
	f = newFilter(t, testPointsOfAll+entries, without)
	if got := f.client(t, "192.0.2.9"); got.Score != nil || f.zone.Queries() != 0 {
		t.Errorf("ipv4: off: %+v", got)
	}
	if got := f.client(t, "2001:db8::6"); *got.Score != 4 {
		t.Errorf("ipv4: off, for an IPv6 client: %+v", got)
	}
}

func TestRunTestsAtOnceAndStops(t *testing.T) {
	f := newFilter(t, testPointsOfAll, block, second, names)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { f.Run(ctx) })
	for f.clients[0].state(aboutIPv4) != sane || f.clients[1].state(aboutIPv4) != sane || f.domains[0].state(aboutDomains) != sane {
		time.Sleep(time.Millisecond)
	}
	cancel()
	running.Wait()
}
