package rules

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Definition is a rule as written. Empty Text means that the key is not there.
type Definition struct {
	Name, When, Then, Reply, At, Mode, OnError, Header, Points, Delay, Keep Source
}

// Bounds of the values of a rule.
const (
	maxPoints = 1e6
	maxDelay  = time.Minute
)

// Compile checks and compiles all definitions and reports every problem, not the first. With a problem that is no
// warning the set is nil.
func Compile(s *Schema, definitions []Definition, lists Lists) (*Set, []Problem) {
	c := &ruleCompiler{problems: new(problems), schema: s, parsed: parseConditions(definitions), lists: newListCache(lists)}
	var rules []*Rule
	names := make(map[string]*Rule)
	for i, d := range definitions {
		r := c.rule(d, i, rules)
		if other := names[r.Name]; other != nil && r.Name != "" {
			c.fail(d.Name.at(0), "there is another rule %s, at line %d", r.Name, other.Pos.Line)
		}
		names[r.Name] = r
		rules = append(rules, r)
	}
	if c.failed() {
		return nil, c.all
	}
	set := newSet(rules)
	set.lists = c.lists.filesOf(rules)
	c.review(rules, set)
	return set, c.all
}

// CompileExpr compiles a condition alone, for searching what was recorded. lists may be nil: in_list is a problem then.
// With a problem that is no warning the condition is nil.
func CompileExpr(s *Schema, source Source, lists Lists) (*Expr, []Problem) {
	p := new(problems)
	c := &compiler{problems: p, schema: s, lists: newListCache(lists), source: source, parsed: parse(source.Text, newParserConfig())}
	result := c.compile()
	if result == nil {
		return nil, p.all
	}
	return &Expr{result}, p.all
}

// Expr is a compiled condition. Immutable, safe for concurrent use.
type Expr struct{ condition condition }

// Match evaluates the condition. It cannot fail.
func (e *Expr) Match(f *Facts) Truth { return e.condition.match(f) }

// ruleCompiler compiles the rules of one file.
type ruleCompiler struct {
	*problems
	schema *Schema
	parsed []parsed // the conditions, by index
	lists  *listCache
}

// rule compiles one definition; above are the rules before it in the file. After a problem the rule is only good for
// finding more of them.
func (c *ruleCompiler) rule(d Definition, index int, above []*Rule) *Rule {
	before := len(c.all)
	r := &Rule{Name: d.Name.Text, Pos: d.Name.at(0), Index: index, When: d.When.Text, condition: constant(Unknown)}
	c.name(d)
	c.when(d, r)
	c.then(d, r)
	c.choice(d.Mode, "mode", modeNames[:], func(i int) { r.Mode = Mode(i) })
	c.choice(d.OnError, "on_error", []string{"pass", "defer"}, func(i int) { r.DeferOnError = i == 1 })
	c.stage(d, r, above)
	c.values(d, r)
	for i := range c.all[before:] {
		if p := &c.all[before+i]; p.Pos == (Pos{}) {
			p.Message = "rule " + quote(r.Name) + ": " + p.Message
		}
	}
	return r
}

func (c *ruleCompiler) name(d Definition) {
	name := d.Name.Text
	switch {
	case name == "":
		c.fail(d.place(), "the rule has no name")
	case len(name) > 64 || strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' && r != '-'
	}):
		c.fail(d.Name.at(0), "%s: a rule's name is made of a-z, 0-9, _ and -, at most 64", quote(name))
	}
}

// place is where to point at when a key is missing.
func (d Definition) place() Pos {
	for _, source := range []Source{d.Name, d.When, d.Then} {
		if source.At != nil {
			return source.at(0)
		}
	}
	return Pos{}
}

func (c *ruleCompiler) when(d Definition, r *Rule) {
	if d.When.Text == "" {
		c.fail(d.place(), "the rule has no condition (when:)")
		return
	}
	e := &compiler{problems: c.problems, schema: c.schema, lists: c.lists, source: d.When, parsed: c.parsed[r.Index]}
	if condition := e.compile(); condition != nil {
		r.condition = condition
	}
	r.score, r.reads, r.headers, r.lists = e.score, e.reads, e.headers, e.named
	for _, x := range e.reads {
		r.Ready = max(r.Ready, x.Stage)
		r.Groups = append(r.Groups, x.Group)
		if x != c.schema.header {
			r.Fields = append(r.Fields, x.Name)
		}
	}
	for _, name := range e.headers {
		r.Fields = append(r.Fields, factOfHeader(name))
	}
}

func (c *ruleCompiler) then(d Definition, r *Rule) {
	if d.Then.Text == "" {
		c.fail(d.place(), "the rule has no action (then:)")
		return
	}
	c.choice(d.Then, "then", actionNames[:], func(i int) { r.Action = Action(i) })
}

