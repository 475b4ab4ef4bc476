package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"gatepost/filters"
	"gatepost/proxy/store"
)

// Engine is a connection to the shared store. It implements [filters.Store]; every error is one of the server, of the
// way to it, or of the caller's context: nobody stands in. It is safe for concurrent use.
type Engine struct {
	client  rueidis.Client
	keys    keys
	clock   filters.Clock
	cluster bool
	passed  recent // addresses of passes that were read lately

	trips, cached atomic.Int64
}

var _ filters.Store = (*Engine)(nil)

// Open connects. It takes seconds at most, and fails if no server answers.
func Open(c store.Redis, clock filters.Clock) (*Engine, error) {
	o, err := options(c)
	if err != nil {
		return nil, err
	}
	client, err := rueidis.NewClient(o)
	if err != nil {
		return nil, err
	}
	return &Engine{client: client, keys: newKeys(c.Prefix), clock: clock, cluster: c.Cluster}, nil
}

// Close ends all connections.
func (e *Engine) Close() { e.client.Close() }

// Trips counts the requests sent, Cached the look-ups that needed none.
func (e *Engine) Trips() (trips, cached int64) { return e.trips.Load(), e.cached.Load() }

func (e *Engine) now() time.Time { return e.clock.Now().Truncate(time.Millisecond).UTC() }

// Attempt implements [filters.Store].
func (e *Engine) Attempt(ctx context.Context, space string, keys []string, t filters.Terms) ([]filters.Mark, error) {
	if len(t.Unless) == 0 || !e.cluster {
		return e.attempt(ctx, space, keys, t)
	}
	beside, err := e.Peek(ctx, space, t.Unless)
	if err != nil {
		return nil, err
	}
	t.Unless = nil
	decide := func() ([]filters.Mark, error) { return e.attempt(ctx, space, keys, t) }
	if slices.ContainsFunc(beside, hasPassed) {
		decide = func() ([]filters.Mark, error) { return e.Peek(ctx, space, keys) }
	}
	marks, err := decide()
	return append(marks, beside...), err
}

func (e *Engine) attempt(ctx context.Context, space string, keys []string, t filters.Terms) ([]filters.Mark, error) {
	now := e.now()
	arguments := []string{milli(now), span(t.Delay + time.Millisecond - 1), span(t.Window), span(t.Keep), strconv.FormatUint(uint64(t.Count()), 10), strconv.Itoa(len(t.Unless))}
	marks, err := e.decide(ctx, attemptScript, space, slices.Concat(keys, t.Unless), now, arguments)
	if err != nil || !e.cluster {
		return marks, err
	}
	return marks, e.spread(ctx, space, keys, marks, now, t.Keep)
}

func hasPassed(m filters.Mark) bool { return !m.Passed.IsZero() }

// spread lets the keys pass that live elsewhere than one that has passed.
func (e *Engine) spread(ctx context.Context, space string, keys []string, marks []filters.Mark, now time.Time, keep time.Duration) error {
	waits := func(m filters.Mark) bool { return m.Passed.IsZero() }
	if !slices.ContainsFunc(marks, waits) || slices.IndexFunc(marks, func(m filters.Mark) bool { return !waits(m) }) < 0 {
		return nil
	}
	var waiting []string
	var places []int
	for i, m := range marks {
		if waits(m) {
			waiting, places = append(waiting, keys[i]), append(places, i)
		}
	}
	passed, err := e.decide(ctx, passScript, space, waiting, now, []string{milli(now), span(keep)})
	if err != nil {
		return err
	}
	for i, m := range passed {
		marks[places[i]] = m
	}
	return nil
}

// Pass implements [filters.Store].
func (e *Engine) Pass(ctx context.Context, space string, keys []string, keep time.Duration) error {
	_, err := e.PassMarks(ctx, space, keys, keep)
	return err
}

// PassMarks is Pass that returns the marks after it.
func (e *Engine) PassMarks(ctx context.Context, space string, keys []string, keep time.Duration) ([]filters.Mark, error) {
	now := e.now()
	return e.decide(ctx, passScript, space, keys, now, []string{milli(now), span(keep)})
}

// Forget implements [filters.Store].
func (e *Engine) Forget(ctx context.Context, space string, keys []string) (int, error) {
	if err := store.CheckSpace(space); err != nil {
		return 0, err
	}
	now, removed := e.now(), atomic.Int64{}
	err := e.run(ctx, e.groups(space, keys, store.Shorten), func(ctx context.Context, g group) error {
		n, err := e.execMarks(ctx, forgetScript, g, []string{milli(now)}).AsInt64()
		removed.Add(n)
		return err
	})
	return int(removed.Load()), err
}

