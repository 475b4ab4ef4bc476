package load

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
)

// opening is how many clients connect at the same time: enough for servers that hold the greeting back for a
// moment, few enough for any backlog.
const opening = 200

// Idlers are clients that have said what they had to say and wait.
type Idlers struct{ clients []*Client }

// Idle connects n clients, from all sources in turn. Each says what greet says and waits from then on. On error none is
// left open.
func Idle(ctx context.Context, sources []netip.Addr, to netip.AddrPort, n int, greet func(*Client) error) (*Idlers, error) {
	all := &Idlers{clients: make([]*Client, n)}
	err := inParallel(n, func(i int) error {
		c, err := Dial(ctx, sources[i%len(sources)], to)
		if err != nil {
			return err
		}
		all.clients[i] = c
		return greet(c)
	})
	if err != nil {
		all.Close()
		return nil, err
	}
	return all, nil
}

// Each lets every client say something more.
func (all *Idlers) Each(say func(*Client) error) error {
	return inParallel(len(all.clients), func(i int) error { return say(all.clients[i]) })
}

// Close hangs up on all.
func (all *Idlers) Close() {
	for _, c := range all.clients {
		if c != nil {
			c.Close()
		}
	}
}

// inParallel does something for each of n connections, and stops at the first error.
func inParallel(n int, do func(i int) error) error {
	var (
		next    atomic.Int64
		failed  atomic.Pointer[error]
		workers sync.WaitGroup
	)
	for range min(opening, n) {
		workers.Go(func() {
			for failed.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(i); err != nil {
					err = fmt.Errorf("idle connection %d of %d: %w", i+1, n, err)
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	workers.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}
