package dmarc

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/filters/dmarc/report"
	"gatepost/filters/filtertest"
)

const wanting = "v=DMARC1; p=reject; rua=mailto:dmarc@example.org"

// reporting makes a filter that collects, over a store that survives it.
func reporting(t testing.TB, env filters.Env, change func(*ReportConfig)) *Filter {
	t.Helper()
	config := Defaults()
	config.Reports.Enabled, config.Reports.Email = true, "dmarc@example.net"
	if change != nil {
		change(&config.Reports)
	}
	if err := config.Validate(); err != nil {
		t.Fatal(err)
	}
	f, err := New(config, env)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// ended is the end of a message with the backend's 250, and with facts beside those of an ordinary failure.
func ended(changes ...any) *filters.Outcome {
	v := filtertest.Mailed("192.0.2.1", "mail.example.org", "joe@example.org")
	facts := verdicts("spf.result", "fail", "spf.domain", "bounce.example.org", "spf.identity", "mailfrom", "dkim.results", []string(nil), "dkim.signers", []string(nil),
		"dkim.selectors", []string(nil), "dmarc.result", "fail", "dmarc.domain", "example.org", "dmarc.record_domain", "example.org", "dmarc.record", wanting,
		"dmarc.policy", "reject", "dmarc.aligned", "", "dmarc.override", "none", "dmarc.override_by", "", "dmarc.testing", false)
	maps.Copy(facts, verdicts(changes...))
	for i := 0; i < len(changes); i += 2 {
		if changes[i+1] == nil {
			delete(facts, changes[i].(string))
		}
	}
	for name, value := range map[string]any{"spf.result": "fail", "spf.domain": "bounce.example.org"} {
		if !mentions(changes, name) {
			facts[name] = value
		}
	}
	v.Facts = facts
	return &filters.Outcome{Kind: filters.MessageOutcome, View: v, Code: 250}
}

func mentions(changes []any, name string) bool {
	for i := 0; i < len(changes); i += 2 {
		if changes[i] == name {
			return true
		}
	}
	return false
}

// drain lets a filter count what it was told.
func drain(t testing.TB, f *Filter) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	f.Run(ctx)
	if len(f.collector.queue) > 0 {
		t.Error("something is left in the queue")
	}
}

