package config

import (
	"reflect"
	"sort"
	"time"

	"github.com/goccy/go-yaml/ast"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/rules"
)

// defaultTimeout bounds a filter's observation unless its configuration says otherwise. It lies below the 20 s that MAIL
// and RCPT may take.
const defaultTimeout = filters.Duration(10 * time.Second)

// defaultFilters is every filter with the configuration it has when the file does not mention it.
func defaultFilters(specs []filters.Spec) map[string]policy.FilterConfig {
	all := make(map[string]policy.FilterConfig, len(specs))
	for i := range specs {
		all[specs[i].Name] = policy.FilterConfig{
			Common:   policy.Common{Enabled: true, Timeout: defaultTimeout, OnError: "pass"},
			Settings: specs[i].NewConfig(),
		}
	}
	return all
}

// decodeFilters reads the section `filters:` into all. A filter's keys are those that every filter has and its own.
func (d *document) decodeFilters(n ast.Node, all map[string]policy.FilterConfig) {
	if n.Type() == ast.NullType { // a key without a value means the default
		return
	}
	pairs, ok := mapping(n)
	if !ok {
		d.undecoded(n, "filters", "filters: a mapping from a filter's name to its configuration is expected here")
		return
	}
	seen := map[string]rules.Pos{}
	for _, pair := range pairs {
		name, at := pair.Key.GetToken().Value, d.pos(pair.Key.GetToken())
		c, known := all[name]
		if !known {
			d.problem(at, "there is no filter %q%s", name, didYouMean(name, names(all)))
			continue
		}
		if first, again := seen[name]; again {
			d.problem(at, "filters.%s is already set in line %d", name, first.Line)
			continue
		}
		seen[name] = at
		path := join("filters", name)
		d.places[path] = at
		before := len(d.problems)
		d.decodeFields(pair.Value, path, reflect.ValueOf(&c.Common).Elem(), reflect.ValueOf(c.Settings).Elem())
		if c.Common.OnError != "pass" && c.Common.OnError != "defer" {
			key := join(path, "on_error")
			d.problem(d.place(key), "%s: %q is neither pass nor defer", key, c.Common.OnError)
		}
		d.validate(path, c.Settings)
		all[name] = c
		if len(d.problems) > before {
			d.brokenFilters[name] = true
		}
	}
}

func names(all map[string]policy.FilterConfig) []string {
	list := make([]string, 0, len(all))
	for name := range all {
		list = append(list, name)
	}
	sort.Strings(list)
	return list
}
