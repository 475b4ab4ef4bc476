package main

import (
	"context"
	"net/netip"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/all"
	"gatepost/filters/filtertest"
	"gatepost/policy"
	"gatepost/proxy/config"
	"gatepost/proxy/journal"
)

// lastRecord keeps the record of a transaction.
type lastRecord struct{ record *policy.Record }

func (l *lastRecord) Record(r *policy.Record) {
	if r.Kind == policy.TransactionRecord {
		l.record = r
	}
}

// deliveredRecord is a transaction that all filters have looked at and the default rules let pass.
func deliveredRecord(b *testing.B, c *config.Config) *policy.Record {
	b.Helper()
	zone := filtertest.NewZone()
	engine, problems := c.Compile(all.Specs(), filtertest.NewEnv(zone))
	if engine == nil {
		b.Fatal(problems)
	}
	var kept lastRecord
	ctx := context.Background()
	g := engine.NewGate(&filters.Session{ID: "0PKT3S9X8M2QV", Client: filters.ClientAt(netip.MustParseAddrPort("192.0.2.9:4000")), Accepted: time.Now()}, &policy.Runtime{Recorder: &kept})
	g.Connect(ctx)
	g.Greet(ctx, false, 0)
	g.Helo(ctx, &filters.Greeting{Name: "client.example.net", Extended: filters.Known(true)})
	g.Mail(ctx, &filters.Envelope{ID: "0PKT3S9X8M2QV.1", ReversePath: "a@example.net", Started: time.Now()})
	if v := g.Rcpt(ctx, &filters.Recipient{ForwardPath: "postmaster@example.org"}); v.Action != 0 {
		b.Fatalf("%+v", v)
	}
	if v := g.Accepted(ctx); v.Action != 0 {
		b.Fatalf("%+v", v)
	}
	g.Data(ctx)
	m := filters.NewMessage(1<<16, nil)
	defer m.Release()
	g.Message(m)
	if _, err := m.Write([]byte("From: a@example.net\r\nSubject: hello\r\n\r\nbody\r\n")); err != nil {
		b.Fatal(err)
	}
	m.Complete()
	g.EndOfData(ctx)
	g.Conclude(policy.Ending{})
	g.Close("")
	return kept.record
}

// BenchmarkBacktestOfTheJournal is reading, unpacking and running transactions again under the default rules.
func BenchmarkBacktestOfTheJournal(b *testing.B) {
	folder := b.TempDir()
	file := filepath.Join(folder, "gatepost.yaml")
	text := "backend: 127.0.0.1:10025\ndomains: [example.org]\n"
	c, problems := config.Parse(file, []byte(text), all.Specs())
	if c == nil {
		b.Fatal(problems)
	}
	record := deliveredRecord(b, c)
	section := journal.Defaults()
	section.Path, section.Queue = filepath.Join(folder, "journal"), 1<<30
	j, err := journal.Open(section, journal.Options{})
	if err != nil {
		b.Fatal(err)
	}
	const n = 20000
	for range n {
		j.Record(record)
	}
	if err := j.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	total, before := 0, processorTime(b)
	for b.Loop() {
		trial, err := newTrial(c, "")
		if err != nil {
			b.Fatal(err)
		}
		reader, err := journal.NewReader(section.Path, nil)
		if err != nil {
			b.Fatal(err)
		}
		err = reader.Each(context.Background(), journal.Query{}, func(e *journal.Entry) bool {
			total++
			trial.Add(e.Recording())
			return true
		})
		reader.Close()
		if r := trial.Report(); err != nil || r.Transactions != n || r.Differ+r.Untold != 0 {
			b.Fatalf("%v %+v", err, r)
		}
	}
	b.ReportMetric(float64(total)/b.Elapsed().Seconds(), "transactions/s")
	b.ReportMetric(float64(total)/(processorTime(b)-before).Seconds(), "transactions/CPU-s") // what a core does that is ours alone
}

// processorTime is what this process has used, user and system.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
