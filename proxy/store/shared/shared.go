package shared

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"gatepost/filters"
	"gatepost/proxy/histogram"
	"gatepost/proxy/store"
	"gatepost/proxy/store/engine"
)

// Store is the memory of a site. It is safe for concurrent use.
type Store struct {
	*Meter
	*ledger
	config store.Redis
	local  *store.Store
	clock  filters.Clock
	log    *slog.Logger

	engine  atomic.Pointer[engine.Engine] // nil until there is a connection
	outage  atomic.Pointer[outage]        // nil: the engine decides
	asking  chan struct{}                 // a token for each question that is being asked
	trouble chan struct{}                 // wakes the watcher
	news    chan news                     // what the embedded store is to be told

	mu        sync.Mutex // guards forgotten
	forgotten map[forgotten]struct{}

	counts  counts
	latency histogram.Histogram

	stop    context.CancelFunc
	running sync.WaitGroup
}

var (
	_ filters.Store  = (*Store)(nil)
	_ filters.Meter  = (*Store)(nil)
	_ filters.Ledger = (*Store)(nil)
	_ filters.Ready  = (*Store)(nil)
)

// Open connects to the shared store and returns when it can be used, or after two seconds: then an outage has begun.
// local stays its owner's, and must be closed after this one.
func Open(config store.Redis, local *store.Store, clock filters.Clock, log *slog.Logger) *Store {
	ctx, stop := context.WithCancel(context.Background())
	s := &Store{
		config: config, local: local, clock: clock, log: log, stop: stop,
		asking:    make(chan struct{}, maxAsking),
		trouble:   make(chan struct{}, 1),
		news:      make(chan news, maxNews),
		forgotten: map[forgotten]struct{}{},
	}
	s.Meter = newMeter(s)
	s.ledger = newLedger(s)
	s.outage.Store(&outage{since: clock.Now(), cause: errNotConnected})
	first := make(chan struct{})
	s.running.Go(func() { s.tell(ctx) })
	s.running.Go(func() { s.watch(ctx, first) })
	s.running.Go(func() { s.Meter.report(ctx) })
	s.running.Go(func() { s.ledger.report(ctx) })
	s.running.Go(func() { s.adopt(ctx, first) })
	select {
	case <-first:
	case <-time.After(openPatience):
		log.Warn("shared store: it cannot be used yet; this proxy decides by its own memory", "error", s.Stats().Cause)
	}
	return s
}

const openPatience = 2 * time.Second

// Close ends the connections. Decisions after it are those of the embedded store.
func (s *Store) Close() {
	s.stop()
	s.running.Wait()
	s.outage.CompareAndSwap(nil, &outage{since: s.clock.Now(), cause: store.ErrClosed})
	if e := s.engine.Load(); e != nil {
		e.Close()
	}
}

// NeverWaitsInAttempt implements [filters.Ready].
func (s *Store) NeverWaitsInAttempt() {}

// Peek implements [filters.Store].
func (s *Store) Peek(ctx context.Context, space string, keys []string) ([]filters.Mark, error) {
	return decide(ctx, s, placeOf(space, keys), func(ctx context.Context, e *engine.Engine) ([]filters.Mark, error) {
		var beside []string
		marks, standings, err := e.PeekBeside(ctx, space, keys, func() []string {
			beside = s.ledger.unknown(filters.Foreseen(ctx))
			return beside
		})
		if err == nil && standings != nil {
			s.ledger.remember(beside, standings, s.clock.Now())
		}
		return marks, err
	}, func() ([]filters.Mark, error) { return s.local.Peek(ctx, space, keys) })
}

// Attempt implements [filters.Store].
func (s *Store) Attempt(ctx context.Context, space string, keys []string, t filters.Terms) ([]filters.Mark, error) {
	return decide(ctx, s, placeOf(space, keys), func(ctx context.Context, e *engine.Engine) ([]filters.Mark, error) {
		marks, err := e.Attempt(ctx, space, keys, t)
		if err == nil {
			s.learn(space, keys, marks[:len(keys)], nil)
		}
		return marks, err
	}, func() ([]filters.Mark, error) { return s.local.Attempt(ctx, space, keys, t) })
}

