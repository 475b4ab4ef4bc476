package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"gatepost/cmd/gatepost-bench/load"
)

// journalKey is what -only calls the cost of the journal at a fixed pace.
const journalKey = "journal"

const (
	journalPace = 2000 // transactions per second, each in a session of its own
	// journalSlices is into how many turns each turn of the others is cut, and journalRounds how many there are for each of
	// their rounds: a difference of a few per cent is less than what turns on a busy machine differ by. What else it does
	// comes and goes in seconds, and hits both sides alike where their turns are short.
	journalSlices = 4
	journalRounds = 20
	// journalRest is longer than the journal keeps anything in memory alone.
	journalRest = 700 * time.Millisecond
)

// journalSide is one of the two that are compared.
type journalSide struct {
	*running
	used     time.Duration // up to the last reading
	messages int64         // since then
	costs    []float64     // seconds per 1,000 messages, by round
	rates    []float64
}

// journalCost measures what the journal adds to the processor time of a proxy that does not work all the time.
func (b *bench) journalCost(ctx context.Context) error {
	if !b.wants(journalKey) || !b.hasGatepost() {
		return nil
	}
	var with, without *journalSide
	for _, side := range []struct {
		place   **journalSide
		command commandFunc
	}{{&with, fullCommand}, {&without, silentCommand}} {
		r, err := b.start(ctx, gatepost(journalKey, "Gatepost, all filters", side.command))
		if err != nil {
			return err
		}
		defer r.stop()
		*side.place = &journalSide{running: r}
	}
	sides := []*journalSide{with, without}
	for range b.rounds*journalRounds + 1 {
		for _, side := range sides {
			if err := b.journalTurn(ctx, side); err != nil {
				return err
			}
		}
	}
	time.Sleep(journalRest)
	for _, side := range sides {
		if err := side.read(); err != nil {
			return err
		}
		side.costs, side.rates = side.costs[1:], side.rates[1:] // the first round warms up
	}
	b.foundJournal(with, without)
	fmt.Fprintln(os.Stderr, "journal: done")
	return nil
}

// journalTurn offers the load to one side. A turn's processor time is counted until the side's next turn: what the
// journal writes of it later belongs to it.
func (b *bench) journalTurn(ctx context.Context, side *journalSide) error {
	if err := side.read(); err != nil {
		return err
	}
	side.process.trimLog()
	result, err := load.Run(ctx, load.Options{Addr: side.addr, Sources: b.sources, Script: b.script(scenarios[0]), Parallel: 500, Pace: journalPace, Duration: b.time / journalSlices})
	if err != nil {
		return err
	}
	if result.Failures != nil {
		return fmt.Errorf("%s at %d a second: %s", side.title, journalPace, result.Failures)
	}
	side.messages = result.All
	side.rates = append(side.rates, result.Rate())
	return nil
}

// read closes the account of the turn before.
func (s *journalSide) read() error {
	used, err := s.process.cpu()
	if err != nil {
		return fmt.Errorf("%s has ended: %w\n%s", s.title, err, s.process.lastWords())
	}
	if s.messages > 0 {
		s.costs = append(s.costs, (used-s.used).Seconds()/float64(s.messages)*1000)
	}
	s.used, s.messages = used, 0
	return nil
}

func (b *bench) foundJournal(with, without *journalSide) {
	ratios := make([]float64, len(with.costs))
	for i := range ratios {
		ratios[i] = with.costs[i] / without.costs[i]
	}
	title := fmt.Sprintf("%d transactions/s, all filters, ", journalPace)
	b.found(finding{title: title + fmt.Sprintf("processor time with the journal (%d rounds; ± of the median)", len(ratios)), unit: "× without", digits: 3,
		figures: ratios, spread: medianError, goal: goal{1.05, atMost}})
	b.found(finding{title: title + "processor time without the journal", unit: "s per 1,000", digits: 3, figures: without.costs})
	b.found(finding{title: title + "reached, with the journal", unit: "per s", figures: with.rates})
}
