package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"

	"gatepost/cmd/gatepost-bench/load"
)

// Keys of what is measured beside speed, for -only.
const (
	idleKey   = "idle"
	growthKey = "growth"
)

// footprint is the memory of one peer.
type footprint struct {
	peer   peer
	idle   []float64 // bytes per idle connection
	growth []float64 // bytes that the process grew by while a large message passed
}

// memory measures all peers that are processes.
func (b *bench) memory(ctx context.Context) error {
	if !b.wants(idleKey) && !b.wants(growthKey) {
		return nil
	}
	for _, p := range peers {
		if p.binary == nil || p.only != nil || !b.wants(p.key) {
			continue
		}
		f, err := b.footprint(ctx, p)
		switch {
		case errors.Is(err, errMissing):
			b.report.leaveOut(p, err)
			continue
		case ctx.Err() != nil:
			return err
		case err != nil:
			b.fail("%v", err)
			continue
		}
		b.report.addVersion(p, b.tellVersion(p))
		b.report.footprints = append(b.report.footprints, f)
		fmt.Fprintf(os.Stderr, "memory of %s: done\n", p.title)
	}
	return nil
}

func (b *bench) footprint(ctx context.Context, p peer) (footprint, error) {
	f := footprint{peer: p}
	for _, m := range []struct {
		key     string
		measure func(context.Context, *running) (float64, error)
		figures *[]float64
	}{{idleKey, b.idleBytes, &f.idle}, {growthKey, b.growthBytes, &f.growth}} {
		if !b.wants(m.key) {
			continue
		}
		for range b.repeats {
			figure, err := b.fresh(ctx, p, m.measure)
			if err != nil {
				return f, err
			}
			*m.figures = append(*m.figures, figure)
		}
	}
	return f, nil
}

// fresh measures a new process that has been warmed up with a burst of load.
func (b *bench) fresh(ctx context.Context, p peer, measure func(context.Context, *running) (float64, error)) (float64, error) {
	r, err := b.start(ctx, p)
	if err != nil {
		return 0, err
	}
	defer r.stop()
	s := scenarios[0]
	result, err := load.Run(ctx, load.Options{Addr: r.addr, Sources: b.sources, Script: b.script(s), Parallel: s.parallel, Duration: b.time})
	if err != nil {
		return 0, err
	}
	if result.Failures != nil {
		b.fail("warming up %s: %s", p.title, result.Failures)
	}
	figure, err := measure(ctx, r)
	if err != nil && ctx.Err() == nil {
		b.fail("memory of %s: %v; its last words:\n%s", p.title, err, r.process.lastWords())
		return math.NaN(), nil
	}
	return figure, err
}

// idleBytes is what the process takes for a connection that has said EHLO and waits.
func (b *bench) idleBytes(ctx context.Context, r *running) (float64, error) {
	before, err := r.process.settle()
	if err != nil {
		return 0, err
	}
	waiting, err := load.Idle(ctx, b.sources, r.addr, b.idle, func(c *load.Client) error { return c.Greet(clientName) })
	if err != nil {
		return 0, err
	}
	defer waiting.Close()
	after, err := r.process.settle()
	if err != nil {
		return 0, err
	}
	return float64(after-before) / float64(b.idle), nil
}

// growthBytes is what the process grows by, at most, while one large message passes.
func (b *bench) growthBytes(ctx context.Context, r *running) (float64, error) {
	before, err := r.process.settle()
	if err != nil {
		return 0, err
	}
	if err := r.process.resetPeak(); err != nil {
		return 0, err
	}
	arrived := b.sink.Counts().Bytes
	sent, err := load.Large(ctx, b.sources[0], r.addr, mail(b.letters.small, 1), b.large)
	if err != nil {
		return 0, err
	}
	// A proxy adds a few fields on top, never takes away.
	if got := b.sink.Counts().Bytes - arrived; got < sent {
		b.fail("%s: of a message of %d bytes %d arrived", r.title, sent, got)
	}
	peak, err := r.process.peak()
	return float64(peak - before), err
}
