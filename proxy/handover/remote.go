package handover

import (
	"context"
	"time"

	"gatepost/filters"
)

// decision is the argument of the calls about a store.
type decision struct {
	Space string
	Keys  []string
	Terms filters.Terms // of an attempt; Keep also of a pass
}

// found is an item of the stream of a range.
type found struct {
	Key  string
	Mark filters.Mark
}

// count is the argument of the calls about limits.
type count struct {
	Bucket filters.Bucket
	N      int64
}

// meterPatience is how long a [filters.Meter] may take.
const meterPatience = 100 * time.Millisecond

// Remote is a memory that the process at the other end of a link owns.
type Remote struct {
	link *Link
	name string
}

var (
	_ filters.Store  = Remote{}
	_ filters.Ledger = Remote{}
	_ filters.Meter  = Remote{}
)

// NewRemote asks the other end of a link for one of its memories, by the name under which that serves it.
func NewRemote(l *Link, name string) Remote { return Remote{l, name} }

// Peek implements [filters.Store]. In an attempt nothing is at hand.
func (r Remote) Peek(ctx context.Context, space string, keys []string) (marks []filters.Mark, err error) {
	if a := filters.AttemptOf(ctx); a != nil {
		a.Miss()
		return nil, filters.ErrNotAtHand
	}
	err = r.link.Call(ctx, r.name+".peek", decision{Space: space, Keys: keys}, &marks)
	return marks, err
}

// Attempt implements [filters.Store].
func (r Remote) Attempt(ctx context.Context, space string, keys []string, t filters.Terms) (marks []filters.Mark, err error) {
	err = r.link.Call(ctx, r.name+".attempt", decision{Space: space, Keys: keys, Terms: t}, &marks)
	return marks, err
}

// Pass implements [filters.Store].
func (r Remote) Pass(ctx context.Context, space string, keys []string, keep time.Duration) error {
	return r.link.Call(ctx, r.name+".pass", decision{Space: space, Keys: keys, Terms: filters.Terms{Keep: keep}}, nil)
}

// Forget implements [filters.Store].
func (r Remote) Forget(ctx context.Context, space string, keys []string) (n int, err error) {
	err = r.link.Call(ctx, r.name+".forget", decision{Space: space, Keys: keys}, &n)
	return n, err
}

// Range implements [filters.Store]. yield is called when all has come.
func (r Remote) Range(ctx context.Context, space, prefix string, yield func(key string, m filters.Mark) bool) error {
	return Stream(ctx, r.link, r.name+".range", decision{Space: space, Keys: []string{prefix}}, func(page []found) bool {
		for _, f := range page {
			if !yield(f.Key, f.Mark) {
				return false
			}
		}
		return true
	})
}

// Allow implements [filters.Meter].
func (r Remote) Allow(ctx context.Context, b filters.Bucket) (bool, error) {
	return r.count(ctx, r.name+".allow", b, true)
}

// IsEmpty implements [filters.Meter].
func (r Remote) IsEmpty(ctx context.Context, b filters.Bucket) (bool, error) {
	return r.count(ctx, r.name+".empty", b, false)
}

// count asks; without an answer nobody is over a limit.
func (r Remote) count(ctx context.Context, name string, b filters.Bucket, without bool) (answer bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, meterPatience)
	defer cancel()
	if err := r.link.Call(ctx, name, count{Bucket: b}, &answer); err != nil {
		return without, err
	}
	return answer, nil
}

// Take implements [filters.Meter].
func (r Remote) Take(b filters.Bucket, n int64) { _ = r.link.Notify(r.name+".take", count{b, n}) }

// ServeStore lets the other end of a link use a store.
func ServeStore(l *Link, name string, store filters.Store) {
	handleDecision(l, name+".peek", func(ctx context.Context, d *decision) (any, error) { return store.Peek(ctx, d.Space, d.Keys) })
	handleDecision(l, name+".attempt", func(ctx context.Context, d *decision) (any, error) {
		return store.Attempt(ctx, d.Space, d.Keys, d.Terms)
	})
	handleDecision(l, name+".pass", func(ctx context.Context, d *decision) (any, error) {
		return nil, store.Pass(ctx, d.Space, d.Keys, d.Terms.Keep)
	})
	handleDecision(l, name+".forget", func(ctx context.Context, d *decision) (any, error) { return store.Forget(ctx, d.Space, d.Keys) })
	l.Handle(name+".range", func(ctx context.Context, body []byte, send func(any) error) (any, error) {
		var d decision
		if err := Decode(body, &d); err != nil || len(d.Keys) != 1 {
			return nil, errNotUnderstood
		}
		p := pages[found]{send: send}
		err := store.Range(ctx, d.Space, d.Keys[0], func(key string, m filters.Mark) bool { return p.add(found{key, m}) })
		return nil, p.end(err)
	})
	if ledger, ok := store.(filters.Ledger); ok {
		serveLedger(l, name, ledger)
	}
}

// ServeMeter lets the other end of a link count. meter may return nil: nobody is over a limit then.
func ServeMeter(l *Link, name string, meter func() filters.Meter) {
	handleCount(l, name+".allow", func(ctx context.Context, b filters.Bucket) (bool, error) {
		if m := meter(); m != nil {
			return m.Allow(ctx, b)
		}
		return true, nil
	})
	handleCount(l, name+".empty", func(ctx context.Context, b filters.Bucket) (bool, error) {
		if m := meter(); m != nil {
			return m.IsEmpty(ctx, b)
		}
		return false, nil
	})
	l.HandleNotice(name+".take", func(body []byte) {
		var c count
		if m := meter(); m != nil && Decode(body, &c) == nil {
			m.Take(c.Bucket, c.N)
		}
	})
}

func handleDecision(l *Link, name string, h func(context.Context, *decision) (any, error)) {
	l.Handle(name, func(ctx context.Context, body []byte, _ func(any) error) (any, error) {
		var d decision
		if err := Decode(body, &d); err != nil {
			return nil, errNotUnderstood
		}
		return h(ctx, &d)
	})
}

// handleCount leaves out an error beside an answer: the answer is as good as can be had.
func handleCount(l *Link, name string, h func(context.Context, filters.Bucket) (bool, error)) {
	l.Handle(name, func(ctx context.Context, body []byte, _ func(any) error) (any, error) {
		var c count
		if err := Decode(body, &c); err != nil {
			return nil, errNotUnderstood
		}
		ok, _ := h(ctx, c.Bucket)
		return ok, nil
	})
}
