package shared

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"gatepost/filters"
	"gatepost/proxy/store/engine"
)

// ledger counts for the whole site. It implements [filters.Ledger].
//
// Tallies go to the embedded store at once, so that this proxy knows its own part, and wait here for the next batch of
// the engine; in an outage they wait until it is over, as long as there is room. A batch of which it is not known whether
// it arrived is sent again as it was, under the same number, and counts once.
//
// What was read is believed for half a minute, and of whom much is known for longer: a few messages more do not change what
// a hundred have shown. This proxy's own tallies are added to it. In an outage its own part stands for the whole.
type ledger struct {
	store  *Store
	writer string

	mu      sync.Mutex // guards the following
	waiting map[string]filters.Standing
	untold  int64
	late    map[string]remembered // what was read
	before  map[string]remembered // and earlier

	telling sync.Mutex // guards the batch under way, for as long as the engine takes; locked before mu
	batch   engine.Writer
	keys    []string // none: there is none
	amounts []filters.Standing
}

const (
	tallyEvery    = time.Second
	tallyBatch    = 200             // about 2 ms of a server's time
	tallyLimit    = 2 * time.Second // for one batch
	maxWaiting    = 65_536          // about 200 bytes each
	believed      = 30 * time.Second
	believedLong  = 10 * time.Minute // at most
	fewMessages   = 10               // the time grows with each so many
	maxRemembered = 32_768           // as many again from before
)

// remembered is what the engine said of a key at a time.
type remembered struct {
	standing filters.Standing
	read     time.Time
	until    time.Time // it is believed
}

func (r *remembered) isFresh(now time.Time) bool { return !now.Before(r.read) && !now.After(r.until) }

// belief is for how long a standing that was read is believed.
func belief(s filters.Standing) time.Duration {
	return min(max(believed, time.Duration(s.Total()/fewMessages*float64(believed))), believedLong)
}

func newLedger(s *Store) *ledger {
	return &ledger{store: s, batch: engine.Writer{ID: rand.Text()}, waiting: map[string]filters.Standing{}}
}

// Tally implements [filters.Ledger].
func (l *ledger) Tally(key string, n filters.Counts, halfLife time.Duration) {
	more := filters.NewStanding(l.store.clock.Now(), n, halfLife)
	l.store.local.Add(key, more)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, known := range [...]map[string]remembered{l.late, l.before} {
		if r, ok := known[key]; ok {
			r.standing = r.standing.Add(more)
			known[key] = r
		}
	}
	earlier, waits := l.waiting[key]
	if !waits && len(l.waiting) >= maxWaiting {
		l.untold++
		return
	}
	l.waiting[key] = earlier.Add(more)
}

func (l *ledger) waits() (waiting, untold int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(len(l.waiting)), l.untold
}

// report tells the engine of tallies until ctx ends, and then of those that wait.
func (l *ledger) report(ctx context.Context) {
	ticker := time.NewTicker(tallyEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			l.tell(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), tallyLimit)
			defer cancel()
			l.tell(last)
			return
		}
	}
}

// tell sends batches until nothing waits, or one fails: it is sent again the next time.
func (l *ledger) tell(ctx context.Context) {
	for ctx.Err() == nil && l.tellBatch(ctx) {
	}
}

// tellBatch sends the batch that failed the last time, or the next one; false: there is none, or it fails.
func (l *ledger) tellBatch(ctx context.Context) bool {
	l.telling.Lock()
	defer l.telling.Unlock()
	e := l.store.usable()
	return e != nil && (len(l.keys) > 0 || l.next()) && l.send(ctx, e)
}

// send is called with telling held.
func (l *ledger) send(ctx context.Context, e *engine.Engine) bool {
	bounded, cancel := context.WithTimeout(ctx, tallyLimit)
	defer cancel()
	if err := e.Add(bounded, l.batch, l.keys, l.amounts); err != nil {
		l.store.log.Debug("shared store: tallies will be told again", "error", err)
		return false
	}
	l.keys, l.amounts = l.keys[:0], l.amounts[:0]
	return true
}

