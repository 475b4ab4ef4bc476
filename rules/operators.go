package rules

import (
	"math"
	"net/netip"
	"regexp"
	"regexp/syntax"
	"strings"

	"github.com/expr-lang/expr/ast"
)

type address = netip.Addr

func (c *compiler) binary(n *ast.BinaryNode) (value, bool) {
	switch n.Operator {
	case "and", "&&", "or", "||":
		return c.logic(n)
	case "in":
		return c.in(n)
	}
	left, leftOK := c.value(n.Left)
	right, rightOK := c.value(n.Right)
	if !leftOK || !rightOK {
		return value{}, false
	}
	switch n.Operator {
	case "==", "!=":
		return c.equality(n, left, right)
	case "<", "<=", ">", ">=":
		return c.ordering(n, left, right)
	case "+":
		return c.arithmetic(n, left, right, func(a, b float64) float64 { return a + b })
	case "-":
		return c.arithmetic(n, left, right, func(a, b float64) float64 { return a - b })
	case "*":
		return c.arithmetic(n, left, right, func(a, b float64) float64 { return a * b })
	case "contains", "startsWith", "endsWith":
		return c.part(n, left, right)
	case "matches":
		return c.matches(n, left, right)
	}
	c.failAt(n, "there is no operator %s here", n.Operator)
	return value{}, false
}

// logic makes one node of a chain of the same operator, so that a long chain is not a deep one.
func (c *compiler) logic(n *ast.BinaryNode) (value, bool) {
	isAnd := n.Operator == "and" || n.Operator == "&&"
	var chain []ast.Node
	var operand ast.Node = n
	for {
		b, ok := operand.(*ast.BinaryNode)
		if !ok || (b.Operator == "and" || b.Operator == "&&") != isAnd || !isAnd && b.Operator != "or" && b.Operator != "||" {
			chain = append(chain, operand)
			break
		}
		chain = append(chain, b.Right)
		operand = b.Left
	}
	neutral, decisive := constant(False), constant(True)
	if isAnd {
		neutral, decisive = decisive, neutral
	}
	var operands []condition
	ok, decided := true, false
	for i := len(chain) - 1; i >= 0; i-- {
		switch operand := c.condition(chain[i]); operand {
		case nil:
			ok = false
		case neutral:
		case decisive:
			decided = true
		default:
			operands = append(operands, operand)
		}
	}
	switch {
	case !ok:
		return value{}, false
	case decided:
		return conditionValue(decisive), true
	case len(operands) == 0:
		return conditionValue(neutral), true
	case len(operands) == 1:
		return conditionValue(operands[0]), true
	case isAnd:
		return conditionValue(and(operands)), true
	default:
		return conditionValue(or(operands)), true
	}
}

func (c *compiler) equality(n *ast.BinaryNode, left, right value) (value, bool) {
	equal := c.equal(n, left, right)
	if equal == nil {
		return value{}, false
	}
	if fixed, ok := equal.(constant); ok && n.Operator == "!=" {
		return conditionValue(constant(Truth(fixed).not())), true
	}
	if n.Operator == "!=" {
		return conditionValue(not{equal}), true
	}
	return conditionValue(equal), true
}

func (c *compiler) equal(n *ast.BinaryNode, left, right value) condition {
	rightNode := n.Right
	if left.fixed {
		left, right, rightNode = right, left, n.Left
	}
	switch {
	case left.kind == Address && right.kind == Text && right.fixed:
		wanted, ok := c.addressLiteral(rightNode)
		if !ok {
			return nil
		}
		return single[address]{left.address, func(a address) bool { return a == wanted }}
	case left.kind != right.kind:
		c.failAt(n, "%s is %s and cannot be compared with %s, %s", left.what, left.kind.phrase(), right.what, right.kind.phrase())
		return nil
	}
	switch left.kind {
	case Bool:
		return equalConditions(left.condition, right.condition)
	case Number:
		return compareNumbers(left, right, func(a, b float64) bool { return a == b })
	case Text:
		if right.fixed {
			return c.equalText(left, right, rightNode)
		}
		return pair[string, string]{left.text, right.text, func(a, b string) bool { return a == b }}
	case Address:
		return pair[address, address]{left.address, right.address, func(a, b address) bool { return a == b }}
	default:
		c.failAt(n, "lists cannot be compared; use in: \"x\" in %s", left.what)
		return nil
	}
}

func (c *compiler) equalText(left, right value, literal ast.Node) condition {
	wanted := string(right.text.(text))
	if !c.possibleValue(left, wanted, literal) {
		return nil
	}
	if left.fixed {
		return constant(truth(string(left.text.(text)) == wanted))
	}
	if folded, ok := left.text.(lowered); ok {
		return single[string]{folded.operand, func(s string) bool { return equalFold(s, wanted) }}
	}
	return single[string]{left.text, func(s string) bool { return s == wanted }}
}

// equalConditions spares the common `flag == true` a comparison.
func equalConditions(left, right condition) condition {
	if _, ok := left.(constant); ok {
		left, right = right, left
	}
	fixed, ok := right.(constant)
	switch first, both := left.(constant); {
	case ok && both:
		return constant(truth(first == fixed))
	case ok && fixed == constant(True):
		return left
	case ok:
		return not{left}
	default:
		return same{left, right}
	}
}

