package greylist

import (
	"context"
	"time"

	"gatepost/filters"
)

// maxUses bounds the messages whose senders wait for being renewed.
const maxUses = 1024

// use is one delivered message.
type use struct {
	id   identity
	keep time.Duration
}

// Concluded implements [filters.Witness]: a message that the backend took renews its sender's pass.
//
// Only a sender that has passed is renewed, then under all keys that hold now: so a pool's new addresses, and the other
// of two IP versions, are learned from the domain's pass. A sender that never had to wait is not remembered. That would
// spare some of them a delay later, but it would also give every spam that gets through once weeks of free passage, and
// the store a write per message.
func (f *Filter) Concluded(o *filters.Outcome) {
	if o.Kind != filters.MessageOutcome || o.Ours || o.Code != 250 || o.View.Envelope == nil {
		return
	}
	select {
	case f.uses <- use{f.identify(o.View), time.Duration(f.config.Keep)}:
	default:
		f.dropped.Add(1)
	}
}

// Dropped is how many renewals were lost because the store was too slow. A loss shortens a pass, no more.
func (f *Filter) Dropped() int64 { return f.dropped.Load() }

// Adopt implements [filters.Adopter]: what sessions of the previous filter still have to say is heard by this one.
func (f *Filter) Adopt(previous any) {
	if p, ok := previous.(*Filter); ok {
		f.uses = p.uses
	}
}

// Run implements [filters.Runner]: it renews passes until ctx ends, and then those that are waiting.
func (f *Filter) Run(ctx context.Context) {
	unhurried := context.WithoutCancel(ctx) // one that was taken is finished, within its own second
	for {
		select {
		case u := <-f.uses:
			f.renew(unhurried, u)
		case <-ctx.Done():
			f.drain(unhurried)
			return
		}
	}
}

func (f *Filter) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for ctx.Err() == nil {
		select {
		case u := <-f.uses:
			f.renew(ctx, u)
		default:
			return
		}
	}
}

// renew may undo an operator's Forget of the same moment: reading and writing are two steps here.
func (f *Filter) renew(ctx context.Context, u use) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	keys := u.id.keys()
	marks, err := f.store.Peek(ctx, space, append(u.id.operatorKeys(), keys...))
	if err == nil && anyPassed(marks) {
		err = f.store.Pass(ctx, space, keys, u.keep)
	}
	if err != nil {
		f.dropped.Add(1)
		f.log.Debug("greylist: a pass was not renewed", "key", keys[0], "error", err)
	}
}
