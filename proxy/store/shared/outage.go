package shared

import (
	"context"
	"errors"
	"time"

	"gatepost/filters"
	"gatepost/proxy/store/engine"
)

// outage is a time in which the embedded store decides.
type outage struct {
	since time.Time
	cause error
	place string // the hash tag of the decision that failed: where the probe is made
}

var errNotConnected = errors.New("no connection yet")

const (
	firstPause = 100 * time.Millisecond // before the first probe
	lastPause  = 2 * time.Second
	calm       = 10 * time.Second // an outage so soon after the last one lets the next probe wait longer
	mergeLimit = 2 * time.Second  // for one batch
	mergeBatch = 200
)

// fail begins an outage, unless there is one.
func (s *Store) fail(place string, cause error) {
	o := &outage{since: s.clock.Now(), cause: cause, place: place}
	if !s.outage.CompareAndSwap(nil, o) {
		return
	}
	s.counts.outages.Add(1)
	s.log.Warn("shared store: it cannot be used; this proxy decides by its own memory", "error", cause)
	select {
	case s.trouble <- struct{}{}:
	default:
	}
}

// watch ends outages. first is closed when the engine can be used for the first time.
func (s *Store) watch(ctx context.Context, first chan<- struct{}) {
	if since, interrupted := s.interrupted(ctx); interrupted {
		s.outage.Store(&outage{since: since, cause: errNotConnected})
	} else if s.answers(ctx, "") == nil {
		s.outage.Store(nil) // nothing was decided yet: there is nothing to merge
	}
	pause, ended := firstPause, time.Time{}
	for {
		if o := s.outage.Load(); o != nil {
			if time.Since(ended) > calm {
				pause = firstPause
			}
			s.noteOutage(ctx, o)
			for !s.recovered(ctx, o) {
				select {
				case <-ctx.Done():
					return
				case <-time.After(pause):
				}
				pause = min(2*pause, lastPause)
			}
			ended = time.Now()
		}
		if first != nil {
			close(first)
			first = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-s.trouble:
		}
	}
}

func (s *Store) connect() error {
	if s.engine.Load() != nil {
		return nil
	}
	e, err := engine.Open(s.config, s.clock)
	if err == nil {
		s.engine.Store(e)
	}
	return err
}

// answers tells whether the engine takes a write.
func (s *Store) answers(ctx context.Context, place string) error {
	if err := s.connect(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(s.config.Timeout))
	defer cancel()
	return s.engine.Load().Probe(ctx, place)
}

// recovered tries to end the outage.
func (s *Store) recovered(ctx context.Context, o *outage) bool {
	if err := s.answers(ctx, o.place); err != nil {
		s.noteCause(o, err)
		return false
	}
	e := s.engine.Load()
	begun := s.clock.Now()
	merged, err := s.merge(ctx, e, o.since)
	if err != nil {
		s.noteCause(o, err)
		return false
	}
	s.outage.Store(nil)
	s.log.Info("shared store: it is used again", "outage", s.clock.Now().Sub(o.since).Round(time.Millisecond).String(), "marks_merged", merged)
	// What was decided here while the marks were merged.
	if _, err := s.merge(ctx, e, begun); err != nil {
		s.outage.Store(&outage{since: begun, cause: err, place: o.place})
		return false
	}
	s.forgetOutage(ctx)
	return true
}

// noteCause keeps the latest reason, for who asks how the store is.
func (s *Store) noteCause(o *outage, cause error) {
	s.outage.Store(&outage{since: o.since, cause: cause, place: o.place})
}

// merge gives the engine all marks that were used here since then, and takes from it what was forgotten.
func (s *Store) merge(ctx context.Context, e *engine.Engine, since time.Time) (merged int, err error) {
	gone := s.takeForgotten()
	for f := range gone {
		if err := s.forgetIn(ctx, e, f); err != nil {
			for f := range gone {
				s.rememberForgotten(f.space, []string{f.key})
			}
			return 0, err
		}
	}
	since = since.Add(-time.Second) // decisions that were under way
	batches := map[string]*news{}
	flush := func(n *news) {
		if err == nil && len(n.keys) > 0 {
			bounded, cancel := context.WithTimeout(ctx, mergeLimit)
			_, err = e.Merge(bounded, n.space, n.keys, n.marks)
			cancel()
			merged += len(n.keys)
		}
		n.keys, n.marks = n.keys[:0], n.marks[:0]
	}
	scanned := s.local.Each(ctx, func(space, key string, m filters.Mark) bool {
		if m.Last.Before(since) || space == OutageSpace {
			return true
		}
		n := batches[space]
		if n == nil {
			n = &news{space: space}
			batches[space] = n
		}
		n.keys, n.marks = append(n.keys, key), append(n.marks, m)
		if len(n.keys) == mergeBatch {
			flush(n)
		}
		return err == nil
	})
	for _, n := range batches {
		flush(n)
	}
	s.counts.merged.Add(int64(merged))
	return merged, errors.Join(err, scanned)
}

// forgetIn forgets in the engine what was forgotten here, unless it has come again since.
func (s *Store) forgetIn(ctx context.Context, e *engine.Engine, f forgotten) error {
	ctx, cancel := context.WithTimeout(ctx, mergeLimit)
	defer cancel()
	marks, err := s.local.Peek(ctx, f.space, []string{f.key})
	if err == nil && !marks[0].Exists() {
		_, err = e.Forget(ctx, f.space, []string{f.key})
	}
	return err
}

// The begin of an outage is a mark, for a successor. OutageSpace is not for other proxies.
const (
	OutageSpace = "shared.outage"
	outageKey   = "since"
	outageKept  = 90 * 24 * time.Hour
)

func (s *Store) noteOutage(ctx context.Context, o *outage) {
	m := filters.Mark{First: o.since, Last: o.since, Expires: s.clock.Now().Add(outageKept)}
	s.keepNote(ctx, func(ctx context.Context) error {
		return s.local.Merge(ctx, OutageSpace, []string{outageKey}, []filters.Mark{m})
	})
}

func (s *Store) forgetOutage(ctx context.Context) {
	s.keepNote(ctx, func(ctx context.Context) error {
		_, err := s.local.Forget(ctx, OutageSpace, []string{outageKey})
		return err
	})
}

func (s *Store) keepNote(ctx context.Context, do func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := do(ctx); err != nil && ctx.Err() == nil {
		s.log.Warn("shared store: the begin of an outage cannot be noted; a restart would not merge what is learned in it", "error", err)
	}
}

// interrupted is when the outage began in which our predecessor ended.
func (s *Store) interrupted(ctx context.Context) (since time.Time, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	marks, err := s.local.Peek(ctx, OutageSpace, []string{outageKey})
	if err != nil || !marks[0].Exists() {
		return time.Time{}, false
	}
	return marks[0].First, true
}
