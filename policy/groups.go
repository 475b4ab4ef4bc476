package policy

import (
	"slices"

	"gatepost/filters"
	"gatepost/rules"
)

// Instances puts the instances that are configured in the place of each filter that can be there several times, in the
// order of their list.
func Instances(specs []filters.Spec, configs map[string]FilterConfig) []filters.Spec {
	var all []filters.Spec
	for i := range specs {
		spec := &specs[i]
		if !spec.Several {
			all = append(all, *spec)
			continue
		}
		var found []FilterConfig
		for name, c := range configs {
			if named, ok := c.Settings.(filters.Named); ok && name == spec.Name+"."+named.InstanceName() {
				found = append(found, c)
			}
		}
		slices.SortFunc(found, func(a, b FilterConfig) int { return a.Place - b.Place })
		for _, c := range found {
			all = append(all, spec.Instance(c.Settings.(filters.Named)))
		}
	}
	return all
}

// Groups returns all groups of facts that exist with these filters: the gate's own first. Of a filter that is there
// several times only its Instances have any.
func Groups(specs []filters.Spec) []rules.Group {
	groups := builtins()
	for i := range specs {
		if specs[i].Several {
			continue
		}
		for _, o := range specs[i].Observations {
			groups = append(groups, rules.Group{Name: specs[i].Name, Alias: specs[i].Alias, Type: o.Facts, Stage: int(o.Stage)})
		}
	}
	return groups
}
