package config

import (
	"reflect"
	"sort"
	"time"

	"github.com/goccy/go-yaml/ast"

	"gatepost/filters"
	"gatepost/policy"
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
	pairs, ok := mapping(n)
	if !ok {
		d.problem(d.start(n), "filters: a mapping from a filter's name to its configuration is expected here")
		return
	}
	for _, pair := range pairs {
		name := pair.Key.GetToken().Value
		c, known := all[name]
		if !known {
			d.problem(d.pos(pair.Key.GetToken()), "there is no filter %q%s", name, didYouMean(name, names(all)))
			continue
		}
		path := join("filters", name)
		d.places[path] = d.pos(pair.Key.GetToken())
		d.decodeFields(pair.Value, path, reflect.ValueOf(&c.Common).Elem(), reflect.ValueOf(c.Settings).Elem())
		if c.Common.OnError != "pass" && c.Common.OnError != "defer" {
			d.problem(d.place(join(path, "on_error")), "on_error: %q is neither pass nor defer", c.Common.OnError)
		}
		d.validate(path, c.Settings)
		all[name] = c
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
