package handover

import (
	"context"
	"errors"
	"time"

	"gatepost/filters"
)

var errNoLedger = errors.New("this store keeps no ledger")

// tally is the argument of the notice "….tally".
type tally struct {
	Key      string
	Counts   filters.Counts
	HalfLife time.Duration
}

// standing is an item of the stream "….standings.range".
type standing struct {
	Key      string
	Standing filters.Standing
}

// askLedger asks the owner of a memory, which is a [filters.Ledger] too.
func (m *Memory) askLedger(ctx context.Context, f func(filters.Ledger) error) error {
	return m.Ask(ctx, func(s filters.Store) error {
		if l, ok := s.(filters.Ledger); ok {
			return f(l)
		}
		return errNoLedger
	})
}

// Tally implements [filters.Ledger]. What is tallied while nobody owns the memory is told to the next owner, within a
// bound.
func (m *Memory) Tally(key string, n filters.Counts, halfLife time.Duration) {
	if !m.AskNow(func(s filters.Store) { tallyTo(s, tally{key, n, halfLife}) }) {
		m.untold.add(tally{key, n, halfLife})
		m.AskNow(m.payTallies) // somebody may have sat down meanwhile
	}
}

func tallyTo(s filters.Store, t tally) {
	if l, ok := s.(filters.Ledger); ok {
		l.Tally(t.Key, t.Counts, t.HalfLife)
	}
}

func (m *Memory) payTallies(s filters.Store) { m.untold.pay(func(t tally) { tallyTo(s, t) }) }

// Settle lets an owner sit down, and tells what was tallied meanwhile.
func (m *Memory) Settle(s filters.Store) {
	m.Take(s)
	m.payTallies(s)
}

// Standings implements [filters.Ledger].
func (m *Memory) Standings(ctx context.Context, keys []string) (list []filters.Standing, err error) {
	if a := filters.AttemptOf(ctx); a != nil {
		err = errNoLedger
		if !m.AskNow(func(s filters.Store) {
			if l, ok := s.(filters.Ledger); ok {
				list, err = l.Standings(ctx, keys)
			}
		}) {
			a.Miss()
			return nil, filters.ErrNotAtHand
		}
		return list, err
	}
	err = m.askLedger(ctx, func(l filters.Ledger) (err error) {
		list, err = l.Standings(ctx, keys)
		return err
	})
	return list, err
}

// ForgetStandings implements [filters.Ledger].
func (m *Memory) ForgetStandings(ctx context.Context, keys []string) (n int, err error) {
	err = m.askLedger(ctx, func(l filters.Ledger) (err error) {
		n, err = l.ForgetStandings(ctx, keys)
		return err
	})
	return n, err
}

// RangeStandings implements [filters.Ledger].
func (m *Memory) RangeStandings(ctx context.Context, prefix string, yield func(key string, s filters.Standing) bool) error {
	return m.askLedger(ctx, func(l filters.Ledger) error { return l.RangeStandings(ctx, prefix, yield) })
}

// Tally implements [filters.Ledger].
func (r Remote) Tally(key string, n filters.Counts, halfLife time.Duration) {
	_ = r.link.Notify(r.name+".tally", tally{key, n, halfLife})
}

// Standings implements [filters.Ledger]. In an attempt nothing is at hand.
func (r Remote) Standings(ctx context.Context, keys []string) (list []filters.Standing, err error) {
	if a := filters.AttemptOf(ctx); a != nil {
		a.Miss()
		return nil, filters.ErrNotAtHand
	}
	err = r.link.Call(ctx, r.name+".standings", decision{Keys: keys}, &list)
	return list, err
}

// ForgetStandings implements [filters.Ledger].
func (r Remote) ForgetStandings(ctx context.Context, keys []string) (n int, err error) {
	err = r.link.Call(ctx, r.name+".standings.forget", decision{Keys: keys}, &n)
	return n, err
}

// RangeStandings implements [filters.Ledger]. yield is called when all has come.
func (r Remote) RangeStandings(ctx context.Context, prefix string, yield func(key string, s filters.Standing) bool) error {
	return Stream(ctx, r.link, r.name+".standings.range", decision{Keys: []string{prefix}}, func(page []standing) bool {
		for _, s := range page {
			if !yield(s.Key, s.Standing) {
				return false
			}
		}
		return true
	})
}

// serveLedger lets the other end of a link use a ledger.
func serveLedger(l *Link, name string, ledger filters.Ledger) {
	l.HandleNotice(name+".tally", func(body []byte) {
		var t tally
		if Decode(body, &t) == nil {
			ledger.Tally(t.Key, t.Counts, t.HalfLife)
		}
	})
	handleDecision(l, name+".standings", func(ctx context.Context, d *decision) (any, error) { return ledger.Standings(ctx, d.Keys) })
	handleDecision(l, name+".standings.forget", func(ctx context.Context, d *decision) (any, error) {
		return ledger.ForgetStandings(ctx, d.Keys)
	})
	l.Handle(name+".standings.range", func(ctx context.Context, body []byte, send func(any) error) (any, error) {
		var d decision
		if err := Decode(body, &d); err != nil || len(d.Keys) != 1 {
			return nil, errNotUnderstood
		}
		p := pages[standing]{send: send}
		err := ledger.RangeStandings(ctx, d.Keys[0], func(key string, s filters.Standing) bool { return p.add(standing{key, s}) })
		return nil, p.end(err)
	})
}
