package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"gatepost/filters"
	"gatepost/filters/all"
	"gatepost/policy"
	"gatepost/proxy/config"
)

// generate makes all generated files from the source under root, by their names relative to it.
func generate(root string) (map[string][]byte, error) {
	comments, err := readComments(root)
	if err != nil {
		return nil, err
	}
	asJSON, err := json.MarshalIndent(comments, "", " ")
	if err != nil {
		return nil, err
	}
	specs := all.Specs()
	configuration, err := configurationPage(specs, comments)
	if err != nil {
		return nil, err
	}
	facts := factsPage(withNames(specs), comments)
	metrics, err := metricsPage()
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		"cmd/gatepost/comments.json": append(asJSON, '\n'),
		"docs/api.md":                apiPage(),
		"docs/configuration.md":      configuration,
		"docs/facts.md":              facts,
		"docs/metrics.md":            metrics,
	}, nil
}

// unnamed stands for the instances of a filter that is there several times.
type unnamed struct{}

func (unnamed) InstanceName() string { return "NAME" }

func (unnamed) Follows() []string { return nil }

func withNames(specs []filters.Spec) []filters.Spec {
	named := slices.Clone(specs)
	for i := range named {
		if named[i].Several {
			named[i] = named[i].Instance(unnamed{})
		}
	}
	return named
}

const generated = "<!-- Made by `make docs` from the comments in the source. -->\n"

// configurationPage shows the defaults with their comments, in the form that `gatepost config` prints.
func configurationPage(specs []filters.Spec, comments config.Comments) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("# Configuration reference\n\n" + generated + `
The file is YAML. ` + "`domains:` and `backend: host:port`" + ` are a complete configuration; every other key has the default that
stands here. ` + "`gatepost check -c FILE`" + ` says everything that is wrong with a file, ` + "`gatepost config -c FILE`" + ` prints this page for
yours.

- A duration is ` + "`300ms`, `10s`, `5m`, `24h`, `35d`" + ` or a sum of these; a size is ` + "`4096`, `64KiB`, `50MiB`, `1GiB`" + `.
- A network is ` + "`192.0.2.0/24`, `2001:db8::/32`" + ` or a single address.
- Where a list is expected, a single value is a list of one.
- The list of ` + "`filters.milter`" + ` is empty by default; the entry that stands here shows the defaults of its keys.
- A relative file name is meant from the folder of the configuration file.
- Inside of brackets, put what has a colon in it in quotes: ` + "`[\"127.0.0.1:53\"]`" + `.

` + "```yaml\n")
	c := config.Default(specs)
	c.Hostname = "mx.example.org"
	for i := range specs {
		if specs[i].Several {
			settings := specs[i].NewConfig()
			common := policy.Common{Enabled: true, OnError: "pass"}
			if own, ok := settings.(interface{ DefaultTimeout() filters.Duration }); ok {
				common.Timeout = own.DefaultTimeout()
			}
			if example, ok := settings.(interface{ SetExample() }); ok {
				example.SetExample()
			}
			c.Filters[specs[i].Name+"."+settings.(filters.Named).InstanceName()] = policy.FilterConfig{Common: common, Settings: settings}
		}
	}
	if err := c.Write(&b, comments); err != nil {
		return nil, err
	}
	b.WriteString("```\n")
	return b.Bytes(), nil
}

// factsPage lists the facts that rules can read.
func factsPage(specs []filters.Spec, comments config.Comments) []byte {
	var b bytes.Buffer
	b.WriteString("# Facts\n\n" + generated + `
What rules can read, by the stage of the dialogue from which it is known. A fact is *absent* while its filter has not
run, is off or has failed; a comparison with an absent fact is unknown and does not match (see [rules.md](rules.md)).
`)
	groups := policy.Groups(specs)
	last := ""
	for _, g := range groups {
		if g.Name != last {
			fmt.Fprintf(&b, "\n## %s\n\n%s| fact | type | known from | meaning |\n|---|---|---|---|\n", g.Name, summary(specs, g.Name))
			last = g.Name
		}
		for i := range g.Type.NumField() {
			f := g.Type.Field(i)
			name := f.Tag.Get("fact")
			if name == "" {
				continue
			}
			meaning := strings.ReplaceAll(comments.Of(g.Type, f), "|", "\\|")
			if values := f.Tag.Get("values"); values != "" {
				meaning += " One of `" + strings.ReplaceAll(values, " ", "`, `") + "`."
			}
			fmt.Fprintf(&b, "| `%s.%s` | %s | %s | %s |\n", g.Name, name, kind(f.Type), filters.Stage(g.Stage), meaning)
		}
	}
	return b.Bytes()
}

func summary(specs []filters.Spec, name string) string {
	for _, s := range specs {
		if s.Name == name {
			return s.Summary + "\n\n"
		}
	}
	return ""
}

func kind(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool:
		return "bool"
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Float64:
		return "number"
	case reflect.String:
		return "text"
	case reflect.Slice:
		return "list"
	case reflect.Struct:
		return "address"
	}
	return "function"
}
