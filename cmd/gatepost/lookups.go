package main

import (
	"fmt"
	"sync"

	"gatepost/proxy/config"
	"gatepost/proxy/resolver"
)

// lookups is a resolver while it is in use: by the current filters and by those of older sessions.
type lookups struct {
	*resolver.Resolver
	users sync.WaitGroup
}

// openLookups makes the resolver of c. All of them count together.
func (h *house) openLookups(c *config.Config) (*lookups, error) {
	r, err := resolver.New(c.Resolver, h.clock, h.log)
	if err != nil {
		return nil, fmt.Errorf("resolver: %w", err)
	}
	if h.dns == nil {
		h.dns = r.Metrics
	}
	r.Metrics = h.dns
	return &lookups{Resolver: r}, nil
}

// closeUnused closes a resolver when its last user has gone. No other comes any more.
func (h *house) closeUnused(l *lookups) {
	h.running.Go(func() { l.users.Wait(); l.Close() })
}
