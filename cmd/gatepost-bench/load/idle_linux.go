package load

import (
	"context"
	"fmt"
	"net/netip"
)

// Idlers are clients that have said EHLO and say no more.
type Idlers struct{ clients []*Client }

// Idle opens n of them, one after the other, from all sources in turn.
func Idle(ctx context.Context, sources []netip.Addr, to netip.AddrPort, n int, helo string) (*Idlers, error) {
	all := &Idlers{clients: make([]*Client, 0, n)}
	for i := range n {
		c, err := Dial(ctx, sources[i%len(sources)], to)
		if err == nil {
			all.clients = append(all.clients, c)
			err = c.Command("EHLO "+helo, 250)
		}
		if err != nil {
			all.Close()
			return nil, fmt.Errorf("idle connection %d of %d: %w", i+1, n, err)
		}
	}
	return all, nil
}

// Close hangs up on all.
func (all *Idlers) Close() {
	for _, c := range all.clients {
		c.Close()
	}
}
