package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options is what the flags say.
type options struct {
	gatepost string
	haproxy  string
	rounds   int
	time     time.Duration // of each turn
	repeats  int           // of each measurement of memory
	only     []string      // keys of peers, scenarios and memory measurements; empty: all
	idle     int           // connections
	waiters  int           // clients that wait
	entries  int           // of the greylist on disk, at a start
	many     int           // of the greylist on disk, where its growth is measured
	large    int64         // bytes
	chunking bool          // of the sink
	out      string
	flood    bool
}

func main() {
	o, err := parseFlags(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err = run(ctx, o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gatepost-bench:", err)
		os.Exit(1)
	}
}

func parseFlags(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("gatepost-bench", flag.ContinueOnError)
	f.StringVar(&o.gatepost, "gatepost", "bin/gatepost", "the `binary` to measure; left out if it is not there")
	f.StringVar(&o.haproxy, "haproxy", "haproxy", "the `binary` to compare with; left out if it is not there")
	f.IntVar(&o.waiters, "waiters", 15_000, "clients that wait at once at a Gatepost; a third of them under TLS")
	f.IntVar(&o.entries, "entries", 1_000_000, "greylist entries on disk at a start")
	f.IntVar(&o.many, "many", 10_000_000, "greylist entries on disk, where 10,000 are compared with many; to write so many takes two minutes")
	f.IntVar(&o.rounds, "rounds", 8, "how often each peer has its turn in each scenario")
	f.DurationVar(&o.time, "time", time.Second, "length of a turn")
	f.IntVar(&o.repeats, "repeats", 2, "how often memory is measured, each time with a new process")
	f.IntVar(&o.idle, "idle", 3000, "idle connections to measure memory with")
	f.Int64Var(&o.large, "large", 1<<30, "`bytes` of the one large message")
	f.BoolVar(&o.chunking, "chunking", true, "whether the sink offers CHUNKING")
	f.StringVar(&o.out, "out", "", "`file` to write the tables to as markdown")
	only := f.String("only", "", "`keys` of the peers, scenarios and memory measurements to do, separated by commas: "+strings.Join(keys(), ","))
	f.BoolVar(&o.flood, "flood", false, "send Gatepost too much of everything instead of measuring how fast it is")
	quick := f.Bool("quick", false, "a rough look in a minute: -rounds 2 -time 200ms -repeats 1 -idle 1000 -waiters 2000 -entries 100000 -many 100000 -large 67108864")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("%q is not a flag", f.Arg(0))
	}
	if *quick {
		o.rounds, o.time, o.repeats, o.idle, o.large = 2, 200*time.Millisecond, 1, 1000, 64<<20
		o.waiters, o.entries, o.many = 2000, 100_000, 100_000
	}
	if o.rounds < 1 || o.repeats < 1 || o.time < 10*time.Millisecond || o.idle < 1 || o.waiters < 10 || o.entries < 1 || o.many < 1 || o.large < 1<<20 {
		return o, errors.New("-rounds, -repeats, -idle, -entries and -many must be 1 at least, -waiters 10, -time 10ms, -large 1 MiB")
	}
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	for _, key := range o.only {
		if !slices.Contains(keys(), key) {
			return o, fmt.Errorf("-only: there is no %q, only %s", key, strings.Join(keys(), ", "))
		}
	}
	return o, nil
}

// keys is what -only can name.
func keys() []string {
	var all []string
	for _, p := range peers {
		all = append(all, p.key)
	}
	for _, s := range scenarios {
		all = append(all, s.key)
	}
	return append(all, journalKey, idleKey, growthKey, refuseKey, waitKey, callsKey, reloadKey, startKey, scaleKey)
}

// wants tells whether -only leaves a key in. Peers and measurements are chosen apart: who names only peers wants all
// measurements of them, and the other way round.
func (o options) wants(key string) bool {
	isPeer := func(key string) bool { return slices.ContainsFunc(peers, func(p peer) bool { return p.key == key }) }
	sameKind := func(other string) bool { return isPeer(other) == isPeer(key) }
	return slices.Contains(o.only, key) || !slices.ContainsFunc(o.only, sameKind)
}
