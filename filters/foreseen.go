package filters

import "context"

// ClientReader is a filter whose observation at [AtMail] asks the [Ledger] about the client. What a shared store is asked at
// connect then reads that along: one round trip instead of two.
type ClientReader interface {
	// ClientStandings returns the keys of the ledger that the client alone decides about. It must not wait.
	ClientStandings(s *Session) []string
}

// WithForeseen returns a context that tells a [Store] which keys of its [Ledger] will be asked for soon. Whoever answers a
// Peek under it by a round trip may read them along.
func WithForeseen(ctx context.Context, standings []string) context.Context {
	return context.WithValue(ctx, foreseenKey{}, standings)
}

// Foreseen returns what WithForeseen was given.
func Foreseen(ctx context.Context) []string {
	keys, _ := ctx.Value(foreseenKey{}).([]string)
	return keys
}

type foreseenKey struct{}
