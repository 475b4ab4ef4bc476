package greylist

import (
	"context"
	"time"

	"gatepost/filters"
)

// Learned is a pass that was learned, here or by another greylister.
type Learned struct {
	// Whose it is: one of our keys; or a client, by its address or network, with all its senders; or with one of them, as
	// it was given or folded.
	Key    string    `json:"key,omitempty"`
	Client string    `json:"client,omitempty"`
	Sender *string   `json:"sender,omitempty"` // empty: the null sender
	Last   time.Time `json:"last"`             // its latest use
}

// Learn lets senders pass that have passed elsewhere, for as long as each would have been known there: keep from its
// latest use. What is known for as long already stays as it is, so learning twice is learning once. Added are the marks
// that were new or live longer now; others were expired, or are not for this filter's networks.
func (f *Filter) Learn(ctx context.Context, all []Learned) (added, invalid int, err error) {
	now := f.clock.Now()
	for _, l := range all {
		key, ok := f.keyOf(l)
		if !ok {
			invalid++
			continue
		}
		keep := time.Duration(f.config.Keep) - max(now.Sub(l.Last), 0)
		if keep <= 0 {
			continue
		}
		marks, err := f.store.Peek(ctx, space, []string{key})
		if err != nil {
			return added, invalid, err
		}
		// A store keeps whole milliseconds, and what it was told takes a moment: a second more is the same.
		if m := marks[0]; !m.Passed.IsZero() && !m.Expires.Before(now.Add(keep-time.Second)) {
			continue
		}
		if err := f.store.Pass(ctx, space, []string{key}, keep); err != nil {
			return added, invalid, err
		}
		added++
	}
	return added, invalid, nil
}

// keyOf is the key under which a pass is kept.
func (f *Filter) keyOf(l Learned) (key string, ok bool) {
	if l.Key != "" {
		q, err := f.parseQuery(l.Key)
		return l.Key, err == nil && q.raw != "" && len(l.Key) > len(networkKey)
	}
	network, ok := f.parseNetwork(l.Client)
	switch {
	case !ok || network.Bits() != bitsFor(network.Addr(), f.config):
		return "", false
	case l.Sender == nil:
		return operatorKey + network.String(), true
	}
	return networkKey + network.String() + "|" + filters.FoldSender(*l.Sender), true
}

// Known calls yield for every pass that is known, until it returns false: what Learn takes.
func (f *Filter) Known(ctx context.Context, yield func(Learned) bool) error {
	return f.List(ctx, "", func(e Entry) bool {
		if e.State != filters.GreylistPassed || e.Passed.IsZero() {
			return true
		}
		return yield(Learned{Key: e.Key, Last: e.Expires.Add(-time.Duration(f.config.Keep))})
	})
}