// possibleValue checks a literal against the closed set of values of a fact, and against lower().
func (c *compiler) possibleValue(v value, literal string, at ast.Node) bool {
	if v.fact != nil && len(v.fact.Values) > 0 && !contains(v.fact.Values, literal) {
		c.failAt(at, "%s is never %s%s (it is one of: %s)", v.what, quote(literal), suggest(literal, v.fact.Values), strings.Join(v.fact.Values, " "))
		return false
	}
	if _, ok := v.text.(lowered); ok && hasUpper(literal) {
		c.failAt(at, "lower() has no upper-case letters, %s can never be equal", quote(literal))
		return false
	}
	return true
}

func contains(list []string, entry string) bool {
	for i := range list {
		if list[i] == entry {
			return true
		}
	}
	return false
}

func (c *compiler) ordering(n *ast.BinaryNode, left, right value) (value, bool) {
	if !c.bothNumbers(n, left, right) {
		return value{}, false
	}
	var test func(a, b float64) bool
	switch n.Operator {
	case "<":
		test = func(a, b float64) bool { return a < b }
	case "<=":
		test = func(a, b float64) bool { return a <= b }
	case ">":
		test = func(a, b float64) bool { return a > b }
	default:
		test = func(a, b float64) bool { return a >= b }
	}
	return conditionValue(compareNumbers(left, right, test)), true
}

func (c *compiler) bothNumbers(n *ast.BinaryNode, left, right value) bool {
	ok := true
	for _, side := range []struct {
		value
		node ast.Node
	}{{left, n.Left}, {right, n.Right}} {
		if side.kind != Number {
			c.failAt(start(side.node), "%s is %s; %s needs numbers", side.what, side.kind.phrase(), n.Operator)
			ok = false
		}
	}
	return ok
}

func compareNumbers(left, right value, test func(a, b float64) bool) condition {
	leftLiteral, leftFixed := left.number.(number)
	rightLiteral, rightFixed := right.number.(number)
	switch {
	case leftFixed && rightFixed:
		return constant(truth(test(float64(leftLiteral), float64(rightLiteral))))
	case rightFixed:
		return single[float64]{left.number, func(a float64) bool { return test(a, float64(rightLiteral)) }}
	default:
		return pair[float64, float64]{left.number, right.number, test}
	}
}

// arithmetic is asked with a unary minus, too: as zero minus the number.
func (c *compiler) arithmetic(n ast.Node, left, right value, apply func(a, b float64) float64) (value, bool) {
	if b, ok := n.(*ast.BinaryNode); ok && !c.bothNumbers(b, left, right) {
		return value{}, false
	}
	if left.fixed && right.fixed {
		result := apply(float64(left.number.(number)), float64(right.number.(number)))
		if math.IsNaN(result) || math.IsInf(result, 0) {
			c.failAt(n, "the result is no number")
			return value{}, false
		}
		return numberValue(result), true
	}
	return value{kind: Number, what: "this", number: arithmetic{left.number, right.number, apply}}, true
}

// part compiles contains, startsWith and endsWith.
func (c *compiler) part(n *ast.BinaryNode, left, right value) (value, bool) {
	if left.kind == List && n.Operator == "contains" {
		c.failAt(n, "contains looks into a text; for a list write: \"x\" in %s", left.what)
		return value{}, false
	}
	if !c.texts(n, left, right) {
		return value{}, false
	}
	test, folded := strings.Contains, containsFold
	switch n.Operator {
	case "startsWith":
		test, folded = strings.HasPrefix, prefixFold
	case "endsWith":
		test, folded = strings.HasSuffix, suffixFold
	}
	if !right.fixed {
		return conditionValue(pair[string, string]{left.text, right.text, test}), true
	}
	literal := string(right.text.(text))
	if literal == "" {
		c.failAt(n.Right, "every text %s the empty text", n.Operator)
		return value{}, false
	}
	if x, ok := left.text.(lowered); ok {
		if !c.possibleValue(left, literal, n.Right) {
			return value{}, false
		}
		return conditionValue(single[string]{x.operand, func(s string) bool { return folded(s, literal) }}), true
	}
	return conditionValue(single[string]{left.text, func(s string) bool { return test(s, literal) }}), true
}

func (c *compiler) texts(n *ast.BinaryNode, left, right value) bool {
	ok := true
	if left.kind != Text {
		c.failAt(start(n.Left), "%s is %s; %s needs a text", left.what, left.kind.phrase(), n.Operator)
		ok = false
	} else if left.fixed {
		c.failAt(n.Left, "the left side of %s must be a fact", n.Operator)
		ok = false
	}
	if right.kind != Text {
		c.failAt(start(n.Right), "%s is %s; %s needs a text", right.what, right.kind.phrase(), n.Operator)
		ok = false
	}
	return ok
}

func (c *compiler) matches(n *ast.BinaryNode, left, right value) (value, bool) {
	if !c.texts(n, left, right) {
		return value{}, false
	}
	if !right.fixed {
		c.failAt(start(n.Right), "the regular expression must be written out, in quotes")
		return value{}, false
	}
	pattern := string(right.text.(text))
	if len(pattern) > maxRegexp {
		c.failAt(n.Right, "the regular expression is longer than %d bytes", maxRegexp)
		return value{}, false
	}
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		c.failAt(n.Right, "bad regular expression: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		return value{}, false
	}
	if program, err := syntax.Compile(tree.Simplify()); err != nil || len(program.Inst) > maxProgram {
		c.failAt(n.Right, "the regular expression is too large: lower its {repetitions}")
		return value{}, false
	}
	compiled, err := regexp.Compile(pattern)
	if err != nil {
		c.failAt(n.Right, "bad regular expression: %v", err)
		return value{}, false
	}
	return conditionValue(single[string]{left.text, compiled.MatchString}), true
}
