package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"gatepost/cmd/gatepost-bench/load"
	"gatepost/filters"
	"gatepost/proxy/store"
)

// scaleKey is what -only calls the growth of costs.
const scaleKey = "scale"

// crowd is the largest number of sessions at once.
const crowd = 5000

// cost measures the processor time of a process for each message or refusal, in seconds.
type cost func(context.Context) (float64, error)

// growth measures what a message costs when there is more of something.
func (b *bench) growth(ctx context.Context) error {
	if !b.wants(scaleKey) || !b.hasGatepost() {
		return nil
	}
	for _, part := range []func(context.Context) error{b.moreSessions, b.moreRules, b.longerList, b.moreEntries} {
		if err := part(ctx); err != nil {
			if ctx.Err() != nil {
				return err
			}
			b.fail("%v", err)
		}
	}
	fmt.Fprintln(os.Stderr, "growth: done")
	return nil
}

// compare takes turns of the two and returns the ratios of later to earlier; the first turns warm up.
func (b *bench) compare(ctx context.Context, earlier, later cost) ([]float64, error) {
	var ratios []float64
	for round := range b.rounds + 1 {
		one, err := earlier(ctx)
		if err != nil {
			return nil, err
		}
		other, err := later(ctx)
		if err != nil {
			return nil, err
		}
		if round > 0 {
			ratios = append(ratios, other/one)
		}
	}
	return ratios, nil
}

// costOf is what o costs r.
func (b *bench) costOf(r *running, o func() load.Options) cost {
	return func(ctx context.Context) (float64, error) {
		r.process.trimLog()
		before, err := r.process.cpu()
		if err != nil {
			return 0, err
		}
		result, err := load.Run(ctx, o())
		if err != nil {
			return 0, err
		}
		if result.Failures != nil {
			return 0, fmt.Errorf("%s: %s", r.title, result.Failures)
		}
		after, err := r.process.cpu()
		return (after - before).Seconds() / float64(result.All), err
	}
}

// sessions is mail in so many sessions at once.
func (b *bench) sessions(r *running, parallel int) func() load.Options {
	return func() load.Options {
		return load.Options{Addr: r.addr, Sources: b.sources, Script: b.script(scenarios[0]), Parallel: parallel, Duration: 2 * b.time, Drain: time.Minute}
	}
}

func (b *bench) moreSessions(ctx context.Context) error {
	r, err := b.start(ctx, gatepost("crowd", "Gatepost, relaying only", relayCommand))
	if err != nil {
		return err
	}
	defer r.stop()
	ratios, err := b.compare(ctx, b.costOf(r, b.sessions(r, 20)), b.costOf(r, b.sessions(r, crowd)))
	b.found(finding{title: fmt.Sprintf("processor time of a message with %d sessions at once", crowd), figures: ratios, unit: "× 20 sessions", digits: 2, goal: goal{1.15, atMost}})
	return err
}

// withRules starts a Gatepost with so many rules, and a list.
func (b *bench) withRules(ctx context.Context, rules, lines int) (*running, error) {
	return b.start(ctx, gatepost("rules", fmt.Sprintf("Gatepost, %d rules", rules), func(b *bench, folder string, addr netip.AddrPort) ([]string, error) {
		text, err := manyRules(folder, rules, lines)
		if err != nil {
			return nil, err
		}
		return writeGatepost(b.settings(folder, addr), text)
	}))
}

func (b *bench) moreRules(ctx context.Context) error {
	return b.compareRules(ctx, [2]int{10, 1000}, [2]int{}, finding{title: "processor time of a message with 1,000 rules", unit: "× 10 rules", goal: goal{2, atMost}})
}

func (b *bench) longerList(ctx context.Context) error {
	return b.compareRules(ctx, [2]int{10, 10}, [2]int{10, 10_000},
		finding{title: "processor time of a message with a list of 10,000 networks", unit: "× a list of 10", goal: goal{1.15, atMost}})
}

func (b *bench) compareRules(ctx context.Context, rules, lines [2]int, f finding) error {
	few, err := b.withRules(ctx, rules[0], lines[0])
	if err != nil {
		return err
	}
	defer few.stop()
	many, err := b.withRules(ctx, rules[1], lines[1])
	if err != nil {
		return err
	}
	defer many.stop()
	f.figures, err = b.compare(ctx, b.costOf(few, b.sessions(few, 20)), b.costOf(many, b.sessions(many, 20)))
	f.digits = 2
	b.found(f)
	return err
}

// fewEntries is what a store with many entries is compared with.
const fewEntries = 10_000

func (b *bench) moreEntries(ctx context.Context) error {
	kind := refusals[greylistRefusal]
	var costs []cost
	for i, entries := range []int{fewEntries, b.many} {
		p := b.refuser(kind)
		write := p.command
		p.command = func(b *bench, folder string, addr netip.AddrPort) ([]string, error) {
			if err := b.fill(ctx, filepath.Join(folder, "state"), i, entries); err != nil {
				return nil, err
			}
			return write(b, folder, addr)
		}
		r, err := b.start(ctx, p)
		if err != nil {
			return err
		}
		defer r.stop()
		if _, err := r.process.settle(); err != nil { // what is left of the writing, in the background
			return err
		}
		costs = append(costs, b.costOf(r, func() load.Options { return b.away(r, kind, 0) }))
	}
	ratios, err := b.compare(ctx, costs[0], costs[1])
	b.found(finding{title: fmt.Sprintf("processor time of a greylisting with %d entries", b.many), figures: ratios, unit: fmt.Sprintf("× %d entries", fewEntries),
		digits: 2, goal: goal{1.3, atMost}})
	return err
}

// fill makes a store with so many greylist entries. Their keys are of networks that no client here is in.
func (b *bench) fill(ctx context.Context, folder string, seed, entries int) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	config := store.Defaults()
	config.Path = folder
	config.MaxEntries = max(config.MaxEntries, 2*entries)
	s, err := store.Open(config, filters.SystemClock{}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	const batch = 500
	keys := make([]string, 0, batch)
	for i := 0; i < entries && err == nil; {
		keys = keys[:0]
		for ; len(keys) < batch && i < entries; i++ {
			keys = append(keys, fmt.Sprintf("n:%d.%d.%d.0/24|sender-%d@example.net", 64+i>>16&63, i>>8&255, i&255, i))
		}
		err = s.Pass(ctx, "greylist", keys, 35*24*time.Hour)
		if errors.Is(err, store.ErrFull) {
			i -= len(keys)
			err = s.Flush(ctx)
		}
	}
	return errors.Join(err, s.Flush(ctx), s.Close())
}
