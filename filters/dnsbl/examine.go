package dnsbl

import (
	"context"
	"sync"
	"time"

	"gatepost/filters"
)

// Health is what the test points of one list (RFC 5782, 5) have shown of it for one kind of subject.
type Health struct {
	List  string // the name that replies and logs call it
	About string // IPv4, IPv6 or domains
	Took  time.Duration
	// Tested is false where the list needs no test (test: off).
	Tested bool
	// Answered is false where the DNS gave no answer, so that nothing is known.
	Answered bool
	// Unused tells that the list knows nothing of the kind, and is not asked (ipv6: auto).
	Unused bool
	// Reason is why the list is left out, with what to do; empty: it is sane.
	Reason string
}

// Examine tests all lists of a valid configuration at once, whatever was found before. It ends with ctx.
func Examine(ctx context.Context, c Config, env filters.Env) []Health {
	type point struct {
		list *list
		subject
	}
	var points []point
	for i := range c.Zones {
		l := newList(&c.Zones[i], env)
		for _, s := range l.about {
			points = append(points, point{l, s})
		}
	}
	found := make([]Health, len(points))
	var testing sync.WaitGroup
	for i, p := range points {
		testing.Go(func() {
			start := time.Now()
			if p.list.tested {
				p.list.test(ctx, p.subject)
			}
			found[i] = Health{List: p.list.name, About: p.subject.String(), Took: time.Since(start), Tested: p.list.tested}
		})
	}
	testing.Wait()
	for i, p := range points { // whether a list knows IPv6 shows beside IPv4 only
		state := p.list.state(p.subject)
		found[i].Answered, found[i].Unused = state != untested, !p.list.covers(p.subject)
		if state == insane && !found[i].Unused {
			p.list.mu.Lock()
			found[i].Reason = p.list.told[p.subject]
			p.list.mu.Unlock()
		}
	}
	return found
}
