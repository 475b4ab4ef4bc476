package recommend

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"gatepost/filters"
)

// Pool is a sender's domain whose retries come from other networks than the first attempt, so that greylisting does not
// know it again.
type Pool struct {
	Domain   string           `json:"domain"`
	Waits    int              `json:"first_attempts"` // that came back from elsewhere
	Networks []netip.Prefix   `json:"networks"`
	HeldUp   filters.Duration `json:"held_up"` // the longest, to the delivery
	Lost     int              `json:"lost"`    // were never seen to be delivered
}

// Bounds of what is a pool, and of what is told of one.
const (
	fewMoves    = 3
	maxNetworks = 64
	maxPools    = 50
)

// Pools returns the pools, those that wait most often first. Domains that SPF proves are none: greylisting knows them by
// their names.
func (s *Survey) Pools() []Pool {
	if s.greylist == nil {
		return nil
	}
	byDomain := map[string]*Pool{}
	for _, w := range s.greylist.all {
		if w.proved || !w.moves() {
			continue
		}
		domain := w.sender[strings.LastIndexByte(w.sender, '@')+1:]
		p := byDomain[domain]
		if p == nil {
			p = &Pool{Domain: domain}
			byDomain[domain] = p
		}
		p.add(w)
	}
	var list []Pool
	for _, p := range byDomain {
		if p.Waits >= fewMoves {
			slices.SortFunc(p.Networks, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
			list = append(list, *p)
		}
	}
	slices.SortFunc(list, func(a, b Pool) int { return cmp.Or(cmp.Compare(b.Waits, a.Waits), cmp.Compare(a.Domain, b.Domain)) })
	return list[:min(len(list), maxPools)]
}

func (w *wait) moves() bool {
	return slices.ContainsFunc(w.tries, func(t try) bool { return t.network != w.network })
}

func (p *Pool) add(w *wait) {
	p.Waits++
	p.network(w.network)
	held := time.Duration(-1)
	for _, t := range w.tries {
		p.network(t.network)
		if t.delivered && held < 0 {
			held = t.after
		}
	}
	if held < 0 {
		p.Lost++
	}
	p.HeldUp = max(p.HeldUp, filters.Duration(max(held, 0).Round(time.Second)))
}

func (p *Pool) network(n netip.Prefix) {
	if len(p.Networks) < maxNetworks && !slices.Contains(p.Networks, n) {
		p.Networks = append(p.Networks, n)
	}
}
