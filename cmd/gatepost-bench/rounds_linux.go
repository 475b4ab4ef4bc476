package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"gatepost/cmd/gatepost-bench/load"
)

// turn is what one peer did in one round of a scenario.
type turn struct {
	rate      float64 // messages per second
	p50, p99  time.Duration
	cpu       float64 // seconds of the proxy's process per 1,000 messages; NaN for direct
	worthless bool    // something went wrong
}

// contest is a scenario with the turns of all peers: turns[i][r] is what peers[i] did in round r.
type contest struct {
	scenario scenario
	size     int // bytes of a message
	peers    []peer
	turns    [][]turn
}

// speed plays all scenarios against all peers, which run all the time.
func (b *bench) speed(ctx context.Context) error {
	if !b.wantsSpeed() {
		return nil
	}
	present, err := b.startAll(ctx)
	defer func() {
		for _, r := range present {
			r.stop()
		}
	}()
	if err != nil {
		return err
	}
	for _, s := range scenarios {
		if !b.wants(s.key) {
			continue
		}
		c, err := b.contest(ctx, s, present)
		if err != nil {
			return err
		}
		b.report.contests = append(b.report.contests, c)
		fmt.Fprintf(os.Stderr, "%s: done\n", s.title)
	}
	return nil
}

// arrived is how many messages the sinks have taken.
func (b *bench) arrived() int64 { return b.sink.Counts().Messages + b.plainSink.Counts().Messages }

func (b *bench) wantsSpeed() bool {
	for _, s := range scenarios {
		if b.wants(s.key) {
			return true
		}
	}
	return false
}

// startAll starts the peers that are asked for and installed. On error, those that run are returned too.
func (b *bench) startAll(ctx context.Context) ([]*running, error) {
	var present []*running
	for _, p := range peers {
		if !b.wants(p.key) {
			continue
		}
		r, err := b.start(ctx, p)
		switch {
		case errors.Is(err, errMissing):
			b.report.leaveOut(p, err)
			continue
		case ctx.Err() != nil:
			return present, err
		case err != nil:
			b.fail("%v", err)
			continue
		}
		b.report.addVersion(p, b.tellVersion(p))
		present = append(present, r)
	}
	return present, nil
}

// contest lets the peers take turns, beginning with another one in each round. The first round warms up: connections to
// the sink, caches, the memory of the processes; it does not count.
func (b *bench) contest(ctx context.Context, s scenario, present []*running) (contest, error) {
	present = slices.DeleteFunc(slices.Clone(present), func(r *running) bool { return r.only != nil && !slices.Contains(r.only, s.key) })
	c := contest{scenario: s, size: len(s.mail(b.letters).Content), turns: make([][]turn, len(present))}
	for _, r := range present {
		c.peers = append(c.peers, r.peer)
	}
	for round := range b.rounds + 1 {
		for i := range present {
			i = (i + round) % len(present)
			t, err := b.turn(ctx, s, present[i])
			if err != nil {
				return c, err
			}
			if round > 0 {
				c.turns[i] = append(c.turns[i], t)
			}
		}
	}
	return c, nil
}

// turn plays a scenario against one peer.
func (b *bench) turn(ctx context.Context, s scenario, r *running) (turn, error) {
	before, used, err := b.arrived(), time.Duration(0), error(nil)
	if r.process != nil {
		r.process.trimLog()
		if used, err = r.process.cpu(); err != nil {
			return turn{}, fmt.Errorf("%s has ended: %w\n%s", r.title, err, r.process.lastWords())
		}
	}
	result, err := load.Run(ctx, load.Options{Addr: r.addr, Sources: b.sources, Script: b.script(s), Parallel: s.parallel, Duration: b.time})
	if err != nil {
		return turn{}, fmt.Errorf("%s, %s: %w", s.title, r.title, err)
	}
	t := turn{rate: result.Rate(), p50: result.Latency.Quantile(0.5), p99: result.Latency.Quantile(0.99), cpu: math.NaN()}
	if r.process != nil {
		after, err := r.process.cpu()
		if err != nil {
			return t, fmt.Errorf("%s has ended: %w\n%s", r.title, err, r.process.lastWords())
		}
		t.cpu = (after - used).Seconds() / float64(result.All) * 1000
	}
	arrived := b.arrived() - before
	switch {
	case result.Failures != nil:
		b.fail("%s, %s: %s", s.title, r.title, result.Failures)
	case result.InTime == 0:
		b.fail("%s, %s: no message in %s", s.title, r.title, b.time)
	case arrived != result.All:
		b.fail("%s, %s: %d messages were acknowledged, but %d arrived", s.title, r.title, result.All, arrived)
	default:
		return t, nil
	}
	t.worthless = true
	return t, nil
}