func reportsOf(t testing.TB, f *Filter, day time.Time, domain string) (list []*report.Report) {
	t.Helper()
	if err := f.Reports(context.Background(), day, domain, func(r *report.Report) bool { list = append(list, r); return true }); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestRows(t *testing.T) {
	base := report.Row{SourceIP: "192.0.2.1", Disposition: "none", DKIM: "fail", SPF: "fail", Reason: "local_policy", HeaderFrom: "example.org",
		EnvelopeFrom: "bounce.example.org", SPFDomain: "bounce.example.org", SPFResult: "fail"}
	for _, test := range []struct {
		name    string
		outcome *filters.Outcome
		code    int
		ours    bool
		want    func(*report.Row) // nil: not counted
	}{
		{"a failure that was let pass", ended(), 250, false, func(*report.Row) {}},
		{"a failure that was refused", ended(), 550, true, func(r *report.Row) { r.Disposition, r.Reason = "reject", "" }},
		{"a failure that was kept from the mailbox", ended(), 250, true, func(r *report.Row) { r.Disposition = "quarantine" }},
		{"a failure that the backend refused", ended(), 554, false, func(r *report.Row) { r.Disposition, r.Reason = "reject", "" }},
		{"a failure without a policy", ended("dmarc.policy", "none"), 250, false, func(r *report.Row) { r.Reason = "" }},
		{"refused for something else", ended("dmarc.policy", "none"), 550, true, func(r *report.Row) { r.Disposition = "reject" }},
		{"a failure by a forwarder", ended("dmarc.override", "trusted_forwarder", "dmarc.override_by", "192.0.2.0/24"), 250, false,
			func(r *report.Row) { r.Reason, r.Comment = "trusted_forwarder", "192.0.2.0/24" }},
		{"a forwarder, refused all the same", ended("dmarc.override", "mailing_list"), 550, true, func(r *report.Row) { r.Disposition, r.Reason = "reject", "" }},
		{"a test", ended("dmarc.policy", "quarantine", "dmarc.testing", true), 250, false, func(r *report.Row) { r.Reason = "policy_test_mode" }},
		{"a pass", ended("dmarc.result", "pass", "dmarc.aligned", "spf"), 250, false, func(r *report.Row) { r.Disposition, r.SPF, r.Reason = "pass", "pass", "" }},
		{"a pass without a policy", ended("dmarc.result", "pass", "dmarc.aligned", "spf+dkim", "dmarc.policy", "none"), 250, false,
			func(r *report.Row) { r.SPF, r.DKIM, r.Reason = "pass", "pass", "" }},
		{"a bounce", ended("spf.identity", "helo", "spf.domain", "mail.example.org"), 250, false, func(r *report.Row) { r.EnvelopeFrom, r.SPFDomain = "", "mail.example.org" }},
		{"without a domain for SPF", ended("spf.domain", "", "spf.result", "none"), 250, false, func(r *report.Row) { r.EnvelopeFrom, r.SPFDomain, r.SPFResult = "", "", "" }},
		{"signatures", ended("dkim.results", []string{"fail", "pass", "pass", "pass", "permerror"}, "dkim.signers", []string{"example.org", "example.net", "org", "example.org", ""},
			"dkim.selectors", []string{"a", "b", "c", "d", "e"}), 250, false, func(r *report.Row) {
			r.Signatures = []report.Signature{{Domain: "example.org", Selector: "d", Result: "pass"}, {Domain: "org", Selector: "c", Result: "pass"},
				{Domain: "example.net", Selector: "b", Result: "pass"}, {Domain: "example.org", Selector: "a", Result: "fail"}}
		}},

		{"told to come back", ended(), 451, true, nil},
		{"told to come back by the backend", ended(), 452, false, nil},
		{"never came to an end", ended(), 0, false, nil},
		{"nobody wants to know", ended("dmarc.record", "v=DMARC1; p=reject"), 250, false, nil},
		{"no record", ended("dmarc.result", "none", "dmarc.record", "", "dmarc.record_domain", ""), 250, false, nil},
		{"not decided", ended("dmarc.result", "temperror"), 250, false, nil},
		{"not known", ended("dmarc.result", nil), 250, false, nil},
	} {
		test.outcome.Code, test.outcome.Ours = test.code, test.ours
		s, ok := sight(test.outcome)
		if ok != (test.want != nil) {
			t.Errorf("%s: counted %v", test.name, ok)
			continue
		}
		want := base
		if ok {
			test.want(&want)
			if !reflect.DeepEqual(s.row, want) || s.domain != "example.org" || s.record != wanting {
				t.Errorf("%s:\ngot  %+v\nwant %+v", test.name, s.row, want)
			}
		}
	}
	trusted := ended()
	trusted.View.Session.Trusted = true
	if _, ok := sight(trusted); ok {
		t.Error("our own relay is no client to report about")
	}
	mapped := ended()
	mapped.View.Session.Client = filters.ClientAt(netip.MustParseAddrPort("[::ffff:192.0.2.1]:1"))
	if s, _ := sight(mapped); s.row.SourceIP != "192.0.2.1" {
		t.Errorf("client %s", s.row.SourceIP)
	}
	if _, ok := sight(&filters.Outcome{Kind: filters.RecipientOutcome, Code: 250, View: ended().View}); ok {
		t.Error("a recipient is no message")
	}
}

func TestReports(t *testing.T) {
	zone := filtertest.MustParseZone(`_dmarc.example.org TXT v=DMARC1; p=reject`)
	env := filtertest.NewEnv(zone)
	clock := env.Clock.(*filtertest.Clock)
	day := clock.Now()
	f := reporting(t, env, nil)
	const strict = "v=DMARC1; p=quarantine; np=reject; adkim=s; fo=1:s; t=y; rua=mailto:dmarc@example.org!10m, https://example.org/"
	for range 3 {
		f.Concluded(ended())
	}
	f.Concluded(ended("dmarc.result", "pass", "dmarc.aligned", "dkim"))
	f.Concluded(ended("dmarc.record_domain", "example.com", "dmarc.domain", "www.example.com", "dmarc.record", "v=DMARC1; p=none; rua=mailto:a@example.com"))
	drain(t, f)
	clock.Advance(time.Minute)
	again := reporting(t, env, nil) // as after a restart
	again.Concluded(ended())
	drain(t, again)
	clock.Advance(time.Minute)
	again.Concluded(ended("dmarc.record", strict))
	drain(t, again)
	clock.Advance(24 * time.Hour)
	again.Concluded(ended())
	drain(t, again)

	list := reportsOf(t, again, day, "")
	if len(list) != 2 || list[0].Domain != "example.com" || list[1].Domain != "example.org" {
		t.Fatalf("%d reports", len(list))
	}
	r := list[1]
	if len(r.Rows) != 2 || r.Rows[0].Count != 5 || r.Rows[1].Count != 1 || r.Missing != 0 {
		t.Errorf("rows: %+v", r.Rows)
	}
	want := report.Policy{Method: "treewalk", Domain: "quarantine", Subdomains: "quarantine", NP: "reject", FO: "1:s", StrictDKIM: true, Testing: true}
	if r.Policy != want {
		t.Errorf("the last record of the day: %+v", r.Policy)
	}
	if len(r.Destinations) != 2 || r.Destinations[0].Address != "dmarc@example.org" || r.Destinations[0].Limit != 10<<20 || r.Destinations[1].Problem == "" {
		t.Errorf("destinations: %+v", r.Destinations)
	}
	if r.Organization != "mx.example.org" || r.Email != "dmarc@example.net" || r.Submitter != "mx.example.org" {
		t.Errorf("%+v", r)
	}
	if _, err := r.XML(); err != nil {
		t.Error(err)
	}
	if one := reportsOf(t, again, day, "Example.com."); len(one) != 1 || one[0].Rows[0].HeaderFrom != "www.example.com" {
		t.Errorf("one domain: %+v", one)
	}
	if next := reportsOf(t, again, day.Add(24*time.Hour), ""); len(next) != 1 || next[0].Rows[0].Count != 1 {
		t.Errorf("the next day: %+v", next)
	}
	if none := reportsOf(t, again, day.Add(-24*time.Hour), ""); none != nil {
		t.Errorf("the day before: %+v", none)
	}
	clock.Advance(7 * 24 * time.Hour)
	if old := reportsOf(t, again, day, ""); old != nil {
		t.Errorf("kept too long: %+v", old)
	}
}

func TestOffByDefault(t *testing.T) {
	f, err := New(Defaults(), filtertest.NewEnv(filtertest.NewZone()))
	if err != nil {
		t.Fatal(err)
	}
	f.Concluded(ended())
	f.Run(t.Context())
	if err := f.Reports(t.Context(), time.Now(), "", nil); err != ErrNoReports {
		t.Errorf("%v", err)
	}
}

// However many different things happen, the rows are bounded, and what is left out is told.
func TestBounds(t *testing.T) {
	env := filtertest.NewEnv(filtertest.NewZone())
	var log strings.Builder
	env.Log = slog.New(slog.NewTextHandler(&log, nil))
	day := env.Clock.Now()
	f := reporting(t, env, func(c *ReportConfig) { c.MaxRows = 50 })
	for i := range 40 {
		f.Concluded(ended("dmarc.domain", fmt.Sprintf("d%d.example.org", i)))
	}
	drain(t, f)
	f = reporting(t, env, func(c *ReportConfig) { c.MaxRows = 50 })
	f.Concluded(ended("dmarc.domain", "d0.example.org")) // a row that is there
	f.Concluded(ended("dmarc.domain", "x.example.org"))  // another one too many
	for i := range 100 {
		f.Concluded(ended("dmarc.record_domain", fmt.Sprintf("o%d.example.com", i)))
	}
	drain(t, f)
	list, total, rows := reportsOf(t, f, day, ""), uint64(0), 0
	for _, r := range list {
		rows += len(r.Rows)
		for _, row := range r.Rows {
			total += row.Count
		}
		if r.Domain != "example.org" {
			continue
		}
		if len(r.Rows) != 4 || r.Rows[0].Count != 2 || r.Missing != 37 { // a fifth of the domain's share is its record
			t.Errorf("%d rows, %d messages missing: %+v", len(r.Rows), r.Missing, r.Rows)
		}
	}
	if rows > 50 || len(list) < 20 {
		t.Errorf("%d rows of %d domains", rows, len(list))
	}
	if got := strings.Count(log.String(), "more domains than max_rows"); got != 1 {
		t.Errorf("told %d times: %s", got, log.String())
	}
}

// A session never waits for the store.
func TestTheQueueIsBounded(t *testing.T) {
	f := reporting(t, filtertest.NewEnv(filtertest.NewZone()), nil)
	for range queued + 10 {
		f.Concluded(ended())
	}
	if f.collector.lost.Load() != 10 {
		t.Errorf("%d lost", f.collector.lost.Load())
	}
	drain(t, f)
	if list := reportsOf(t, f, filtertest.Start, ""); len(list) != 1 || list[0].Rows[0].Count != queued {
		t.Errorf("%+v", list)
	}
}

func TestRunCountsWhileItRuns(t *testing.T) {
	f := reporting(t, filtertest.NewEnv(filtertest.NewZone()), nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); f.Run(ctx) }()
	for range 50 {
		f.Concluded(ended())
	}
	cancel()
	<-done
	if list := reportsOf(t, f, filtertest.Start, ""); len(list) != 1 || list[0].Rows[0].Count != 50 {
		t.Errorf("%+v", list)
	}
}