// choice reads a key that has a closed set of values.
func (c *ruleCompiler) choice(src Source, key string, names []string, set func(i int)) {
	if src.Text == "" {
		return
	}
	if i := slices.Index(names, src.Text); i >= 0 {
		set(i)
		return
	}
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == "" })
	c.fail(src.at(0), "%s cannot be %s%s (it is one of: %s)", key, quote(src.Text), suggest(src.Text, names), strings.Join(names, " "))
}

// stage finds where the rule acts; the package comment explains the order that comes of it.
func (c *ruleCompiler) stage(d Definition, r *Rule, above []*Rule) {
	why := ""
	for _, x := range r.reads {
		if x.Stage == r.Ready {
			why = x.Name
		}
	}
	if r.score != nil {
		counts := false
		for _, other := range above {
			if other.Action == Score && other.Mode == Enforce {
				counts = true
				if other.Stage > r.Ready {
					r.Ready, why = other.Stage, "score, which rule "+other.Name+" adds to,"
				}
			}
		}
		if !counts {
			c.warn(d.When.at(0), "the rule reads score, and no rule above it adds to it")
		}
	}
	r.Stage = max(r.Ready, c.schema.speak)
	c.choice(d.At, "at", c.schema.stages, func(stage int) {
		r.Stage = stage
		if stage < r.Ready {
			c.fail(d.At.at(0), "%s is not known before %s, so the rule cannot act at %s", why, c.schema.stages[r.Ready], d.At.Text)
		}
	})
}

// values reads the keys that belong to certain actions only.
func (c *ruleCompiler) values(d Definition, r *Rule) {
	keys := []struct {
		name     string
		source   Source
		belongs  bool
		required bool
		read     func()
	}{
		{"reply", d.Reply, r.replies(), false, func() { c.reply(d.Reply, r) }},
		{"header", d.Header, r.Action == Tag, true, func() { c.header(d.Header, r) }},
		{"points", d.Points, r.Action == Score, true, func() { c.points(d.Points, r) }},
		{"delay", d.Delay, r.Action == Slow, true, func() { c.delay(d.Delay, r) }},
		{"keep", d.Keep, r.Action == Reject, false, func() { c.keep(d.Keep, r) }},
	}
	for _, key := range keys {
		switch {
		case r.Action == 0:
		case key.source.Text != "" && !key.belongs:
			c.fail(key.source.at(0), "%s does not belong to a rule that says then: %s", key.name, r.Action)
		case key.source.Text != "":
			key.read()
		case key.belongs && key.required:
			c.fail(d.Then.at(0), "a rule that says then: %s needs %s:", r.Action, key.name)
		}
	}
}

func (c *ruleCompiler) points(src Source, r *Rule) {
	points, err := strconv.ParseFloat(src.Text, 64)
	if err != nil || !(points >= -maxPoints && points <= maxPoints) {
		c.fail(src.at(0), "points: %s is not a number between -%g and %g", quote(src.Text), maxPoints, maxPoints)
		return
	}
	r.Points = points
}

func (c *ruleCompiler) delay(src Source, r *Rule) {
	delay, err := time.ParseDuration(src.Text)
	if err != nil || delay <= 0 || delay > maxDelay {
		c.fail(src.at(0), "delay: %s is not a duration such as 10s, of at most %v", quote(src.Text), maxDelay)
		return
	}
	r.Delay = delay
}

// keep reads `keep: copy`, which only makes sense where there is a message to be kept.
func (c *ruleCompiler) keep(src Source, r *Rule) {
	c.choice(src, "keep", []string{"copy"}, func(int) { r.Keep = true })
	last := len(c.schema.stages) - 1
	if r.Keep && r.Stage < last {
		c.fail(src.at(0), "keep: copy needs the message, and the rule acts at %s, before there is one: add at: %s",
			c.schema.stages[r.Stage], c.schema.stages[last])
	}
}

// newSet puts the rules in order and completes what depends on it.
func newSet(rules []*Rule) *Set {
	set := &Set{rules: slices.Clone(rules)}
	slices.SortStableFunc(set.rules, func(a, b *Rule) int { return cmp.Compare(a.Stage, b.Stage) })
	var scores []*Rule
	for _, r := range set.rules {
		set.headers = append(set.headers, r.headers...)
		if r.score != nil {
			r.score.rules = slices.Clone(scores)
			for _, other := range scores {
				r.Groups = append(r.Groups, other.Groups...)
			}
		}
		slices.Sort(r.Groups)
		r.Groups = slices.Compact(r.Groups)
		r.ReplyGroups = slices.DeleteFunc(r.ReplyGroups, func(group int) bool { return slices.Contains(r.Groups, group) })
		if r.Action == Score && r.Mode == Enforce {
			scores = append(scores, r)
		}
	}
	slices.Sort(set.headers)
	set.headers = slices.Compact(set.headers)
	return set
}
