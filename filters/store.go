package filters

import (
	"context"
	"time"
)

// Store is the site's memory: marks under keys, grouped in spaces ("greylist", "client"). It is safe for concurrent
// use. Every method is one decision and one round trip, so that it can live in a shared engine as well; there is no
// read followed by a write.
//
// Keys are free text of at most 512 bytes; the store hashes what is longer. A mark that has expired does not exist.
type Store interface {
	// Peek reads the marks of all keys and changes nothing. The result has one entry per key; a key without a mark has
	// the zero Mark.
	Peek(ctx context.Context, space string, keys []string) ([]Mark, error)
	// Attempt counts one attempt under every key. A new mark starts its window. If any of the keys has passed, or was
	// first seen at least delay ago, all of them pass (and are kept for keep). It returns the marks after the change.
	Attempt(ctx context.Context, space string, keys []string, t Terms) ([]Mark, error)
	// Pass marks every key as passed and renews it for keep.
	Pass(ctx context.Context, space string, keys []string, keep time.Duration) error
	// Forget removes the marks and returns how many there were.
	Forget(ctx context.Context, space string, keys []string) (int, error)
	// Range calls yield for every mark of the space whose key starts with prefix, until it returns false. Order is
	// undefined.
	Range(ctx context.Context, space, prefix string, yield func(key string, m Mark) bool) error
}

// Mark is what the store remembers under a key.
type Mark struct {
	First    time.Time // first attempt
	Last     time.Time // latest attempt or use
	Passed   time.Time // when it passed; zero if it has not
	Expires  time.Time
	Attempts uint32
}

// Exists tells a mark from the zero value.
func (m Mark) Exists() bool { return !m.Expires.IsZero() }

// Terms are the conditions of [Store.Attempt].
type Terms struct {
	Delay  time.Duration // how long a first attempt waits
	Window time.Duration // how long after the first attempt a second one counts
	Keep   time.Duration // how long a pass is remembered after its last use
}
