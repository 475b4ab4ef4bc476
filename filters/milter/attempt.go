package milter

import (
	"context"
	"errors"
	"io"

	"gatepost/filters"
)

// attempt plays the message over a connection that was kept, or over a new one. A milter may have closed one that was
// kept: it is then asked again over a new one, if it has not said a word.
func (f *Filter) attempt(ctx context.Context, v filters.View) (*Facts, error) {
	if err := f.enter(ctx, v.Message); err != nil {
		return nil, err
	}
	defer f.pool.leave()
	if l := f.pool.take(v.Session, v.Greeting); l != nil {
		count := &f.counts.kept
		if l.handedOn {
			count = &f.counts.handedOn
		}
		count.Add(1)
		facts, err := f.over(ctx, l, v)
		var theirs *fault
		if err == nil || l.count > 0 || !errors.As(err, &theirs) {
			return facts, err
		}
		if l.handedOn && f.pool.stopHandingOn() {
			f.env.Log.Warn("the milter does not go on with another client over the same connection: each gets one of its own from now on",
				"milter", f.config.Name, "error", err)
		}
	}
	l, err := f.dial(ctx)
	if err != nil {
		return nil, err
	}
	f.counts.opened.Add(1)
	return f.over(ctx, l, v)
}

// enter waits for a place among the connections. Half of them are for messages that are complete: clients that send
// slowly would otherwise keep the milter from everybody else.
func (f *Filter) enter(ctx context.Context, m *filters.Message) error {
	if f.pool.enterEarly() {
		return nil
	}
	if _, err := io.Copy(io.Discard, m.Reader(ctx)); err != nil {
		return err
	}
	return f.pool.enter(ctx)
}

// over plays the message over a connection and keeps it, or closes it.
func (f *Filter) over(ctx context.Context, l *link, v filters.View) (*Facts, error) {
	stop := l.giveUpWith(ctx)
	l.heard, l.count = 0, 0
	p := &play{filter: f, link: l, ctx: ctx, view: v}
	err := p.run()
	l.handedOn = l.handedOn && l.count == 0
	if stop() && err == nil && p.reusable {
		f.pool.keep(l)
	} else {
		l.quit()
	}
	if err != nil {
		return nil, err
	}
	return p.facts(), nil
}
