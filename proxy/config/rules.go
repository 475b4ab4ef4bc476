package config

import (
	"reflect"

	"github.com/goccy/go-yaml/ast"

	"gatepost/rules"
)

// defaultRulesName stands for the rules that come with Gatepost, in messages and in `include:`.
const defaultRulesName = "default"

// DefaultRulesFile is how problems in those rules name their place.
const DefaultRulesFile = "rules/default.yaml"

// ruleEntry is one entry of the list under `rules:`.
type ruleEntry struct {
	Include rules.Source `yaml:"include"`
	Name    rules.Source `yaml:"name"`
	When    rules.Source `yaml:"when"`
	Then    rules.Source `yaml:"then"`
	Reply   rules.Source `yaml:"reply"`
	At      rules.Source `yaml:"at"`
	Mode    rules.Source `yaml:"mode" values:"enforce observe"`
	OnError rules.Source `yaml:"on_error" values:"pass defer"`
	Header  rules.Source `yaml:"header"`
	Points  rules.Source `yaml:"points"`
	Delay   rules.Source `yaml:"delay"`
	Keep    rules.Source `yaml:"keep"`
}

func (e *ruleEntry) definition() rules.Definition {
	return rules.Definition{Name: e.Name, When: e.When, Then: e.Then, Reply: e.Reply, At: e.At, Mode: e.Mode,
		OnError: e.OnError, Header: e.Header, Points: e.Points, Delay: e.Delay, Keep: e.Keep}
}

// decodeRules reads the list under `rules:`. An entry `include: default` stands for the rules that come with Gatepost.
// An empty list is no rules at all and not nil; a key without a value means the default, which is nil.
func (d *document) decodeRules(n ast.Node) []rules.Definition {
	if n.Type() == ast.NullType {
		return nil
	}
	sequence, ok := n.(*ast.SequenceNode)
	if !ok {
		d.problem(d.start(n), "rules: a list of rules is expected here")
		return nil
	}
	definitions := make([]rules.Definition, 0, len(sequence.Values)) // not nil: an empty list means no rules
	for _, item := range sequence.Values {
		e := d.decodeRule(item)
		switch {
		case e.Include.Text == "":
			if e.Name.Text == "" {
				// The compiler says what is missing, and needs to know where.
				e.Name.At = func(int) rules.Pos { return d.start(item) }
			}
			definitions = append(definitions, e.definition())
		case e.Include.Text == defaultRulesName:
			defaults, problems := DefaultRules()
			d.problems = append(d.problems, problems...)
			definitions = append(definitions, defaults...)
		default:
			d.problem(e.Include.At(0), "include: %q is not known; the rules that come with Gatepost are %q", e.Include.Text, defaultRulesName)
		}
	}
	return definitions
}

// decodeRule reads one entry.
func (d *document) decodeRule(n ast.Node) (e ruleEntry) {
	v := reflect.ValueOf(&e).Elem()
	if !d.decodePlainRule(n, v) {
		v.SetZero()
		d.decodeFields(n, "rules", v)
	}
	return e
}

// decodePlainRule reads an entry of keys that are known and there once, whose values are scalars: that is all of those in
// which there is no mistake. The way of all sections, with the places of keys kept by their paths, takes six times as
// long: 60 ms of 10,000 rules. False: the entry is not of that kind.
func (d *document) decodePlainRule(n ast.Node, e reflect.Value) bool {
	pairs, ok := mapping(n)
	for _, pair := range pairs {
		place, known := ruleKeys[pair.Key.GetToken().Value]
		source, scalar := d.source(pair.Value)
		if !known || !scalar {
			return false
		}
		field := e.Field(place).Addr().Interface().(*rules.Source)
		if field.At != nil {
			return false
		}
		*field = source
	}
	return ok
}

// ruleKeys are the places of the fields of ruleEntry by their keys.
var ruleKeys = func() map[string]int {
	places := map[string]int{}
	for place, key := range keysOf(reflect.TypeFor[ruleEntry]()) {
		places[key] = place
	}
	return places
}()

// DefaultRules reads the rules that come with Gatepost.
func DefaultRules() ([]rules.Definition, Problems) {
	d := parse(DefaultRulesFile, rules.Default)
	if d.root == nil {
		return nil, d.problems
	}
	return d.decodeRules(d.root), d.problems
}
