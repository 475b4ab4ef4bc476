package simulate

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"gatepost/filters"
)

// zone is the DNS of the simulated world. It is written before the run and only read in it. What there is a great number of,
// the hosts of pools and bots, is worked out from their names and addresses.
type zone struct {
	txt    map[string][]string
	names  map[netip.Addr]string
	hosts  map[string][]netip.Addr
	pools  []*pool
	byName map[string]*pool // by the group of their hosts
}

func newZone() *zone {
	return &zone{txt: map[string][]string{}, names: map[netip.Addr]string{}, hosts: map[string][]netip.Addr{}, byName: map[string]*pool{}}
}

// addHost gives an address a name that leads back.
func (z *zone) addHost(name string, address netip.Addr) {
	z.names[address] = name
	z.hosts[name] = append(z.hosts[name], address)
}

func (z *zone) say(name, text string) { z.txt[name] = append(z.txt[name], text) }

// NeverWaitsInAttempt implements [filters.Ready].
func (z *zone) NeverWaitsInAttempt() {}

func fold(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

func noName(name string) error { return fmt.Errorf("%s: %w", name, filters.ErrNXDomain) }

func (z *zone) LookupTXT(_ context.Context, name string) ([]string, error) {
	if texts, ok := z.txt[fold(name)]; ok {
		return texts, nil
	}
	return nil, noName(name)
}

func (z *zone) LookupMX(_ context.Context, name string) ([]filters.MX, error) {
	name = fold(name)
	if _, ok := z.txt[name]; ok && !strings.HasPrefix(name, "_") {
		return []filters.MX{{Preference: 10, Host: "mail." + name}}, nil
	}
	return nil, noName(name)
}

func (z *zone) LookupA(_ context.Context, name string) ([]netip.Addr, error) {
	return z.addresses(name, true)
}

func (z *zone) LookupAAAA(_ context.Context, name string) ([]netip.Addr, error) {
	return z.addresses(name, false)
}

func (z *zone) addresses(name string, v4 bool) (found []netip.Addr, err error) {
	name = fold(name)
	all, exists := z.hosts[name]
	if label, group, ok := strings.Cut(name, "."); ok && !exists {
		if p := z.byName[group]; p != nil {
			if address, ok := p.address(label); ok {
				all, exists = []netip.Addr{address}, true
			}
		} else if address, ok := botAddress(label, group); ok {
			all, exists = []netip.Addr{address}, true
		}
	}
	if !exists {
		return nil, noName(name)
	}
	for _, a := range all {
		if a.Is4() == v4 {
			found = append(found, a)
		}
	}
	return found, nil
}

func (z *zone) LookupPTR(_ context.Context, address netip.Addr) ([]string, error) {
	if name, ok := z.names[address]; ok {
		return []string{name}, nil
	}
	if name := botName(address); name != "" {
		return []string{name}, nil
	}
	for _, p := range z.pools {
		if name, ok := p.name(address); ok {
			return []string{name}, nil
		}
	}
	return nil, noName(address.String())
}

// pool is a provider's hosts: an IPv4 /16 and an IPv6 /48.
type pool struct {
	number  int    // second octet, third group
	group   string // out.big3.example
	unnamed bool   // its IPv6 addresses have no names
}

func (p *pool) v4() string { return fmt.Sprintf("10.%d.0.0/16", p.number) }
func (p *pool) v6() string { return fmt.Sprintf("2001:db8:%x::/48", p.number) }

func (p *pool) host(n uint16, six bool) netip.Addr {
	if !six {
		return netip.AddrFrom4([4]byte{10, byte(p.number), byte(n >> 8), byte(n)})
	}
	a := [16]byte{0x20, 0x01, 0x0d, 0xb8, 0, byte(p.number)}
	a[7], a[15] = byte(n>>8), byte(n) // each few in a /64 of their own
	return netip.AddrFrom16(a)
}

func (p *pool) name(address netip.Addr) (string, bool) {
	family, n := "4", uint16(0)
	if a := address.AsSlice(); address.Is4() {
		if a[0] != 10 || int(a[1]) != p.number {
			return "", false
		}
		n = uint16(a[2])<<8 | uint16(a[3])
	} else {
		if p.unnamed || a[0] != 0x20 || int(a[5]) != p.number {
			return "", false
		}
		family, n = "6", uint16(a[7])<<8|uint16(a[15])
	}
	return fmt.Sprintf("m%05d-%s.%s", n, family, p.group), true
}

func (p *pool) address(label string) (netip.Addr, bool) {
	number, family, ok := strings.Cut(strings.TrimPrefix(label, "m"), "-")
	n, err := strconv.ParseUint(number, 10, 16)
	if !ok || err != nil {
		return netip.Addr{}, false
	}
	return p.host(uint16(n), family == "6"), true
}
