package journal

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/proxy/telemetry"
	"gatepost/rules"
)

// Journal keeps what was decided and why. It is a policy.Recorder and a policy.Confirmer, safe for concurrent use.
//
// A record is packed on the goroutine that brings it, into a block in memory: no goroutine is woken for it. One
// goroutine, the writer, compresses and writes blocks.
type Journal struct {
	config atomic.Pointer[Config] // of which a reload changes all but the path
	clock  filters.Clock
	log    *slog.Logger
	disk   disk
	lock   *os.File // nil while the folder is another process's

	metrics Metrics

	mu      sync.Mutex // guards what follows
	current *builder
	waiting []sealed // for the writer, oldest first
	queued  int64    // bytes in waiting
	closed  bool
	dropped int64  // since the writer last said so
	spare   []byte // of a block that was written, for the next one
	// The rules in force, and when they were written last.
	rules     []*rules.Rule
	rulesTold time.Time

	wake  chan struct{} // capacity 1: the first entry of a block is in, or a block is full
	turns chan struct{} // received from by the writer, to show that it is not stuck

	owning  sync.Mutex    // guards closing, done and lock: one owner at a time
	closing chan struct{} // ends the writer; nil: there is none
	done    chan struct{} // closed when the writer has ended

	// The writer's own.
	segments []segment // oldest first, without the open one
	open     *openSegment
	number   uint64 // of the next segment
	failing  time.Time
	warned   time.Time
}

// sealed is a block that waits for the disk.
type sealed struct {
	head, body []byte
	entries    int
}

// Options are what a journal is handed. A zero Clock is the machine's, a zero Log says nothing.
type Options struct {
	Clock filters.Clock
	Log   *slog.Logger

	disk disk // for tests
}

// flushInterval is for how long an entry may be in memory alone: what kill -9 can take away is less than a second.
const flushInterval = 500 * time.Millisecond

// Open opens the folder of a journal for writing and makes it if it is missing. What a crash has left half written at the
// end of a file is cut off and logged; entries before it stay.
func Open(c Config, o Options) (*Journal, error) {
	j, err := New(c, o)
	if err != nil {
		return nil, err
	}
	return j, j.Own()
}

// New makes a journal whose folder another process owns: entries wait in memory until [Journal.Own] or [Journal.Forward].
func New(c Config, o Options) (*Journal, error) {
	if o.Clock == nil {
		o.Clock = filters.SystemClock{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.disk == nil {
		o.disk = osDisk{}
	}
	if err := os.MkdirAll(c.Path, 0o750); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j := &Journal{clock: o.Clock, log: o.Log, disk: o.disk, number: 1, wake: make(chan struct{}, 1), turns: make(chan struct{})}
	apply, err := j.Prepare(c)
	if err != nil {
		return nil, err
	}
	apply()
	return j, nil
}

// prepare looks through the folder and mends what a crash has left.
func (j *Journal) prepare() error {
	var err error
	j.number = 1
	if j.segments, err = segments(j.config.Load().Path); err != nil {
		return err
	}
	if n := len(j.segments); n > 0 {
		j.number = j.segments[n-1].number + 1
		if !j.mend(&j.segments[n-1]) {
			j.segments = j.segments[:n-1]
		}
	}
	now := j.clock.Now()
	j.retire(now)
	return removeDamaged(j.config.Load().Path, now.Add(-time.Duration(j.config.Load().Keep)))
}

// Metrics are the journal's counters.
func (j *Journal) Metrics() *Metrics { return &j.metrics }

// Record implements policy.Recorder.
func (j *Journal) Record(r *policy.Record) {
	verdict := telemetry.VerdictOf(r).String()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.admit() {
		j.metrics.Records.Add(1)
		j.current.record(r, verdict)
		j.added()
	}
}

// Confirmed implements policy.Confirmer.
func (j *Journal) Confirmed(transactionID string, at time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.admit() {
		j.current.confirmation(transactionID, at)
		j.added()
	}
}

// admit tells whether there is room for one more entry. The caller holds mu.
func (j *Journal) admit() bool {
	if !j.closed && j.queued+int64(j.current.size()) < int64(j.config.Load().Queue) {
		return true
	}
	j.dropped++
	j.metrics.Dropped.Add(1)
	return false
}

// added wakes the writer where it has something to do that it does not know of. The caller holds mu.
func (j *Journal) added() {
	if j.current.full() {
		j.seal()
	} else if j.current.entries > 1 {
		return
	}
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// seal ends the current block and begins another. The caller holds mu.
func (j *Journal) seal() {
	if j.current.entries == 0 {
		return
	}
	b := j.current
	body := b.appendBody(slices.Grow(j.spare[:0], b.size()+64))
	j.spare = nil
	j.waiting = append(j.waiting, sealed{head: b.appendHead(nil, len(body)), body: body, entries: b.entries})
	j.queued += int64(len(body))
	j.metrics.Queued.Store(j.queued)
	b.reset()
}

// Close writes what is in memory and ends the writer. What the disk does not take in ten seconds is lost. Records that
// come later are dropped.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return nil
	}
	j.closed = true
	j.mu.Unlock()
	return j.Release()
}
