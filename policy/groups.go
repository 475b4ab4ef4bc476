package policy

import (
	"gatepost/filters"
	"gatepost/rules"
)

// Groups returns all groups of facts that exist with these filters, for manuals: the gate's own first.
func Groups(specs []filters.Spec) []rules.Group {
	groups := builtins()
	for i := range specs {
		for _, o := range specs[i].Observations {
			groups = append(groups, rules.Group{Name: specs[i].Name, Type: o.Facts, Stage: int(o.Stage)})
		}
	}
	return groups
}

// Builtin tells whether a fact is the gate's own: it repeats what session, envelope and message say themselves, rather
// than what a filter found out.
func Builtin(fact string) bool { return builtinFacts[fact] }

var builtinFacts = func() map[string]bool {
	names := map[string]bool{}
	for _, group := range builtins() {
		for i := range group.Type.NumField() {
			if name := group.Type.Field(i).Tag.Get("fact"); name != "" {
				names[group.Name+"."+name] = true
			}
		}
	}
	return names
}()
