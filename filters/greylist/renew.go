package greylist

import (
	"context"
	"time"

	"gatepost/filters"
)

const (
	// maxUses bounds the messages whose senders wait for being renewed.
	maxUses = 1024
	// atOnce is how many of them are renewed together.
	atOnce = 128
	// together is for how long a message waits for others.
	together = time.Second
)

// use is one delivered message.
type use struct {
	id     identity
	keep   time.Duration
	taught string // the key of the pool that its signature teaches, or empty
}

// Concluded implements [filters.Witness]: a message that the backend took renews its sender's pass, and its signature
// teaches from which hosts the domain's mail comes.
//
// Only a sender that has passed is renewed, then under all keys that hold now: so a pool's new addresses, and the other
// of two IP versions, are learned from the domain's pass. A sender that never had to wait is not remembered. That would
// spare some of them a delay later, but it would also give every spam that gets through once weeks of free passage, and
// the store a write per message.
func (f *Filter) Concluded(o *filters.Outcome) {
	if o.Kind != filters.MessageOutcome || o.Ours || o.Code != 250 || o.View.Envelope == nil || o.View.Session.Submission {
		return
	}
	u := use{id: f.identify(o.View), keep: time.Duration(f.config.Keep)}
	if pool := u.id.pool(); pool != "" && !o.View.Session.Trusted && u.id.signed(o.View.Facts) {
		u.taught = pool
	}
	f.noted.Add(1)
	select {
	case f.uses <- u:
	default:
		f.dropped.Add(1)
	}
}

// Dropped is how many renewals were lost because the store was too slow. A loss shortens a pass, no more.
func (f *Filter) Dropped() int64 { return f.dropped.Load() }

// Adopt implements [filters.Adopter]: what sessions of the previous filter still have to say is heard by this one.
func (f *Filter) Adopt(previous any) {
	if p, ok := previous.(*Filter); ok {
		f.uses, f.counts = p.uses, p.counts
	}
}

// Run implements [filters.Runner]: it renews passes until ctx ends, and then those that are waiting.
func (f *Filter) Run(ctx context.Context) {
	for {
		select {
		case u := <-f.uses:
			f.renew(ctx, f.gather(ctx, u))
		case <-ctx.Done():
			f.drain(ctx)
			return
		}
	}
}

// gather waits a moment for more: what is renewed together costs the store one look and one write.
func (f *Filter) gather(ctx context.Context, first use) []use {
	uses := []use{first}
	enough := time.NewTimer(together)
	defer enough.Stop()
	for len(uses) < atOnce {
		select {
		case u := <-f.uses:
			uses = append(uses, u)
		case <-enough.C:
			return uses
		case <-ctx.Done():
			return uses
		}
	}
	return uses
}

func (f *Filter) drain(ctx context.Context) {
	end := time.Now().Add(time.Second)
	for time.Now().Before(end) {
		var uses []use
		for len(uses) < atOnce {
			select {
			case u := <-f.uses:
				uses = append(uses, u)
				continue
			default:
			}
			break
		}
		if len(uses) == 0 {
			return
		}
		f.renew(ctx, uses)
	}
}

// renew finishes what it has begun, within a second. It may undo an operator's Forget of the same moment: reading and
// writing are two steps here.
func (f *Filter) renew(ctx context.Context, uses []use) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	look := newKeySet()
	for i := range uses {
		look.add(uses[i].keys()...)
		look.add(uses[i].id.beside()...)
	}
	marks, err := f.store.Peek(ctx, space, look.keys)
	if err == nil {
		passes := newKeySet()
		for i := range uses {
			passes.add(uses[i].due(look, marks, f.clock.Now())...)
		}
		if len(passes.keys) > 0 {
			f.written.Add(int64(len(passes.keys)))
			err = f.store.Pass(ctx, space, passes.keys, uses[0].keep)
		}
	}
	if err != nil {
		f.dropped.Add(int64(len(uses)))
		f.log.Debug("greylist: passes were not renewed", "messages", len(uses), "error", err)
	}
}

// keys are those that a message may renew.
func (u *use) keys() []string {
	keys := u.id.keys()
	if u.taught != "" {
		keys = append(keys, u.taught)
	}
	return keys
}

// due are the keys to be renewed: those of a sender that has passed, and what a signature teaches. What was renewed a
// short while ago is left alone: to write it again would say nothing new.
func (u *use) due(look *keySet, marks []filters.Mark, now time.Time) (keys []string) {
	passed := false
	for _, key := range append(u.id.beside(), u.id.keys()...) {
		passed = passed || !marks[look.places[key]].Passed.IsZero()
	}
	fresh := now.Add(u.keep - u.keep/32)
	for _, key := range u.keys() {
		m := marks[look.places[key]]
		if (passed || key == u.taught) && (m.Passed.IsZero() || m.Expires.Before(fresh)) {
			keys = append(keys, key)
		}
	}
	return keys
}

// keySet is keys, each once, in order.
type keySet struct {
	keys   []string
	places map[string]int
}

func newKeySet() *keySet { return &keySet{places: map[string]int{}} }

func (s *keySet) add(keys ...string) {
	for _, key := range keys {
		if _, known := s.places[key]; !known {
			s.places[key] = len(s.keys)
			s.keys = append(s.keys, key)
		}
	}
}
