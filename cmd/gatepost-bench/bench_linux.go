package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"

	"gatepost/cmd/gatepost-bench/load"
	"gatepost/cmd/gatepost-bench/sink"
)

// sources is how many addresses clients have.
const sources = 240

// bench is what all measurements share.
type bench struct {
	options
	folder string // of configurations, state and logs; removed at the end
	sink   *sink.Sink
	// plainSink does not offer CHUNKING.
	plainSink *sink.Sink
	dns       *nameServer
	letters   *letters
	sources   []netip.Addr
	started   int // processes, for the names of their folders
	strangers int // clients so far that were never seen before
	helpers   sync.WaitGroup
	atEnd     []func() // ends them

	report   report
	failures []string // what made measurements worth nothing
}

// run measures all that is asked for and installed, and writes the tables.
func run(ctx context.Context, o options, out io.Writer) (err error) {
	b := &bench{options: o, sources: load.Sources(sources)}
	if b.folder, err = os.MkdirTemp("", "gatepost-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.folder)
	if b.letters, err = writeLetters(); err != nil {
		return err
	}
	if b.dns, err = startNameServer(b.letters.keyRecord); err != nil {
		return err
	}
	defer b.dns.close()
	if b.sink, err = sink.Listen(sink.Options{Chunking: o.chunking}); err != nil {
		return err
	}
	defer b.sink.Close()
	if b.plainSink, err = sink.Listen(sink.Options{}); err != nil {
		return err
	}
	defer b.plainSink.Close()
	defer func() {
		for _, end := range b.atEnd {
			end()
		}
		b.helpers.Wait()
	}()

	if o.flood {
		return b.runFloods(ctx, out)
	}
	b.report.machine = describeMachine()
	b.report.options = o
	err = b.measure(ctx)
	b.report.print(out) // as far as it got
	if err != nil {
		return err
	}
	if o.out != "" {
		if err := os.WriteFile(o.out, b.report.markdown(), 0o644); err != nil {
			return err
		}
	}
	return b.verdict()
}

func (b *bench) measure(ctx context.Context) error {
	for _, part := range []func(context.Context) error{b.speed, b.journalCost, b.refusals, b.calls, b.memory, b.waiting, b.operations, b.growth} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// fail notes that a measurement is worth nothing, and goes on.
func (b *bench) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	b.failures = append(b.failures, text)
	fmt.Fprintln(os.Stderr, "gatepost-bench:", text)
}

func (b *bench) verdict() error {
	if len(b.failures) == 0 {
		return nil
	}
	return fmt.Errorf("%d failures, so some figures are missing; the first: %s", len(b.failures), b.failures[0])
}

func (b *bench) script(s scenario) load.Script { return s.mail(b.letters).Script() }