// Whatever the text and its domain, its keys fit, and give it back; without one of them there is nothing.
func TestKeysGiveTheTextBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		domain := strings.Repeat("a", rapid.IntRange(1, filters.MaxName).Draw(t, "domain"))
		text := rapid.OneOf(rapid.StringN(0, 50, -1), rapid.Just(strings.Repeat("x|", rapid.IntRange(0, maxRecord/2).Draw(t, "length")))).Draw(t, "text")
		keys := keysOf("2026-01-05", domain, kindRow, text)
		all, part := newTally(), newTally()
		leave := rapid.IntRange(0, len(keys)-1).Draw(t, "left out")
		for i := range keys {
			if len(keys[i]) > maxKey {
				t.Fatalf("a key of %d bytes", len(keys[i]))
			}
			k := (i*7 + 3) % len(keys) // in no order
			if len(keys)%7 == 0 {
				k = i
			}
			all.add(keys[k], filters.Mark{Attempts: 3})
			if k != leave {
				part.add(keys[k], filters.Mark{Attempts: 3})
			}
		}
		got := all.domains()[domain]
		if len(got) != 1 || got[0].text != text || got[0].count != 3 || got[0].kind != kindRow {
			t.Fatalf("%q became %+v", text, got)
		}
		if left := part.domains()[domain]; left != nil {
			t.Fatalf("with a part missing: %+v", left)
		}
	})
}

func TestReportConfig(t *testing.T) {
	for _, test := range []struct {
		key    string
		change func(*ReportConfig)
	}{
		{"reports.email", func(c *ReportConfig) { c.Email = "" }},
		{"reports.email", func(c *ReportConfig) { c.Email = "dmarc@example.org\r\nBcc: x@example.net" }},
		{"reports.org_name", func(c *ReportConfig) { c.OrgName = "a\nb" }},
		{"reports.extra_contact", func(c *ReportConfig) { c.ExtraContact = strings.Repeat("x", 201) }},
		{"reports.keep", func(c *ReportConfig) { c.Keep = filters.Duration(time.Hour) }},
		{"reports.max_rows", func(c *ReportConfig) { c.MaxRows = 0 }},
	} {
		c := Defaults()
		c.Reports.Enabled, c.Reports.Email = true, "dmarc@example.org"
		test.change(&c.Reports)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), test.key+":") {
			t.Errorf("%s: %v", test.key, err)
		}
	}
}

func BenchmarkConcluded(b *testing.B) {
	f := reporting(b, filtertest.NewEnv(filtertest.NewZone()), nil)
	o := ended()
	b.ReportAllocs()
	for b.Loop() {
		f.Concluded(o)
	}
}
