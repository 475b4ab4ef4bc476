package config

import (
	"bufio"
	"io"

	"gatepost/filters"
)

// Try reads a file's content that is to be tried in the place of c: a whole configuration, or the section `rules:` alone,
// which is put in the place of that of c. Relative file names are meant as in c. name stands for the text in messages.
func (c *Config) Try(name string, text []byte, specs []filters.Spec) (*Config, Problems) {
	d := parse(name, text)
	if d.root == nil || !d.isRulesAlone() {
		return Parse(name, text, specs)
	}
	tried := *c
	tried.doc = d
	pairs, _ := mapping(d.root)
	tried.Rules = d.decodeRules(pairs[0].Value)
	if tried.Rules == nil {
		defaults, problems := DefaultRules()
		tried.Rules = defaults
		d.problems = append(d.problems, problems...)
	}
	d.problems.sort()
	if d.problems.Failed() {
		return nil, d.problems
	}
	return &tried, d.problems
}

// isRulesAlone tells a file with nothing but the section `rules:`.
func (d *document) isRulesAlone() bool {
	pairs, ok := mapping(d.root)
	return ok && len(pairs) == 1 && pairs[0].Key.GetToken().Value == "rules"
}

// WriteRules prints the section `rules:` in force.
func (c *Config) WriteRules(w io.Writer) error {
	p := &printer{w: bufio.NewWriter(w)}
	p.rules(c.Rules)
	return p.w.Flush()
}
