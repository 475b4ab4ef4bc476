package main

import (
	"context"
	"time"

	"gatepost/policy"
	"gatepost/proxy/admin"
	"gatepost/proxy/journal"
)

// recordedSince is the part of the journal as the pages read it: until ctx ends.
func (o operator) recordedSince(ctx context.Context, since time.Duration) recorded {
	read := func(each func(*journal.Reader) error) error {
		reader, err := o.openJournal()
		if err != nil {
			return err
		}
		defer reader.Close()
		if err := each(reader); ctx.Err() == nil {
			return err
		}
		return nil
	}
	return recorded{
		mail: func(yield func(*journal.Entry, *policy.Recording)) error {
			return read(func(r *journal.Reader) error {
				return r.Each(ctx, journal.Query{Since: o.h.clock.Now().Add(-since)}, func(e *journal.Entry) bool {
					if e.Session != nil {
						yield(e, e.Recording())
					}
					return ctx.Err() == nil
				})
			})
		},
		changes: func(yield func(*journal.Change)) error {
			return read(func(r *journal.Reader) error { return eachChange(ctx, r, yield) })
		},
	}
}

// Observe implements admin.House.
func (o operator) Observe(ctx context.Context, since time.Duration) (list []*admin.Observed, err error) {
	watched, err := watch(o.h.inForce().config, o.recordedSince(ctx, since), "", o.h.clock.Now())
	for _, w := range watched {
		list = append(list, w.Observed)
	}
	return list, err
}

// Recommend implements admin.House.
func (o operator) Recommend(ctx context.Context, since time.Duration) (*admin.Advice, error) {
	found, err := advise(o.h.inForce().config, o.recordedSince(ctx, since))
	if err != nil {
		return nil, err
	}
	out := &admin.Advice{Transactions: found.Transactions, Sessions: found.Sessions, Recommendations: []*admin.Recommendation{}, Fits: found.Fits}
	for _, r := range found.Recommendations {
		out.Recommendations = append(out.Recommendations, &r.Recommendation)
	}
	return out, nil
}
