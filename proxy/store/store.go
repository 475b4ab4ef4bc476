package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"gatepost/filters"
)

// Errors of decisions. With both, nothing was changed.
var (
	// ErrFull tells that a mark could not be remembered: too many wait for the disk, or the store is at its bound.
	ErrFull = errors.New("store: no room for another mark")
	// ErrClosed tells that the store has been closed.
	ErrClosed = errors.New("store: closed")
)

// maxDecisions bounds the decisions under way at once, so that a hanging disk does not collect goroutines.
const maxDecisions = 1024

// Store keeps marks on disk. It implements [filters.Store] and is safe for concurrent use.
type Store struct {
	config Config                 // as it was opened with
	bounds atomic.Pointer[Config] // in force
	clock  filters.Clock
	log    *slog.Logger
	fs     vfs.FS
	lock   io.Closer
	slots  chan struct{} // one per decision under way

	mu     sync.RWMutex // guards disk, closed; every decision holds it for reading
	disk   *disk        // nil while a broken one is being replaced, or cannot be opened
	closed bool

	marks   shards
	ledger  ledger
	entries atomic.Int64 // marks on disk
	counts  counts
	trouble trouble

	flushes chan chan struct{}
	stop    chan struct{}
	stopped chan struct{}
	patient time.Duration // how long Close waits for the disk
	pause   time.Duration // between two attempts to open the folder
	retry   time.Time     // of the next one; its goroutine's own
}

var (
	_ filters.Store  = (*Store)(nil)
	_ filters.Ledger = (*Store)(nil)
	_ filters.Ready  = (*Store)(nil)
)

// Open opens the store in config.Path, or makes it, and starts writing what decisions leave. The error wraps [ErrOwned]
// while another process has it open, and [ErrNewer] if a later release has written it. Marks that cannot be read are set
// aside, and logged; where the machine does not let us read or write them now, the store goes on from memory and tries
// again.
func Open(config Config, clock filters.Clock, log *slog.Logger) (*Store, error) {
	s, err := prepare(config, clock, log, vfs.Default)
	if err != nil {
		return nil, err
	}
	go s.maintain()
	return s, nil
}

// prepare is Open without the goroutine.
func prepare(config Config, clock filters.Clock, log *slog.Logger, fs vfs.FS) (*Store, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	s := &Store{
		config: config, clock: clock, log: log, fs: fs,
		slots:   make(chan struct{}, maxDecisions),
		flushes: make(chan chan struct{}),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
		patient: 10 * time.Second,
		pause:   5 * time.Second,
	}
	s.bounds.Store(&config)
	s.trouble.log = log
	if err := fs.MkdirAll(config.Path, 0o700); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	lock, err := fs.Lock(fs.PathJoin(config.Path, lockName))
	if err != nil {
		if errors.Is(err, syscall.EAGAIN) || strings.Contains(err.Error(), "lock held by current process") {
			err = ErrOwned
		}
		return nil, fmt.Errorf("store: %s: %w", config.Path, err)
	}
	s.lock = lock
	if err := s.openMarks(); errors.Is(err, ErrNewer) {
		return nil, errors.Join(fmt.Errorf("store: %s: %w", config.Path, err), lock.Close())
	} else if err != nil {
		s.openLater(err)
	}
	return s, nil
}

// Peek implements [filters.Store].
func (s *Store) Peek(ctx context.Context, space string, keys []string) ([]filters.Mark, error) {
	if a := filters.AttemptOf(ctx); a != nil {
		marks, ok := s.peekAtHand(space, keys)
		if !ok {
			a.Miss()
			return nil, filters.ErrNotAtHand
		}
		return marks, s.counts.called(Peek, nil)
	}
	marks, err := decide(ctx, s, space, keys, func(d *decision) ([]filters.Mark, error) { return d.marks, nil })
	return marks, s.counts.called(Peek, err)
}

// Attempt implements [filters.Store]. If the marks cannot be remembered, a sender that passes passes all the same; for
// one that would have to come back the error is [ErrFull].
func (s *Store) Attempt(ctx context.Context, space string, keys []string, t filters.Terms) ([]filters.Mark, error) {
	marks, err := decide(ctx, s, space, slices.Concat(keys, t.Unless), func(d *decision) ([]filters.Mark, error) {
		all := d.marks
		if hasPassed(all[len(keys):]) {
			return all, nil
		}
		d.first(len(keys))
		attempt(d.marks, d.now, t)
		if err := d.remember(); err != nil && (len(d.marks) == 0 || d.marks[0].Passed.IsZero()) {
			return nil, err
		}
		return all, nil
	})
	return marks, s.counts.called(Attempt, err)
}