// next takes some of what waits. It is called with telling held.
func (l *ledger) next() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, more := range l.waiting {
		l.keys, l.amounts = append(l.keys, key), append(l.amounts, more)
		delete(l.waiting, key)
		if len(l.keys) == tallyBatch {
			break
		}
	}
	l.batch.Batch++
	return len(l.keys) > 0
}

// Standings implements [filters.Ledger].
func (l *ledger) Standings(ctx context.Context, keys []string) ([]filters.Standing, error) {
	if l.store.usable() == nil || len(keys) == 0 {
		return l.store.local.Standings(ctx, keys)
	}
	now := l.store.clock.Now()
	if found, ok := l.remembered(keys, now); ok {
		return found, nil
	}
	return decide(ctx, l.store, placeOf("", keys), func(ctx context.Context, e *engine.Engine) ([]filters.Standing, error) {
		found, err := e.Standings(ctx, keys)
		if err == nil {
			l.remember(keys, found, now)
		}
		return found, err
	}, func() ([]filters.Standing, error) { return l.store.local.Standings(ctx, keys) })
}

func (l *ledger) remembered(keys []string, now time.Time) ([]filters.Standing, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := make([]filters.Standing, len(keys))
	for i, key := range keys {
		r, ok := l.find(key)
		if !ok || !r.isFresh(now) {
			return nil, false
		}
		found[i] = r.standing.Live(now)
	}
	return found, true
}

// find is called with the lock held.
func (l *ledger) find(key string) (r remembered, ok bool) {
	if r, ok = l.late[key]; !ok {
		r, ok = l.before[key]
	}
	return r, ok
}

// unknown are the keys of which nothing is remembered that can be believed.
func (l *ledger) unknown(keys []string) (missing []string) {
	now := l.store.clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range keys {
		if r, ok := l.find(key); !ok || !r.isFresh(now) {
			missing = append(missing, key)
		}
	}
	return missing
}

// remember keeps what the engine has said, and adds to it what it was not told yet.
func (l *ledger) remember(keys []string, found []filters.Standing, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, key := range keys {
		found[i] = found[i].Add(l.waiting[key])
		if len(l.late) >= maxRemembered {
			l.late, l.before = nil, l.late
		}
		if l.late == nil {
			l.late = map[string]remembered{}
		}
		l.late[key] = remembered{found[i], now, now.Add(belief(found[i]))}
	}
}

// ForgetStandings implements [filters.Ledger]. In an outage the engine does not hear of it, nor does it of other proxies'
// own memories.
func (l *ledger) ForgetStandings(ctx context.Context, keys []string) (int, error) {
	here, err := l.store.local.ForgetStandings(ctx, keys)
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	for _, key := range keys {
		delete(l.waiting, key)
		delete(l.late, key)
		delete(l.before, key)
	}
	l.mu.Unlock()
	if len(keys) == 0 {
		return 0, nil
	}
	l.settle(ctx)
	return decide(ctx, l.store, placeOf("", keys), func(ctx context.Context, e *engine.Engine) (int, error) {
		return e.ForgetStandings(ctx, keys)
	}, func() (int, error) { return here, nil })
}

// settle has a batch that failed arrive first: sent again later, it would bring back what is forgotten.
func (l *ledger) settle(ctx context.Context) {
	l.telling.Lock()
	defer l.telling.Unlock()
	if e := l.store.usable(); e != nil && len(l.keys) > 0 {
		l.send(ctx, e)
	}
}

// RangeStandings implements [filters.Ledger]. It takes as long as it takes: nobody's mail waits for it.
func (l *ledger) RangeStandings(ctx context.Context, prefix string, yield func(key string, s filters.Standing) bool) error {
	if e := l.store.usable(); e != nil {
		return e.RangeStandings(ctx, prefix, yield)
	}
	return l.store.local.RangeStandings(ctx, prefix, yield)
}
