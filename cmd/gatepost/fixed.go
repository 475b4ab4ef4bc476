package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"gatepost/proxy/called"
	"gatepost/proxy/config"
)

// needsUpgrade refuses a configuration that a running process cannot put in force, and names what keeps it from that.
func (h *house) needsUpgrade(c *config.Config) error {
	var changed []string
	for _, section := range []struct {
		name     string
		old, new any
	}{
		{"store", h.started.Store, c.Store}, {"journal", h.started.Journal, c.Journal}, {"quarantine", h.started.Quarantine, c.Quarantine},
		{"resolver", h.started.Resolver, c.Resolver}, {"log", h.started.Log, c.Log}, {"admin", h.started.Admin, c.Admin},
	} {
		if !reflect.DeepEqual(section.old, section.new) {
			changed = append(changed, section.name)
		}
	}
	listen := func(c *config.Config) (list []string) {
		for _, l := range c.Listen {
			list = append(list, l.Address)
		}
		return list
	}
	for _, front := range []struct {
		name     string
		old, new []string
	}{
		{"listen", listen(h.started), listen(c)},
		{"milter", calledAt(h.started.Milter), calledAt(c.Milter)},
		{"policy_server", calledAt(h.started.PolicyServer), calledAt(c.PolicyServer)},
	} {
		if slices.Sort(front.old); !sameAddresses(front.old, front.new) {
			changed = append(changed, "the addresses under "+front.name)
		}
	}
	if changed == nil {
		return nil
	}
	return fmt.Errorf("a running gatepost cannot change %s: use gatepost upgrade", strings.Join(changed, ", "))
}

func calledAt[L called.Entry](entries []L) (list []string) {
	for _, l := range entries {
		list = append(list, l.Common().Address)
	}
	return list
}

// sameAddresses tells whether both lists have the same addresses, in whatever order.
func sameAddresses(sorted, list []string) bool {
	slices.Sort(list)
	return slices.Equal(sorted, list)
}