// Pass implements [filters.Store].
func (s *Store) Pass(ctx context.Context, space string, keys []string, keep time.Duration) error {
	_, err := decide(ctx, s, placeOf(space, keys), func(ctx context.Context, e *engine.Engine) (struct{}, error) {
		marks, err := e.PassMarks(ctx, space, keys, keep)
		s.learn(space, keys, marks, err)
		return struct{}{}, err
	}, func() (struct{}, error) { return struct{}{}, s.local.Pass(ctx, space, keys, keep) })
	return err
}

// Forget implements [filters.Store]. The embedded store forgets in any case. The embedded stores of other proxies do
// not: in an outage they may still know the sender.
func (s *Store) Forget(ctx context.Context, space string, keys []string) (int, error) {
	here, err := s.local.Forget(ctx, space, keys)
	if err != nil {
		return 0, err
	}
	return decide(ctx, s, placeOf(space, keys), func(ctx context.Context, e *engine.Engine) (int, error) {
		return e.Forget(ctx, space, keys)
	}, func() (int, error) {
		s.rememberForgotten(space, keys)
		return here, nil
	})
}

// Range implements [filters.Store]. It takes as long as it takes: nobody's mail waits for it.
func (s *Store) Range(ctx context.Context, space, prefix string, yield func(key string, m filters.Mark) bool) error {
	if e := s.usable(); e != nil {
		return e.Range(ctx, space, prefix, yield)
	}
	return s.local.Range(ctx, space, prefix, yield)
}

// usable is the engine, nil in an outage.
func (s *Store) usable() *engine.Engine {
	if s.outage.Load() != nil {
		return nil
	}
	return s.engine.Load()
}

// placeOf is the hash tag of what a decision was about (see [engine.Place]).
func placeOf(space string, keys []string) func() string {
	return func() string {
		if len(keys) == 0 {
			return ""
		}
		return engine.Place(space, keys[0])
	}
}

// maxAsking bounds the questions that are asked at a time. The client library has 1,024 places for those that wait for a
// connection, and who finds none waits for one whatever his time: of 6,000 who met a server that had just stopped, some
// waited 1.2 s.
const maxAsking = 256

// decide asks the engine, and in an outage the embedded store. The outage ends where it began: at the place. A question that
// has been asked is waited for, also when the caller has left: the answer is at hand the next time.
func decide[T any](ctx context.Context, s *Store, place func() string, remote func(context.Context, *engine.Engine) (T, error), local func() (T, error)) (T, error) {
	if s.usable() != nil {
		if a := filters.AttemptOf(ctx); a != nil {
			a.Miss()
			return *new(T), filters.ErrNotAtHand
		}
		if err := ctx.Err(); err != nil {
			return *new(T), err
		}
		if answer, ok := ask(ctx, s, place, remote); ok {
			return answer, nil
		}
	}
	s.counts.fallbacks.Add(1)
	return local()
}

// ask asks the engine, and begins an outage where that fails; false: there is no answer.
func ask[T any](ctx context.Context, s *Store, place func() string, remote func(context.Context, *engine.Engine) (T, error)) (answer T, ok bool) {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Duration(s.config.Timeout))
	defer cancel()
	start := time.Now()
	select {
	case s.asking <- struct{}{}:
		defer func() { <-s.asking }()
	case <-bounded.Done():
		s.fail(place(), bounded.Err())
		return answer, false
	}
	e := s.usable()
	if e == nil { // those before us have found out
		return answer, false
	}
	answer, err := remote(bounded, e)
	s.latency.Observe(time.Since(start))
	if err != nil {
		s.fail(place(), err)
		return answer, false
	}
	s.counts.decided.Add(1)
	return answer, true
}
