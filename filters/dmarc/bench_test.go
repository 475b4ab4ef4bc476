package dmarc

import (
	"context"
	"fmt"
	"testing"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

// cached answers as the resolver's cache does: a map, and no allocation for an answer.
type cached struct {
	filters.Resolver
	texts map[string][]string
}

var errNone = fmt.Errorf("TXT: %w", filters.ErrNXDomain)

func (c cached) LookupTXT(_ context.Context, name string) ([]string, error) {
	if texts, ok := c.texts[name]; ok {
		return texts, nil
	}
	return nil, errNone
}

var benchResolver = cached{texts: map[string][]string{"_dmarc.example.org": {"v=DMARC1; p=reject; sp=quarantine; adkim=r; aspf=r; rua=mailto:dmarc@example.org; fo=1"}}}

// benchFields is an ordinary header.
const benchFields = "Received: from mail.example.org (mail.example.org [192.0.2.1])\r\n\tby mx.example.net with ESMTPS id 4XyZ\r\n\tfor <joe@example.net>; Mon, 5 Jan 2026 12:00:00 +0000\r\n" +
	"From: \"Suzie Q.\" <suzie@news.example.org>\r\nTo: <joe@example.net>\r\nSubject: dinner\r\nDate: Mon, 5 Jan 2026 12:00:00 +0000\r\nMessage-ID: <1@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n"

func benchView() (*filters.Message, filters.View) {
	m := messageFrom(benchFields)
	return m, filters.View{Message: m, Facts: verdicts("spf.result", "pass", "spf.authenticated", "bounce.example.org", "dkim.result", "pass", "dkim.domains", []string{"example.org"})}
}

// benchLook is both looks, without what the tests' facts would cost.
func benchLook(ctx context.Context, f *Filter, v filters.View) (*Facts, error) {
	r, err := f.Record(ctx, v)
	if err != nil {
		return nil, err
	}
	v.Facts = recorded{r, v.Facts}
	return f.Message(ctx, v)
}

type recorded struct {
	*RecordFacts
	filters.Facts
}

func (r recorded) Text(name string) (string, bool) {
	switch name {
	case "dmarc.domain":
		return r.Domain, true
	case "dmarc.record_domain":
		return r.RecordDomain, true
	case "dmarc.record":
		return r.RecordFacts.Record, true
	case "dmarc.organizational":
		return r.Organizational, true
	case "dmarc.policy":
		return r.Policy, true
	case "dmarc.record_problem":
		return r.RecordProblem, true
	}
	return r.Facts.Text(name)
}

func BenchmarkCachedRecords(b *testing.B) {
	f, _ := New(Defaults(), filtertest.NewEnv(benchResolver))
	m, view := benchView()
	defer m.Release()
	b.ReportAllocs()
	for b.Loop() {
		facts, err := benchLook(b.Context(), f, view)
		if err != nil || facts.Aligned != "spf+dkim" {
			b.Fatal(facts, err)
		}
	}
}

func TestAllocations(t *testing.T) {
	f, _ := New(Defaults(), filtertest.NewEnv(benchResolver))
	m, view := benchView()
	defer m.Release()
	got := testing.AllocsPerRun(100, func() {
		if _, err := benchLook(context.Background(), f, view); err != nil {
			t.Fatal(err)
		}
	})
	if got > 25 {
		t.Errorf("%v allocations, want at most 25", got)
	}
}
