package config

import (
	"fmt"
	"reflect"
	"sort"
	"strings"
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
		if specs[i].Several {
			continue
		}
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
		several := d.several(name)
		c, known := all[name]
		if several == nil && (!known || strings.Contains(name, ".")) {
			d.problem(at, "there is no filter %q%s", name, didYouMean(name, d.filterNames()))
			continue
		}
		if first, again := seen[name]; again {
			d.problem(at, "filters.%s is already set in line %d", name, first.Line)
			continue
		}
		seen[name] = at
		path := join("filters", name)
		d.places[path] = at
		if several != nil {
			d.decodeInstances(pair.Value, several, all)
			continue
		}
		if !d.decodeFilter(pair.Value, path, &c) {
			d.brokenFilters[name] = true
		}
		all[name] = c
	}
}

// decodeFilter tells whether nothing is wrong with the filter's keys.
func (d *document) decodeFilter(n ast.Node, path string, c *policy.FilterConfig) bool {
	before := len(d.problems)
	d.decodeFields(n, path, reflect.ValueOf(&c.Common).Elem(), reflect.ValueOf(c.Settings).Elem())
	if c.Common.OnError != "pass" && c.Common.OnError != "defer" {
		key := join(path, "on_error")
		d.problem(d.place(key), "%s: %q is neither pass nor defer", key, c.Common.OnError)
	}
	d.validate(path, c.Settings)
	return len(d.problems) == before
}

// maxInstances is how often a filter can be there: each time takes one of the 64 groups of facts that rules can read.
const maxInstances = 16

// decodeInstances reads the list under the key of a filter that is there several times. What is found there is kept
// under the names of the instances, such as "milter.rspamd".
func (d *document) decodeInstances(n ast.Node, spec *filters.Spec, all map[string]policy.FilterConfig) {
	list, ok := n.(*ast.SequenceNode)
	path := join("filters", spec.Name)
	switch {
	case n.Type() == ast.NullType:
		return
	case !ok:
		d.undecoded(n, path, "%s: a list is expected here, `- name: …` for each", path)
		return
	case len(list.Values) > maxInstances:
		d.problem(d.start(n), "%s: at most %d are possible", path, maxInstances)
		return
	}
	before := map[string]bool{}
	for i, item := range list.Values {
		c := policy.FilterConfig{Common: policy.Common{Enabled: true, Timeout: defaultTimeout, OnError: "pass"}, Settings: spec.NewConfig(), Place: i}
		if own, ok := c.Settings.(interface{ DefaultTimeout() filters.Duration }); ok {
			c.Common.Timeout = own.DefaultTimeout()
		}
		at := fmt.Sprintf("%s[%d]", path, i)
		d.places[at] = d.start(item)
		ok := d.decodeFilter(item, at, &c)
		named := c.Settings.(filters.Named)
		name := named.InstanceName()
		switch {
		case !rules.IsInstanceName(name):
			if ok {
				d.problem(d.place(join(at, "name")), "%s.name: %q: a name is made of a-z, 0-9 and _ and begins with a letter; rules read %s.NAME.…", at, name, spec.Name)
			}
			continue
		case before[name]:
			d.problem(d.place(join(at, "name")), "%s.name: there is a %q above", at, name)
			continue
		}
		for _, other := range named.Follows() {
			if !before[other] {
				d.problem(d.place(join(at, "after")), "%s.after: there is no %q above", at, other)
			}
		}
		before[name] = true
		all[spec.Name+"."+name] = c
		d.places["filters."+spec.Name+"."+name] = d.places[at]
		if !ok {
			d.brokenFilters[spec.Name+"."+name] = true
		}
	}
}

// several finds a filter that is there several times.
func (d *document) several(name string) *filters.Spec {
	for i := range d.specs {
		if d.specs[i].Several && d.specs[i].Name == name {
			return &d.specs[i]
		}
	}
	return nil
}

func (d *document) filterNames() []string {
	list := make([]string, len(d.specs))
	for i := range d.specs {
		list[i] = d.specs[i].Name
	}
	sort.Strings(list)
	return list
}
