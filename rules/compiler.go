package rules

import (
	"slices"
	"strconv"
	"strings"

	"github.com/expr-lang/expr/ast"
)

// compiler turns one expression into a condition. It goes on after a mistake, to find all of them.
type compiler struct {
	*problems
	schema *Schema
	lists  *listCache
	source Source
	parsed parsed // from source
	nodes  int
	depth  int

	reads   []*field // in order of appearance, each once
	headers []string // canonical, each once
	named   []string // list files, as often as they are named
	score   *scoreSum
}

// value is a compiled part of an expression. Of the typed fields only the one of its kind is set.
type value struct {
	kind  Kind
	what  string // how messages name it: "spf.result", "a number"
	fact  *field // when it is just this fact
	fixed bool   // a literal, or computed from literals

	condition condition
	number    expression[float64]
	text      expression[string]
	list      expression[[]string]
	address   expression[address]
}

// compile returns nil if there was anything to complain about.
func (c *compiler) compile() condition {
	before := len(c.all)
	if err := c.parsed.err; err != nil {
		c.fail(c.source.at(c.parsed.offset), "%v", err)
		return nil
	}
	result := c.condition(c.parsed.tree)
	if slices.ContainsFunc(c.all[before:], func(p Problem) bool { return !p.Warning }) {
		return nil
	}
	return result
}

func (c *compiler) at(n ast.Node) Pos {
	return c.source.at(byteOffset(c.source.Text, n.Location().From))
}

func (c *compiler) failAt(n ast.Node, format string, args ...any) {
	c.fail(c.at(n), format, args...)
}

// enter counts a node; what it returns must be called at the end of the node.
func (c *compiler) enter(n ast.Node) (ok bool) {
	c.nodes++
	c.depth++
	switch {
	case c.nodes == maxNodes+1:
		c.failAt(n, "the expression has more than %d parts; use several rules", maxNodes)
		return false
	case c.depth == maxDepth+1:
		c.failAt(n, "the expression is nested deeper than %d", maxDepth)
		return false
	}
	return c.nodes <= maxNodes && c.depth <= maxDepth
}

func (c *compiler) leave() { c.depth-- }

// condition compiles what must be true or false. After a mistake it returns nil.
func (c *compiler) condition(n ast.Node) condition {
	v, ok := c.value(n)
	if !ok {
		return nil
	}
	if v.kind != Bool {
		c.failAt(start(n), "%s is %s and not a condition; compare it with something", v.what, v.kind.phrase())
		return nil
	}
	return v.condition
}

// value compiles any part. ok is false after a mistake, which has been reported.
func (c *compiler) value(n ast.Node) (v value, ok bool) {
	defer c.leave()
	if !c.enter(n) {
		return value{}, false
	}
	switch n := n.(type) {
	case *ast.BoolNode:
		return value{kind: Bool, what: "the constant", fixed: true, condition: constant(truth(n.Value))}, true
	case *ast.IntegerNode:
		if n.Value > 1<<53 {
			c.failAt(n, "the number is too large")
			return value{}, false
		}
		return numberValue(float64(n.Value)), true
	case *ast.FloatNode:
		return numberValue(n.Value), true
	case *ast.StringNode:
		return value{kind: Text, what: quote(n.Value), fixed: true, text: text(n.Value)}, true
	case *ast.IdentifierNode:
		return c.identifier(n)
	case *ast.MemberNode:
		return c.member(n)
	case *ast.UnaryNode:
		return c.unary(n)
	case *ast.BinaryNode:
		return c.binary(n)
	case *ast.CallNode:
		return c.call(n)
	case *ast.ConditionalNode:
		c.failAt(start(n.Cond), "there is no if and no ?: here; use and, or, not, or several rules")
		return value{}, false
	}
	c.failAt(n, "%s", refusal(n))
	return value{}, false
}

func numberValue(n float64) value {
	return value{kind: Number, what: strconv.FormatFloat(n, 'g', -1, 64), fixed: true, number: number(n)}
}

func conditionValue(n condition) value { return value{kind: Bool, what: "a condition", condition: n} }

// refusal explains why a part of expr's language is not part of ours.
func refusal(n ast.Node) string {
	switch n := n.(type) {
	case *ast.NilNode:
		return "there is no nil; ask with known(fact) whether a fact is there"
	case *ast.ArrayNode:
		return "a list can only be on the right side of in"
	case *ast.ChainNode:
		return "there is no ?. here; a fact that is absent makes the comparison unknown"
	case *ast.VariableDeclaratorNode:
		return "there are no variables here"
	case *ast.SequenceNode:
		return "there can be only one expression"
	case *ast.SliceNode:
		return "there are no slices here; use startsWith, endsWith, contains or matches"
	case *ast.BuiltinNode:
		return "there is no function " + n.Name + suggest(n.Name, functionNames)
	default:
		return "this is not part of the rule language"
	}
}

