package greylist

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gatepost/filters"
)

// Memories implements [filters.Learner].
func (f *Filter) Memories() []filters.Memory { return []filters.Memory{pools{f}} }

// pools are the domains of which all addresses pass, once one of them has.
type pools struct{ f *Filter }

// Kind implements [filters.Memory].
func (p pools) Kind() filters.MemoryKind {
	return filters.MemoryKind{
		Name: "pools", Title: "Sender pools", What: "Domain", Columns: []string{"by", "hosts"},
		Summary: "Domains that are not told to come back, from whichever of their addresses: one of those that their SPF records name has come back before, or signed mail of theirs was delivered from these hosts.",
		Queries: "a domain, such as example.org",
	}
}

// List implements [filters.Memory].
func (p pools) List(ctx context.Context, query string, yield func(filters.Learned) bool) error {
	return p.each(ctx, query, func(_ string, l filters.Learned) bool { return yield(l) })
}

func (p pools) each(ctx context.Context, query string, yield func(key string, l filters.Learned) bool) error {
	domain := normalDomain(strings.TrimSpace(query))
	if domain != "" && !looksLikeDomain(domain) || strings.ContainsAny(domain, "@ \t") {
		return fmt.Errorf("%q is not a domain such as example.org", query)
	}
	more := true
	for _, kind := range [...]string{domainKey, poolKey} {
		if !more {
			break
		}
		prefix := kind
		if kind == domainKey {
			prefix += domain
		}
		err := p.f.store.Range(ctx, space, prefix, func(key string, m filters.Mark) bool {
			e := describe(key)
			if m.Passed.IsZero() || domain != "" && e.Domain != domain {
				return true
			}
			l := filters.Learned{What: e.Domain, Values: []string{"SPF", "those of its record"}, Count: uint64(m.Attempts),
				First: m.First, Last: m.Last, Expires: m.Expires}
			if e.Hosts != "" {
				l.Values = []string{"DKIM", "*." + e.Hosts}
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

// Forget implements [filters.Memory].
func (p pools) Forget(ctx context.Context, query string) (int, error) {
	if strings.TrimSpace(query) == "" {
		return 0, errors.New("say what to forget: a domain")
	}
	var keys []string
	err := p.each(ctx, query, func(key string, _ filters.Learned) bool {
		keys = append(keys, key)
		return true
	})
	if err != nil {
		return 0, err
	}
	return p.f.forget(ctx, keys)
}

// Stats implements [filters.Memory].
func (p pools) Stats() filters.MemoryStats {
	return filters.MemoryStats{Noted: p.f.noted.Load(), Written: p.f.written.Load(), Dropped: p.f.dropped.Load(), Pending: int64(len(p.f.uses))}
}
