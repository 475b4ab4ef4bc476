package policy

import (
	"context"
	"net/netip"
	"time"

	"gatepost/filters"
)

// try makes an observation on the session's own goroutine, in a [filters.Attempt]. With warm caches nearly all of them
// come to something, in microseconds; a goroutine would take a copy of the facts, a context and two wake-ups beside that.
// For a signed message with all filters on it is 5 context switches instead of 8. False: something was not at hand, and
// nothing is known.
func (g *Gate) try(o *observation, v filters.View) bool {
	var a filters.Attempt
	started := time.Now()
	facts, err := o.call(&a, v)
	if a.Missed() {
		return false
	}
	g.settled(o, facts, err, time.Since(started))
	return true
}

// attemptable returns an environment in which attempts never wait, whatever its resolver and store know of them.
func attemptable(env filters.Env) filters.Env {
	if _, ok := env.Resolver.(filters.Ready); !ok && env.Resolver != nil {
		env.Resolver = slowResolver{env.Resolver}
	}
	if _, ok := env.Store.(filters.Ready); !ok && env.Store != nil {
		env.Store = slow(env.Store)
	}
	return env
}

// slow is a store that has to be waited for, and a ledger if that is one.
func slow(store filters.Store) filters.Store {
	if ledger, ok := store.(filters.Ledger); ok {
		return slowLedger{slowStore{store}, ledger}
	}
	return slowStore{store}
}

// slowResolver is one that has to be waited for: in an attempt nothing is at hand.
type slowResolver struct{ filters.Resolver }

// NeverWaitsInAttempt implements [filters.Ready].
func (slowResolver) NeverWaitsInAttempt() {}

func (r slowResolver) LookupA(ctx context.Context, name string) ([]netip.Addr, error) {
	return patiently(ctx, name, r.Resolver.LookupA)
}

func (r slowResolver) LookupAAAA(ctx context.Context, name string) ([]netip.Addr, error) {
	return patiently(ctx, name, r.Resolver.LookupAAAA)
}

func (r slowResolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return patiently(ctx, name, r.Resolver.LookupTXT)
}

func (r slowResolver) LookupMX(ctx context.Context, name string) ([]filters.MX, error) {
	return patiently(ctx, name, r.Resolver.LookupMX)
}

func (r slowResolver) LookupPTR(ctx context.Context, ip netip.Addr) ([]string, error) {
	return patiently(ctx, ip, r.Resolver.LookupPTR)
}

// slowStore is one that has to be waited for. Peek is all that attempts use of it.
type slowStore struct{ filters.Store }

// NeverWaitsInAttempt implements [filters.Ready].
func (slowStore) NeverWaitsInAttempt() {}

func (s slowStore) Peek(ctx context.Context, space string, keys []string) ([]filters.Mark, error) {
	return patiently(ctx, keys, func(ctx context.Context, keys []string) ([]filters.Mark, error) {
		return s.Store.Peek(ctx, space, keys)
	})
}

// slowLedger is one that remembers how things went, too.
type slowLedger struct {
	slowStore
	filters.Ledger
}

func (l slowLedger) Standings(ctx context.Context, keys []string) ([]filters.Standing, error) {
	return patiently(ctx, keys, l.Ledger.Standings)
}

// patiently looks something up, unless that would be in an attempt.
func patiently[Q, A any](ctx context.Context, question Q, lookup func(context.Context, Q) ([]A, error)) ([]A, error) {
	if a := filters.AttemptOf(ctx); a != nil {
		a.Miss()
		return nil, filters.ErrNotAtHand
	}
	return lookup(ctx, question)
}
