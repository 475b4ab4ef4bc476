package reputation

import (
	"context"
	"time"

	"gatepost/filters"
)

// space is where the store keeps hits on traps. Their keys:
//
//	a:trap@example.org                  hits of clients
//	c:trap@example.org|192.0.2.0/24     those of one network
//	u:trap@example.org                  what our own users wrote to it
//
// A mark's attempts are the hits.
const (
	space     = "traps"
	trapKey   = "a:"
	clientKey = "c:"
	userKey   = "u:"
)

// hit is a recipient that is a trap.
type hit struct {
	trap    string
	network string // of the client
	user    bool   // it was one of our own
}

// maxHits bounds the hits that wait for the store. Beyond it they are not listed; they teach all the same.
const maxHits = 1024

func (f *Filter) remember(h hit) {
	select {
	case f.hits <- h:
		f.noted.Add(1)
	default:
		f.missed.Add(1)
	}
}

// writtenToByUser warns of a trap that is none.
func (f *Filter) writtenToByUser(v *filters.View) {
	if v.Recipient == nil || v.Session.Trusted && !v.Session.Submission {
		return
	}
	trap := f.trap(v.Recipient.ForwardPath)
	if trap == "" {
		return
	}
	user := ""
	if v.Greeting != nil {
		user = v.Greeting.AuthUser
	}
	f.log.Warn("reputation: one of our own users writes to a spam trap: others may, too; take it out of traps", "trap", trap, "user", user,
		"session", v.Session.ID)
	f.remember(hit{trap: trap, user: true})
}

// Run implements [filters.Runner]: it writes hits until ctx ends, and then those that are waiting.
func (f *Filter) Run(ctx context.Context) {
	unhurried := context.WithoutCancel(ctx) // one that was taken is finished, within its own second
	for {
		select {
		case h := <-f.hits:
			f.write(unhurried, h)
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
		case h := <-f.hits:
			f.write(ctx, h)
		default:
			return
		}
	}
}

func (f *Filter) write(ctx context.Context, h hit) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	keys := []string{trapKey + h.trap, clientKey + h.trap + "|" + h.network}
	if h.user {
		keys = []string{userKey + h.trap}
	}
	keep := time.Duration(f.config.KeepHits)
	// Without delay each attempt passes at once, and is kept from then on.
	if _, err := f.store.Attempt(ctx, space, keys, filters.Terms{Window: keep, Keep: keep}); err != nil {
		f.missed.Add(1)
		f.log.Debug("reputation: a hit on a trap was not written down", "trap", h.trap, "error", err)
	}
}
