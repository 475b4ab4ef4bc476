package exception

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/gaissmai/bart"

	"gatepost/filters"
)

// index finds exceptions without asking anybody. It is never written after it is published.
type index struct {
	networks  *bart.Table[*Entry]
	addresses map[Kind]map[string]*Entry // by address, domain, or ".domain"; no kind without one
	count     int
}

func newIndex(entries []*Entry) *index {
	x := &index{networks: &bart.Table[*Entry]{}, addresses: map[Kind]map[string]*Entry{}}
	for _, e := range entries {
		if e.Kind == Client {
			network, err := parseNetwork(e.Value)
			if err != nil {
				continue // a mark of another making
			}
			x.networks.Insert(network, e)
		} else {
			if x.addresses[e.Kind] == nil {
				x.addresses[e.Kind] = map[string]*Entry{}
			}
			x.addresses[e.Kind][e.Value] = e
		}
		x.count++
	}
	return x
}

// client returns the exception for the smallest network with the address in it, or nil.
func (x *index) client(ip netip.Addr, clock filters.Clock) *Entry {
	if x.networks.Size() == 0 {
		return nil
	}
	ip = ip.Unmap().WithZone("")
	if !ip.IsValid() {
		return nil
	}
	now := clock.Now()
	for _, e := range x.networks.Supernets(netip.PrefixFrom(ip, ip.BitLen())) {
		if now.Before(e.Expires) {
			return e
		}
	}
	return nil
}

// address returns the exception for an address, else its domain, else the nearest domain above it, or nil.
func (x *index) address(kind Kind, address string, clock filters.Clock) *Entry {
	known := x.addresses[kind]
	if len(known) == 0 || address == "" {
		return nil
	}
	now := clock.Now()
	live := func(key string) *Entry {
		if e := known[key]; e != nil && now.Before(e.Expires) {
			return e
		}
		return nil
	}
	address = fold(address)
	if e := live(address); e != nil {
		return e
	}
	_, domain, found := cutLast(address, '@')
	if !found {
		return nil
	}
	if e := live(domain); e != nil {
		return e
	}
	for name := "." + domain; len(name) > 1; {
		if e := live(name); e != nil {
			return e
		}
		next := strings.IndexByte(name[1:], '.')
		if next < 0 {
			return nil
		}
		name = name[1+next:]
	}
	return nil
}

// fold makes addresses equal that mean the same mailbox nearly everywhere: letter case, in U-labels and A-labels of the
// domain, and its final dot do not count.
func fold(address string) string {
	local, domain, found := cutLast(address, '@')
	if !found {
		return strings.ToLower(address)
	}
	if name, ok := filters.ASCIIName(strings.TrimSuffix(domain, ".")); ok {
		domain = name
	}
	return strings.ToLower(local) + "@" + strings.ToLower(domain)
}

func cutLast(s string, separator byte) (before, after string, found bool) {
	i := strings.LastIndexByte(s, separator)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

const (
	// refreshInterval is how soon the exceptions that another proxy with the same store has made count here.
	refreshInterval = time.Minute
	// retryInterval is the same while the store does not answer.
	retryInterval = 5 * time.Second
)

// Run keeps the index fresh.
func (f *Filter) Run(ctx context.Context) {
	for {
		interval := refreshInterval
		if f.refresh(ctx) != nil {
			interval = retryInterval
		}
		timer := time.NewTimer(interval)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// refresh reads all exceptions from the store. If that fails, those that are known stay in force until their time.
func (f *Filter) refresh(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.read(ctx)
}

// read is refresh with f.mu held.
func (f *Filter) read(ctx context.Context) error {
	var entries []*Entry
	err := f.store.Range(ctx, space, "", func(key string, m filters.Mark) bool {
		if e, ok := parseKey(key); ok {
			e.Added, e.Expires = m.Passed, m.Expires
			entries = append(entries, e)
		}
		return len(entries) < 2*maxEntries
	})
	if err != nil {
		if ctx.Err() == nil {
			f.log.Warn("the exceptions cannot be read from the store; those that are known stay in force", "error", err)
		}
		return err
	}
	f.index.Store(newIndex(entries))
	return nil
}
