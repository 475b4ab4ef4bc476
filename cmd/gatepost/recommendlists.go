package main

import (
	"net/netip"
	"slices"
	"strings"

	"gatepost/filters/dnsbl"
	"gatepost/policy"
	"gatepost/proxy/config"
)

// unlisted makes recordings be as if a block list had not been asked: its name and its points are taken away.
type unlisted struct {
	name   string
	points float64
}

// pointsOf are the points of a list whose answers all weigh the same: which answer came is not recorded.
func pointsOf(c *config.Config, name string) (points float64, ok bool) {
	for _, z := range c.Filters["dnsbl"].Settings.(*dnsbl.Config).Zones {
		if listName(z) != name {
			continue
		}
		for _, p := range z.Codes {
			if ok && p != points {
				return 0, false
			}
			points, ok = p, true
		}
	}
	return points, ok
}

func (u unlisted) recording(r *policy.Recording) *policy.Recording {
	changed := *r
	changed.Looks = slices.Clone(r.Looks)
	for i := range changed.Looks {
		if values, ok := changed.Looks[i].Facts.(policy.Values); ok && changed.Looks[i].Filter == "dnsbl" {
			changed.Looks[i].Facts = u.values(values)
		}
	}
	return &changed
}

func (u unlisted) values(v policy.Values) policy.Values {
	found := &unlistedValues{Values: v, list: u, names: v.Names(), listed: map[string]bool{}}
	v.Visit(&findListed{unlistedValues: found})
	return found
}

// unlistedValues are facts without the list.
type unlistedValues struct {
	policy.Values
	list   unlisted
	names  []string
	listed map[string]bool // "dnsbl.", "dnsbl.helo_" …: which kinds it has listed
}

// Visit implements policy.Values.
func (u *unlistedValues) Visit(v policy.ValueVisitor) { u.Values.Visit(&takeAway{v, u}) }

func (u *unlistedValues) kind(place int, fact string) (kind string, ok bool) {
	return strings.CutSuffix(u.names[place], fact)
}

// takeAway hands on what it is told of, without the list.
type takeAway struct {
	policy.ValueVisitor
	from *unlistedValues
}

// Number implements policy.ValueVisitor.
func (t *takeAway) Number(place int, value float64) {
	if kind, ok := t.from.kind(place, "score"); ok && t.from.listed[kind] {
		value -= t.from.list.points
	}
	t.ValueVisitor.Number(place, value)
}

// List implements policy.ValueVisitor.
func (t *takeAway) List(place int, value []string) {
	if slices.Contains(value, t.from.list.name) {
		value = slices.DeleteFunc(slices.Clone(value), func(name string) bool { return name == t.from.list.name })
	}
	t.ValueVisitor.List(place, value)
}

// findListed notes where the list has listed something.
type findListed struct{ *unlistedValues }

func (f *findListed) Bool(int, bool)          {}
func (f *findListed) Number(int, float64)     {}
func (f *findListed) Text(int, string)        {}
func (f *findListed) Address(int, netip.Addr) {}

func (f *findListed) List(place int, value []string) {
	if kind, ok := f.kind(place, "listed"); ok && slices.Contains(value, f.list.name) {
		f.listed[kind] = true
	}
}
