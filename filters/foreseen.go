package filters

import "context"

// LedgerReader is a filter whose observation at [AtMail] asks the [Ledger]. What a shared store is asked before then reads
// that along: one round trip instead of two.
type LedgerReader interface {
	// WillRead returns the keys of the ledger that will be asked for, as far as they can be foreseen: of the client, and of
	// the sender if the envelope is not nil. It must not wait.
	WillRead(s *Session, e *Envelope) (keys []string)
}

// WithForeseen returns a context that tells a [Store] which keys of its [Ledger] will be asked for soon. Whoever answers a
// Peek under it by a round trip may read them along; only then it calls keys, which must be safe for concurrent use.
func WithForeseen(ctx context.Context, keys func() []string) context.Context {
	return context.WithValue(ctx, foreseenKey{}, keys)
}

// Foreseen returns the keys that WithForeseen was given.
func Foreseen(ctx context.Context) []string {
	if keys, ok := ctx.Value(foreseenKey{}).(func() []string); ok {
		return keys()
	}
	return nil
}

type foreseenKey struct{}