// Merge joins marks of another memory, one per key, to those that are here (see [store.MergeMarks]). It returns how
// many of them changed what is here. Keys are as Range and Each of that memory give them.
func (e *Engine) Merge(ctx context.Context, space string, keys []string, marks []filters.Mark) (int, error) {
	if err := store.CheckSpace(space); err != nil {
		return 0, err
	}
	now, changed := e.now(), atomic.Int64{}
	err := e.run(ctx, e.groups(space, keys, store.StoredKey), func(ctx context.Context, g group) error {
		arguments := []string{milli(now)}
		for _, place := range g.places {
			arguments = append(arguments, string(appendMark(nil, marks[place])))
		}
		n, err := e.execMarks(ctx, mergeScript, g, arguments).AsInt64()
		changed.Add(n)
		return err
	})
	return int(changed.Load()), err
}

// Probe writes a key with a hash tag (see [Place]; anywhere if it is empty): a server that is full or read-only answers, but
// is of no use.
func (e *Engine) Probe(ctx context.Context, tag string) error {
	e.count(tag)
	set := e.client.B().Set().Key(e.keys.probe(tag)).Value(milli(e.now())).Px(time.Minute).Build()
	return e.client.Do(ctx, set).Error()
}

// decide runs a script that answers with the marks of its keys.
func (e *Engine) decide(ctx context.Context, s *rueidis.Lua, space string, keys []string, now time.Time, arguments []string) ([]filters.Mark, error) {
	if err := store.CheckSpace(space); err != nil {
		return nil, err
	}
	marks := make([]filters.Mark, len(keys))
	err := e.run(ctx, e.groups(space, keys, store.Shorten), func(ctx context.Context, g group) error {
		values, err := e.execMarks(ctx, s, g, arguments).AsStrSlice()
		if err != nil {
			return err
		}
		if len(values) != len(g.places) {
			return fmt.Errorf("a script answered %d values for %d keys", len(values), len(g.places))
		}
		for i, value := range values {
			// A mark whose time is over at once (a window of nothing) is one all the same.
			marks[g.places[i]] = parseMark(value, time.Time{})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return marks, nil
}

// count counts a request: to each node that has some of what has these hash tags, in a cluster; at most.
func (e *Engine) count(tags ...string) {
	n := int64(1)
	if e.cluster {
		slices.Sort(tags)
		n = int64(len(slices.Compact(tags)))
	}
	e.trips.Add(n)
}

func (e *Engine) exec(ctx context.Context, s *rueidis.Lua, names, arguments []string) rueidis.RedisResult {
	e.trips.Add(1)
	return s.Exec(ctx, e.client, names, arguments)
}

// group is the keys of one decision that one node decides.
type group struct {
	names  []string // in the engine: one of each standing, two of each mark
	fields []string // of marks
	places []int    // among the decision's keys
	place  string   // the hash tag
}

// groups is one group, and in a cluster one for each hash tag. name is how the keys are to be read.
func (e *Engine) groups(space string, keys []string, name func(key string) string) []group {
	var groups []group
	known := make(map[string]int, 1)
	for i, a := range e.keys.addresses(space, keys, name) {
		place := ""
		if e.cluster {
			place = a.place
		}
		at, ok := known[place]
		if !ok {
			at = len(groups)
			known[place] = at
			groups = append(groups, group{place: place})
		}
		g := &groups[at]
		g.names, g.fields, g.places = append(g.names, a.own, a.bucket), append(g.fields, a.field), append(g.places, i)
	}
	return groups
}

// execMarks runs a script over a group of marks.
func (e *Engine) execMarks(ctx context.Context, s *rueidis.Lua, g group, arguments []string) rueidis.RedisResult {
	return e.exec(ctx, s, g.names, slices.Concat(arguments, g.fields))
}

// run does the groups beside each other.
func (e *Engine) run(ctx context.Context, groups []group, do func(context.Context, group) error) error {
	switch len(groups) {
	case 0:
		return nil
	case 1:
		return do(ctx, groups[0])
	}
	errs := make([]error, len(groups))
	var running sync.WaitGroup
	for i, g := range groups[1:] {
		running.Go(func() { errs[i+1] = do(ctx, g) })
	}
	errs[0] = do(ctx, groups[0])
	running.Wait()
	return errors.Join(errs...)
}

func milli(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

func span(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
