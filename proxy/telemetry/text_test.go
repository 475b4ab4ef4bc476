package telemetry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// handlers are slog's and ours, each with where it writes to.
func handlers() (theirs, ours slog.Handler, want, got *bytes.Buffer) {
	want, got = &bytes.Buffer{}, &bytes.Buffer{}
	options := &slog.HandlerOptions{Level: slog.LevelDebug}
	return slog.NewTextHandler(escaper{want}, options), newTextHandler(got, options), want, got
}

func TestLinesAreThoseOfSlog(t *testing.T) {
	texts := rapid.OneOf(rapid.StringMatching(`[ -~]{0,12}`), rapid.StringMatching(`[a-z.<>@]{0,12}`), rapid.String(),
		rapid.SampledFrom([]string{"", `\`, `"`, `a\b`, `a \"b`, "\x7f", "é", "\n", "=", "\xff"}))
	values := rapid.OneOf(
		rapid.Map(texts, slog.StringValue), rapid.Map(rapid.Int64(), slog.Int64Value), rapid.Map(rapid.Bool(), slog.BoolValue),
		rapid.Map(rapid.Int64(), func(n int64) slog.Value { return slog.DurationValue(time.Duration(n)) }),
		rapid.Map(rapid.Float64(), slog.Float64Value), rapid.Map(rapid.Uint64(), slog.Uint64Value),
		rapid.Map(texts, func(s string) slog.Value { return slog.AnyValue(errors.New(s)) }),
		rapid.Map(texts, func(s string) slog.Value { return slog.GroupValue(slog.String(s, s)) }),
		rapid.Map(texts, func(s string) slog.Value { return slog.AnyValue([]string{s}) }),
		rapid.Just(slog.Value{}), rapid.Just(slog.TimeValue(time.Unix(1, 2))),
	)
	attrs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) slog.Attr {
		return slog.Attr{Key: texts.Draw(t, "key"), Value: values.Draw(t, "value")}
	}), 0, 8)
	rapid.Check(t, func(t *rapid.T) {
		theirs, ours, want, got := handlers()
		at := time.Unix(rapid.Int64Range(-1e9, 1e10).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds"))
		if rapid.Bool().Draw(t, "UTC") {
			at = at.UTC()
		}
		r := slog.NewRecord(at, slog.Level(rapid.IntRange(-8, 12).Draw(t, "level")), texts.Draw(t, "message"), 0)
		r.AddAttrs(attrs.Draw(t, "attributes")...)
		if with := attrs.Draw(t, "before"); rapid.Bool().Draw(t, "with") {
			theirs, ours = theirs.WithAttrs(with), ours.WithAttrs(with)
		}
		if rapid.Bool().Draw(t, "group") {
			theirs, ours = theirs.WithGroup("g"), ours.WithGroup("g")
		}
		if theirs.Handle(context.Background(), r) != nil || ours.Handle(context.Background(), r) != nil {
			t.Fatal("not written")
		}
		if got.String() != want.String() {
			t.Fatalf("got  %q\nwant %q", got, want)
		}
	})
}

func TestALineWithoutTime(t *testing.T) {
	theirs, ours, want, got := handlers()
	for _, h := range []slog.Handler{theirs, ours} {
		if err := h.Handle(context.Background(), slog.NewRecord(time.Time{}, slog.LevelInfo, "m", 0)); err != nil {
			t.Fatal(err)
		}
	}
	if got.String() != want.String() {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAllocationsOfALine(t *testing.T) {
	if poolsForget {
		return
	}
	rec := transaction(t)
	r := Recorder{NewLogger(Default(), io.Discard)}
	if n := testing.AllocsPerRun(200, func() { r.Record(rec) }); n > 20 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTransactionLine(b *testing.B) {
	long := []slog.Attr{slog.String("id", "0Q1234567890.1"), slog.String("client", "192.0.2.1"), slog.String("verdict", "accept"),
		slog.String("facts", strings.Repeat(`spf.result=pass dnsbl.listed="a b" `, 35))}
	for name, log := range map[string]*slog.Logger{"ours": NewLogger(Default(), io.Discard), "slog": slog.New(slog.NewTextHandler(escaper{io.Discard}, nil))} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				log.LogAttrs(context.Background(), slog.LevelInfo, "transaction", long...)
			}
		})
	}
}
