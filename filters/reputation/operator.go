package reputation

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"gatepost/filters"
)

// Memories implements [filters.Learner].
func (f *Filter) Memories() []filters.Memory { return []filters.Memory{history{f}, traps{f}} }

// history is the memory "reputation".
type history struct{ *Filter }

// Kind implements [filters.Memory].
func (history) Kind() filters.MemoryKind {
	return filters.MemoryKind{
		Name: "reputation", Title: "Reputation",
		Summary: "How things went with clients' networks, and with domains that SPF proved. Numbers of messages fade.",
		What:    "Network or domain", Columns: []string{"score", "delivered", "refused", "unknown", "trapped"},
		Queries: "a client's address or network, or a domain with all below it",
	}
}

// List implements [filters.Memory].
func (m history) List(ctx context.Context, query string, yield func(filters.Learned) bool) error {
	wanted, prefix, err := m.query(query)
	if err != nil {
		return err
	}
	now := m.clock.Now()
	return m.ledger.RangeStandings(ctx, prefix, func(key string, s filters.Standing) bool {
		if !wanted(key) {
			return true
		}
		c := s.On(now)
		score := ""
		if n := m.score(c); n != nil {
			score = fmt.Sprintf("%.1f", *n)
		}
		number := func(n float64) string { return fmt.Sprintf("%.1f", n) }
		return yield(filters.Learned{
			What: key[len(networkKey):], Values: []string{score, number(c.Delivered), number(c.Refused), number(c.Unknown), number(c.Trapped)},
			Count: uint64(c.Total() + 0.5), Last: s.At, Expires: s.Expires(),
		})
	})
}

// Forget implements [filters.Memory].
func (m history) Forget(ctx context.Context, query string) (int, error) {
	if strings.TrimSpace(query) == "" {
		return 0, errEmptyQuery
	}
	wanted, prefix, err := m.query(query)
	if err != nil {
		return 0, err
	}
	var keys []string
	if err := m.ledger.RangeStandings(ctx, prefix, func(key string, _ filters.Standing) bool {
		if wanted(key) {
			keys = append(keys, key)
		}
		return len(keys) < maxForgotten
	}); err != nil {
		return 0, err
	}
	return m.ledger.ForgetStandings(ctx, keys)
}

// maxForgotten is how much one command forgets.
const maxForgotten = 100_000

var errEmptyQuery = errors.New("say what is to be forgotten")

// query finds which keys a query is about, and what all of them begin with.
func (f *Filter) query(query string) (wanted func(key string) bool, prefix string, err error) {
	query = normal(strings.TrimSpace(query))
	if query == "" {
		return func(string) bool { return true }, "", nil
	}
	if address, err := netip.ParseAddr(query); err == nil {
		key := f.networkKey(address)
		return func(k string) bool { return k == key }, key, nil
	}
	if network, err := netip.ParsePrefix(query); err == nil {
		return func(k string) bool {
			known, err := netip.ParsePrefix(k[len(networkKey):])
			return err == nil && known.Overlaps(network)
		}, networkKey, nil
	}
	domain, ok := filters.ASCIIName(query)
	if !ok {
		return nil, "", errors.New("a query is a client's address, a network, or a domain")
	}
	return func(k string) bool { return filters.IsWithin(k[len(domainKey):], domain) }, domainKey, nil
}

// Stats implements [filters.Memory].
func (m history) Stats() filters.MemoryStats {
	n := m.tallied.Load()
	return filters.MemoryStats{Noted: n, Written: n}
}

// traps is the memory "traps".
type traps struct{ *Filter }

// Kind implements [filters.Memory].
func (traps) Kind() filters.MemoryKind {
	return filters.MemoryKind{
		Name: "traps", Title: "Spam traps",
		Summary: "Hits on spam traps. A trap that users of ours write to is none, and belongs out of the configuration.",
		What:    "Trap", Columns: []string{"by"},
		Queries: "a trap: the networks that have hit it are listed, too",
	}
}

// List implements [filters.Memory].
func (m traps) List(ctx context.Context, query string, yield func(filters.Learned) bool) error {
	query = normal(strings.TrimSpace(query))
	return m.store.Range(ctx, space, "", func(key string, mark filters.Mark) bool {
		trap, by, ok := readKey(key)
		switch {
		case !ok || query != "" && trap != query:
			return true
		case query == "" && key[:2] == clientKey:
			return true
		}
		return yield(filters.Learned{
			What: trap, Values: []string{by}, Count: uint64(mark.Attempts), First: mark.First, Last: mark.Last, Expires: mark.Expires,
		})
	})
}

// readKey tells what a mark is about.
func readKey(key string) (trap, by string, ok bool) {
	if len(key) < 3 {
		return "", "", false
	}
	switch rest := key[2:]; key[:2] {
	case trapKey:
		return rest, "clients", true
	case userKey:
		return rest, "our own users", true
	case clientKey:
		trap, by, ok = strings.Cut(rest, "|")
		return trap, by, ok
	}
	return "", "", false
}

// Forget implements [filters.Memory].
func (m traps) Forget(ctx context.Context, query string) (int, error) {
	query = normal(strings.TrimSpace(query))
	if query == "" {
		return 0, errEmptyQuery
	}
	var keys []string
	if err := m.store.Range(ctx, space, "", func(key string, _ filters.Mark) bool {
		if trap, _, ok := readKey(key); ok && trap == query {
			keys = append(keys, key)
		}
		return len(keys) < maxForgotten
	}); err != nil {
		return 0, err
	}
	return m.store.Forget(ctx, space, keys)
}

// Stats implements [filters.Memory].
func (m traps) Stats() filters.MemoryStats {
	noted, missed := m.noted.Load(), m.missed.Load()
	return filters.MemoryStats{Noted: noted + missed, Written: noted, Dropped: missed, Pending: int64(len(m.hits))}
}
