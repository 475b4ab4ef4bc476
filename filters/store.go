package filters

import (
	"context"
	"strings"
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
	// first seen at least delay ago, all of them pass (and are kept for keep). It returns the marks after the change, and
	// behind them those of [Terms.Unless].
	Attempt(ctx context.Context, space string, keys []string, t Terms) ([]Mark, error)
	// Pass marks every key as passed and renews it for keep.
	Pass(ctx context.Context, space string, keys []string, keep time.Duration) error
	// Forget removes the marks and returns how many there were.
	Forget(ctx context.Context, space string, keys []string) (int, error)
	// Range calls yield for every mark of the space whose key starts with prefix, until it returns false. Order is
	// undefined.
	Range(ctx context.Context, space, prefix string, yield func(key string, m Mark) bool) error
}

// PeekNow is Peek on a session's own goroutine: it tries without waiting first, and waits only for what is not at hand.
func PeekNow(ctx context.Context, s Store, space string, keys []string) ([]Mark, error) {
	if ctx.Err() == nil {
		if marks, ok := PeekAtHand(s, space, keys); ok {
			return marks, nil
		}
	}
	return s.Peek(ctx, space, keys)
}

// PeekAtHand is Peek without waiting; false: the store would have to.
func PeekAtHand(s Store, space string, keys []string) ([]Mark, bool) {
	var a Attempt
	marks, err := s.Peek(&a, space, keys)
	return marks, err == nil && !a.Missed()
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
	// Times is how many attempts it is, for who counts before he tells; 0 is one.
	Times uint32
	// Unless are keys that are only read: if one of them has passed, nothing is counted and nothing changes. Over several
	// homes in a cluster they are read just before.
	Unless []string
}

// Count is how many attempts it is.
func (t *Terms) Count() uint32 { return max(t.Times, 1) }

// Home is the end of a key that tells where in a cluster its mark lives: what is behind the last "@", else behind the
// last "|", else behind the first ":", else the whole key. Marks of one home live together, so a decision about keys of
// one home is atomic everywhere; over several homes it is only as good as one after the other in a cluster. Keys that
// are often decided together should have the same: "d:example.org" and "n:192.0.2.0/24|alice@example.org" do.
func Home(key string) string {
	for _, separator := range [...]string{"@", "|"} {
		if i := strings.LastIndex(key, separator); i >= 0 && i+1 < len(key) {
			return key[i+1:]
		}
	}
	if i := strings.IndexByte(key, ':'); i >= 0 && i+1 < len(key) {
		return key[i+1:]
	}
	return key
}

// Meter is what a [Store] may also be: something that counts for all proxies of a site together. Where the store is
// none, a filter counts for itself. It is safe for concurrent use.
//
// An error tells that the site cannot be asked now. The answer beside it is of what this proxy alone has counted.
type Meter interface {
	// Allow takes a token if there is one. It may wait for a round trip, bounded by 100 ms, now and then.
	Allow(ctx context.Context, b Bucket) (bool, error)
	// IsEmpty tells whether there is less than a token. It waits as Allow does.
	IsEmpty(ctx context.Context, b Bucket) (bool, error)
	// Take takes n tokens, at most a whole bucket of them, and leaves the bucket in debt if it has fewer. It does not
	// wait.
	Take(b Bucket, n int64)
}

// Bucket is a token bucket that is full at first.
type Bucket struct {
	Limit     string  // which limit, with all its settings: a changed one starts afresh
	Of        string  // whose bucket: a client network, a domain, an address
	PerSecond float64 // tokens that come back
	Burst     int64   // tokens in a full one; at least 1
}
