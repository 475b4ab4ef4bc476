package main

import (
	"fmt"
	"reflect"
	"strings"

	"gatepost/proxy/config"
)

// fixedKeys are what a running process does not change, and why. All other keys are a reload's.
var fixedKeys = []struct {
	key, why string
	value    func(*config.Config) any
}{
	{"store.path", "another folder, with another memory", func(c *config.Config) any { return c.Store.Path }},
	{"store.redis", "another memory, which all sessions have to share", func(c *config.Config) any { return c.Store.Redis }},
	{"journal.path", "another folder, which one process alone may own", func(c *config.Config) any { return c.Journal.Path }},
	{"confine", "a process is confined once, at its start; it is let out by a restart alone", func(c *config.Config) any { return c.Confine }},
	{"quarantine.path", "another folder, which one process alone may own", func(c *config.Config) any { return c.Quarantine.Path }},
}

// needsUpgrade refuses a configuration that a running process cannot put in force, and names what keeps it from that.
func needsUpgrade(before, now *config.Config) error {
	var changed []string
	for _, f := range fixedKeys {
		if !reflect.DeepEqual(f.value(before), f.value(now)) {
			changed = append(changed, fmt.Sprintf("%s (%s: %s)", f.key, now.Place(f.key), f.why))
		}
	}
	if changed == nil {
		return nil
	}
	return fmt.Errorf("a running gatepost cannot change %s: use gatepost upgrade", strings.Join(changed, ", "))
}