// Pass implements [filters.Store].
func (s *Store) Pass(ctx context.Context, space string, keys []string, keep time.Duration) error {
	_, err := decide(ctx, s, space, keys, func(d *decision) (struct{}, error) {
		for i := range d.marks {
			pass(&d.marks[i], d.now, keep)
		}
		return struct{}{}, d.remember()
	})
	return s.counts.called(Pass, err)
}

// Forget implements [filters.Store].
func (s *Store) Forget(ctx context.Context, space string, keys []string) (int, error) {
	n, err := decide(ctx, s, space, keys, func(d *decision) (int, error) { return d.forget() })
	return n, s.counts.called(Forget, err)
}

// Range implements [filters.Store]. Keys of 512 bytes and more come with their end hashed; a prefix finds them by
// their first 447 bytes. Marks that change meanwhile may be missed or come as they were.
func (s *Store) Range(ctx context.Context, space, prefix string, yield func(key string, m filters.Mark) bool) error {
	err := CheckSpace(space)
	if err == nil {
		start := []byte(space + "\x00" + prefix)
		err = s.scan(ctx, start, successor(start), func(record string, m filters.Mark) bool {
			return yield(record[len(space)+1:], m)
		})
	}
	return s.counts.called(Range, err)
}

// scan calls yield for every live mark whose record key is not before start and before end (nil: no end).
func (s *Store) scan(ctx context.Context, start, end []byte, yield func(record string, m filters.Mark) bool) error {
	now := s.now()
	// Memory first: what is written between the two steps is then seen once, and what was written before is on disk.
	inMemory := s.marks.copyRange(string(start), string(end))
	for record, e := range inMemory {
		if m := live(e.mark, now); !e.deleted && m.Exists() && !yield(record, m) {
			return ctx.Err()
		}
	}
	for start != nil {
		chunk, err := s.readChunk(ctx, start, end)
		if err != nil {
			return err
		}
		for _, f := range chunk.found {
			if _, known := inMemory[f.record]; known {
				continue
			}
			if m := live(f.mark, now); m.Exists() && !yield(f.record, m) {
				return nil
			}
		}
		start = chunk.next
	}
	return nil
}

type chunk struct {
	found []foundMark
	next  []byte
}

type foundMark struct {
	record string
	mark   filters.Mark
}

// readChunk reads some marks on disk, so that a slow reader of Range keeps nothing open.
func (s *Store) readChunk(ctx context.Context, start, end []byte) (chunk, error) {
	return within(ctx, s, func() (c chunk, err error) {
		if s.disk == nil {
			return c, nil
		}
		c.next = s.disk.walk(start, end, 512, func(record, value []byte) {
			if m, ok := parseMark(value); ok {
				c.found = append(c.found, foundMark{string(record), m})
			}
		})
		return c, nil
	})
}

// now is the clock's time in the resolution of marks.
func (s *Store) now() time.Time { return s.clock.Now().Truncate(resolution).UTC() }

// Flush returns when all that was decided before is on disk.
func (s *Store) Flush(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case s.flushes <- done:
	case <-s.stopped:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("store: the disk is not ready: %w", ctx.Err())
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("store: the disk does not take the marks: %w", ctx.Err())
	}
}

// Close writes what is in memory and releases the folder; a successor can open it then. Decisions fail with [ErrClosed]
// from its begin. If the disk does not take the marks within ten seconds, they are lost, the folder stays locked until
// the process ends, and the error says so.
func (s *Store) Close() error {
	s.mu.Lock()
	again := s.closed
	s.closed = true
	s.mu.Unlock()
	if again {
		return nil
	}
	close(s.stop)
	timer := time.NewTimer(s.patient)
	defer timer.Stop()
	select {
	case <-s.stopped:
		return nil
	case <-timer.C:
		return fmt.Errorf("store: the disk does not take %d marks: they are lost", s.marks.pending.Load())
	}
}