func (c *compiler) identifier(n *ast.IdentifierNode) (value, bool) {
	if n.Value == "score" {
		if c.score == nil {
			c.score = new(scoreSum)
		}
		return value{kind: Number, what: "score", number: c.score}, true
	}
	if x := c.schema.byName[n.Value]; x != nil {
		c.read(x)
		return factValue(x), true
	}
	if facts := c.factsOf(n.Value); len(facts) > 0 {
		c.failAt(n, "%s has several facts: %s", n.Value, strings.Join(facts, ", "))
		return value{}, false
	}
	c.failAt(n, "there is no fact %s%s", quote(n.Value), suggest(n.Value, c.schema.names()))
	return value{}, false
}

func (c *compiler) member(n *ast.MemberNode) (value, bool) {
	group, isGroup := c.group(n.Node)
	property, isText := n.Property.(*ast.StringNode)
	if !isGroup || !isText || c.isElement(n) || c.schema.byName[group] != nil {
		c.failAt(n, "a fact is written group.name; there are no elements and no deeper levels")
		return value{}, false
	}
	name := group + "." + property.Value
	if c.schema.header != nil && name == c.schema.header.Name {
		c.failAt(n.Node, `write header("Subject") to read a header field`)
		return value{}, false
	}
	x := c.schema.byName[name]
	if x == nil {
		where := n.Node
		if facts := c.factsOf(name); len(facts) > 0 {
			c.failAt(property, "%s has several facts: %s", name, strings.Join(facts, ", "))
			return value{}, false
		}
		if len(c.factsOf(group)) > 0 {
			where = property
		}
		c.failAt(where, "there is no fact %s%s", name, suggest(name, c.schema.names()))
		return value{}, false
	}
	c.read(x)
	return factValue(x), true
}

// group is what stands before the last dot of a fact's name: one name, or two as in milter.rspamd.
func (c *compiler) group(n ast.Node) (string, bool) {
	if member, deeper := n.(*ast.MemberNode); deeper && c.isElement(member) {
		return "", false
	}
	return groupIn(n)
}

func (c *compiler) isElement(n *ast.MemberNode) bool {
	return n.Optional || c.source.Text[byteOffset(c.source.Text, n.Location().From)] == '['
}

func groupIn(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return n.Value, true
	case *ast.MemberNode:
		first, isName := n.Node.(*ast.IdentifierNode)
		second, isText := n.Property.(*ast.StringNode)
		if isName && isText {
			return first.Value + "." + second.Value, true
		}
	}
	return "", false
}

func (c *compiler) read(x *field) {
	if !slices.Contains(c.reads, x) {
		c.reads = append(c.reads, x)
	}
}

func factValue(x *field) value {
	v := value{kind: x.Kind, what: x.Name, fact: x}
	switch x.Kind {
	case Bool:
		v.condition = flag{x}
	case Number:
		v.number = numberFact{x}
	case Text:
		v.text = textFact{x}
	case List:
		v.list = listFact{x}
	case Address:
		v.address = addressFact{x}
	}
	return v
}

func (c *compiler) factsOf(group string) (names []string) {
	for _, name := range c.schema.names() {
		if strings.HasPrefix(name, group+".") {
			names = append(names, name)
		}
	}
	return names
}

func (c *compiler) unary(n *ast.UnaryNode) (value, bool) {
	v, ok := c.value(n.Node)
	if !ok {
		return value{}, false
	}
	switch n.Operator {
	case "not", "!":
		if v.kind != Bool {
			c.failAt(n, "%s is %s, it cannot be negated; not binds tighter than a comparison: write not (a == b)", v.what, v.kind.phrase())
			return value{}, false
		}
		if fixed, ok := v.condition.(constant); ok {
			return conditionValue(constant(Truth(fixed).not())), true
		}
		return conditionValue(not{v.condition}), true
	case "-", "+":
		if v.kind != Number {
			c.failAt(n, "%s is %s; %s needs a number", v.what, v.kind.phrase(), n.Operator)
			return value{}, false
		}
		if n.Operator == "+" {
			return v, true
		}
		return c.arithmetic(n, numberValue(0), v, func(a, b float64) float64 { return a - b })
	}
	c.failAt(n, "there is no operator %s", n.Operator)
	return value{}, false
}

// start is the leftmost part of an expression: the place to point at when all of it is meant.
func start(n ast.Node) ast.Node {
	for {
		switch inner := n.(type) {
		case *ast.BinaryNode:
			n = inner.Left
		case *ast.MemberNode:
			n = inner.Node
		default:
			return n
		}
	}
}
