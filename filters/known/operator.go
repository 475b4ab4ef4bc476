package known

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gatepost/filters"
)

// Memories implements [filters.Learner].
func (f *Filter) Memories() []filters.Memory {
	return []filters.Memory{
		&recollection{f, &f.book.senders, []string{domainPrefix, senderPrefix}, filters.MemoryKind{
			Name: "known", Title: "Known senders", What: "Sender or domain", Columns: []string{"kind"},
			Summary: "Senders and domains, proved by SPF, whose mail was accepted before. To forget a domain is to forget its senders, too.",
			Queries: "a sender or a domain, such as alice@example.org or example.org",
		}},
		&recollection{f, &f.book.correspondents, []string{correspondentPrefix}, filters.MemoryKind{
			Name: "correspondents", Title: "Correspondents", What: "Address",
			Summary: "Addresses that users of the site have written to, and whose answers pass.",
			Queries: "an address or a domain, such as bob@example.net or example.net",
		}},
	}
}

// recollection is some of what is known, as operators see it.
type recollection struct {
	f        *Filter
	counts   *counts
	prefixes []string
	kind     filters.MemoryKind
}

// Kind implements [filters.Memory].
func (r *recollection) Kind() filters.MemoryKind { return r.kind }

// List implements [filters.Memory].
func (r *recollection) List(ctx context.Context, query string, yield func(filters.Learned) bool) error {
	return r.each(ctx, query, func(_ string, l filters.Learned) bool { return yield(l) })
}

func (r *recollection) each(ctx context.Context, query string, yield func(key string, l filters.Learned) bool) error {
	matches, err := parseQuery(query)
	if err != nil {
		return err
	}
	more := true
	for _, prefix := range r.prefixes {
		if !more {
			break
		}
		err := r.f.store.Range(ctx, space, prefix, func(key string, m filters.Mark) bool {
			what := strings.TrimPrefix(key, prefix)
			if !matches(prefix, what) {
				return true
			}
			l := filters.Learned{What: what, Count: uint64(m.Attempts), First: m.First, Last: m.Last, Expires: m.Expires}
			switch prefix {
			case domainPrefix:
				l.Values = []string{"domain"}
			case senderPrefix:
				l.Values = []string{"sender"}
			}
			more = yield(key, l)
			return more
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// parseQuery tells of keys without their prefix whether a query is about them.
func parseQuery(query string) (matches func(prefix, what string) bool, err error) {
	query = strings.TrimSpace(query)
	if query == "" {
		return func(string, string) bool { return true }, nil
	}
	address := strings.TrimSuffix(strings.TrimPrefix(query, "<"), ">")
	local, domain := filters.SplitAddress(address)
	isAddress := strings.ContainsRune(address, '@')
	if !isAddress {
		domain = address
	}
	domain = asciiDomain(domain)
	if domain == "" || isAddress && local == "" || !isAddress && !strings.Contains(domain, ".") {
		return nil, fmt.Errorf("%q is neither a mail address nor a domain such as example.org", query)
	}
	folded, _ := filters.SplitAddress(filters.FoldSender(address))
	return func(prefix, what string) bool {
		if !isAddress {
			return what == domain || strings.HasSuffix(what, "@"+domain)
		}
		if prefix == senderPrefix {
			return what == folded+"@"+domain
		}
		return what == strings.ToLower(local)+"@"+domain
	}, nil
}

// forgetAtOnce is how many marks are forgotten together.
const forgetAtOnce = 100

// Forget implements [filters.Memory].
func (r *recollection) Forget(ctx context.Context, query string) (int, error) {
	if strings.TrimSpace(query) == "" {
		return 0, errors.New("say what to forget: an address or a domain")
	}
	r.f.Flush(ctx) // what waits would come back
	var keys []string
	err := r.each(ctx, query, func(key string, _ filters.Learned) bool {
		keys = append(keys, key)
		return true
	})
	if err != nil {
		return 0, err
	}
	removed := 0
	for start := 0; start < len(keys); start += forgetAtOnce {
		n, err := r.f.store.Forget(ctx, space, keys[start:min(start+forgetAtOnce, len(keys))])
		removed += n
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// Stats implements [filters.Memory].
func (r *recollection) Stats() filters.MemoryStats {
	return filters.MemoryStats{
		Noted: r.counts.noted.Load(), Written: r.counts.written.Load(), Dropped: r.counts.dropped.Load(), Refused: r.counts.refused.Load(),
		Pending: r.f.book.pending(r.counts),
	}
}
