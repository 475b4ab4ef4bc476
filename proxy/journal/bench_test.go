package journal

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"syscall"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/all"
	"gatepost/policy"
	"gatepost/rules"
)

// realistic is a transaction with all filters of Gatepost on: a message with two signatures that was accepted. serial
// makes each its own.
func realistic(schema *rules.Schema, matched []*rules.Rule, serial int) *policy.Record {
	now := time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC).Add(time.Duration(serial) * time.Millisecond)
	id := fmt.Sprintf("%013d", serial)
	client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(serial)}), uint16(1024+serial%60000))
	local := netip.MustParseAddrPort("198.51.100.1:25")
	sender := fmt.Sprintf("newsletter-%d@lists%d.example.net", serial, serial%97)
	recipient := fmt.Sprintf("user%d@example.org", serial%501)
	r := &policy.Record{ID: id + ".1", Kind: policy.TransactionRecord, Start: now, End: now.Add(180 * time.Millisecond),
		Session:  &filters.Session{ID: id, Client: filters.ClientAt(client), To: &local, Accepted: now},
		Greeting: &filters.Greeting{Name: "mail.example.net", Extended: filters.Known(true), TLS: &filters.TLS{Version: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256", ServerName: "mx.example.org"}},
		Envelope: &filters.Envelope{ID: id + ".1", ReversePath: sender, Params: []filters.Param{{Key: "SIZE", Value: "48213", HasValue: true}}, Size: 48213, Started: now},
		Facts:    schema.NewFacts(),
		Reached:  policy.StepEnd,
		Ending: policy.Ending{Reply: rules.Reply{Code: 250, Enhanced: "2.0.0", Text: fmt.Sprintf("Ok: queued as 4Zq%dX", serial)}, Backend: "127.0.0.1:10025",
			QueueID: fmt.Sprintf("4Zq%dX", serial), Size: 48213},
		Settings: &policy.Settings{Greylist: 12345678901234567, RateLimit: 7654321},
	}
	for i, group := range schema.Groups() {
		facts := reflect.New(group.Type)
		fillFacts(facts.Elem(), sender)
		r.Facts.Set(i, facts.Interface())
		r.Filters = append(r.Filters, policy.FilterRecord{Name: group.Name, Stage: filters.Stage(group.Stage), Status: "ok", Duration: time.Duration(serial%977) * time.Microsecond, Facts: facts.Interface()})
	}
	r.Recipients = []policy.RecipientRecord{{Address: recipient, Reply: rules.Reply{Code: 250}, Asked: true}}
	if serial%3 == 0 {
		for _, rule := range matched {
			r.Matched = append(r.Matched, policy.Match{Rule: rule, Observed: true})
		}
	}
	return r
}

func fillFacts(v reflect.Value, sender string) {
	for i := range v.NumField() {
		f := v.Field(i)
		if !f.CanSet() || v.Type().Field(i).Tag.Get("fact") == "" {
			continue
		}
		if f.Kind() == reflect.Pointer {
			f.Set(reflect.New(f.Type().Elem()))
			f = f.Elem()
		}
		switch f.Kind() {
		case reflect.String:
			f.SetString("pass")
			if name := v.Type().Field(i).Name; name == "Address" {
				f.SetString(sender)
			}
		case reflect.Int, reflect.Int64:
			f.SetInt(4)
		case reflect.Float64:
			f.SetFloat(2.5)
		case reflect.Slice:
			f.Set(reflect.ValueOf([]string{"example.net"}))
		}
	}
}

func realSchema(t testing.TB) (*rules.Schema, []*rules.Rule) {
	t.Helper()
	schema := mustSchema(policy.Groups(all.Specs()))
	at := func(int) rules.Pos { return rules.Pos{File: "/etc/gatepost/gatepost.yaml", Line: 31, Column: 5} }
	set, problems := rules.Compile(schema, []rules.Definition{{Name: rules.Source{Text: "suspicious", At: at},
		When: rules.Source{Text: `dnsbl.score > 0 or not rdns.confirmed or spf.result in ["none", "softfail"]`, At: at}, Then: rules.Source{Text: "greylist", At: at}}}, nil)
	if set == nil {
		t.Fatal(problems)
	}
	return schema, set.Rules()
}

func realRecords(t testing.TB, n int) []*policy.Record {
	schema, matched := realSchema(t)
	records := make([]*policy.Record, n)
	for i := range records {
		records[i] = realistic(schema, matched, i)
	}
	return records
}

// What a record costs the session that brings it. What the writer adds is in BenchmarkWrite.
func BenchmarkRecord(b *testing.B) {
	records := realRecords(b, 4096)
	for _, mode := range []Addresses{Clear, Keyed, Cut} {
		b.Run(mode.String(), func(b *testing.B) {
			k := newBuilder(newDisguise(mode, make([]byte, keyBytes)))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if k.full() {
					k.reset()
				}
				k.record(records[i%len(records)], "accept")
			}
		})
	}
}

// processorTime is what the process has used up to now: the machine's other work does not count.
func processorTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// sessionOfRecord is the session of a transaction that was its only one: it refers to the same facts.
func sessionOfRecord(r *policy.Record) *policy.Record {
	s := &policy.Record{ID: r.Session.ID, Kind: policy.SessionRecord, Start: r.Session.Accepted, End: r.End.Add(time.Millisecond), Session: r.Session,
		Greeting: r.Greeting, Facts: r.Facts.Schema().NewFacts(), Reached: policy.StepHelo, Ending: policy.Ending{Note: "quit"}, Settings: r.Settings, Transactions: 1}
	for i, f := range r.Filters {
		if f.Stage < filters.AtMail {
			s.Filters = append(s.Filters, f)
			s.Facts.Set(i, f.Facts)
		}
	}
	return s
}

// All that a message costs, compression and disk included: the record of its transaction, the confirmation, and the
// record of its session.
func BenchmarkWrite(b *testing.B) {
	records := realRecords(b, 4096)
	sessions := make([]*policy.Record, len(records))
	for i, r := range records {
		sessions[i] = sessionOfRecord(r)
	}
	c := testConfig(b.TempDir())
	c.Queue = 1 << 32
	j, err := Open(c, Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	n := 0
	before := processorTime(b)
	for b.Loop() {
		r := records[n%len(records)]
		j.Record(r)
		j.Confirmed(r.ID, r.End)
		j.Record(sessions[n%len(records)])
		n++
	}
	if err := j.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/float64(n), "cpu-ns/message")
	b.ReportMetric(float64(j.metrics.Bytes.Load())/float64(n), "B-on-disk/message")
	if dropped := j.metrics.Dropped.Load(); dropped > 0 {
		b.Errorf("%d dropped", dropped)
	}
}

func BenchmarkRead(b *testing.B) {
	folder := b.TempDir()
	const n = 20000
	records := realRecords(b, n)
	writeAll(b, testConfig(folder), records...)
	schema, _ := realSchema(b)
	for _, bind := range []string{"decode", "decode and bind"} {
		b.Run(bind, func(b *testing.B) {
			b.ReportAllocs()
			binder, facts := NewBinder(schema), schema.NewFacts()
			read := 0
			for b.Loop() {
				r, err := NewReader(folder, nil)
				if err != nil {
					b.Fatal(err)
				}
				err = r.Each(context.Background(), Query{}, func(e *Entry) bool {
					read++
					if bind != "decode" {
						binder.Reset()
						binder.Entry(facts, e)
					}
					return true
				})
				if err != nil || read%n != 0 {
					b.Fatal(read, err)
				}
				r.Close()
			}
			b.ReportMetric(float64(read)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
