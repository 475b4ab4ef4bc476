package rules

import (
	"net/netip"
	"slices"

	"github.com/expr-lang/expr/ast"
)

// in compiles `x in [literals]` and `x in list`. A list on the left side asks whether any of its entries is in.
func (c *compiler) in(n *ast.BinaryNode) (value, bool) {
	left, ok := c.value(n.Left)
	if array, isArray := n.Right.(*ast.ArrayNode); isArray {
		if !c.boundedList(array, array.Nodes) || !ok {
			return value{}, false
		}
		return c.inLiterals(n, left, array)
	}
	right, rightOK := c.value(n.Right)
	if !ok || !rightOK {
		return value{}, false
	}
	if right.kind != List {
		if right.kind == Text {
			c.failAt(n, "%s is a text and not a list; for a part of it write: %s contains …", right.what, right.what)
		} else {
			c.failAt(n, "%s is %s and not a list", right.what, right.kind.phrase())
		}
		return value{}, false
	}
	switch {
	case left.kind == Text && left.fixed:
		wanted := string(left.text.(text))
		if !c.possibleValue(right, wanted, n.Left) {
			return value{}, false
		}
		return conditionValue(single[[]string]{right.list, func(list []string) bool { return contains(list, wanted) }}), true
	case left.kind == Text:
		return conditionValue(pair[string, []string]{left.text, right.list, func(s string, list []string) bool { return contains(list, s) }}), true
	case left.kind == List:
		return conditionValue(pair[[]string, []string]{left.list, right.list, func(a, b []string) bool {
			return slices.ContainsFunc(a, func(entry string) bool { return contains(b, entry) })
		}}), true
	}
	c.failAt(start(n.Left), "%s is %s; a list holds texts", left.what, left.kind.phrase())
	return value{}, false
}

func (c *compiler) boundedList(at ast.Node, nodes []ast.Node) bool {
	switch {
	case len(nodes) == 0:
		c.failAt(at, "the list is empty")
		return false
	case len(nodes) > maxEntries:
		c.failAt(at, "the list has more than %d entries; put them into a file for in_list", maxEntries)
		return false
	}
	return true
}

func (c *compiler) inLiterals(n *ast.BinaryNode, left value, array *ast.ArrayNode) (value, bool) {
	if left.fixed {
		c.failAt(n.Left, "the left side of in must be a fact")
		return value{}, false
	}
	switch left.kind {
	case Text, List:
		wanted, ok := c.textLiterals(left, array)
		if !ok {
			return value{}, false
		}
		if left.kind == List {
			return conditionValue(single[[]string]{left.list, func(list []string) bool { return slices.ContainsFunc(list, wanted.has) }}), true
		}
		if x, ok := left.text.(lowered); ok {
			return conditionValue(single[string]{x.operand, wanted.hasFold}), true
		}
		return conditionValue(single[string]{left.text, wanted.has}), true
	case Number:
		wanted, ok := c.numberLiterals(left, array)
		return conditionValue(single[float64]{left.number, func(a float64) bool { return slices.Contains(wanted, a) }}), ok
	case Address:
		wanted, ok := c.addressLiterals(array)
		return conditionValue(single[address]{left.address, func(a address) bool { return slices.Contains(wanted, a) }}), ok
	}
	c.failAt(start(n.Left), "%s is %s; in needs a text, a number, an address or a list", left.what, left.kind.phrase())
	return value{}, false
}

func (c *compiler) textLiterals(left value, array *ast.ArrayNode) (*textSet, bool) {
	var texts []string
	ok := true
	for _, n := range array.Nodes {
		literal, isText := n.(*ast.StringNode)
		switch {
		case !isText:
			c.failAt(start(n), "%s is compared with texts; write them in quotes", left.what)
			ok = false
		case !c.possibleValue(left, literal.Value, n):
			ok = false
		default:
			texts = append(texts, literal.Value)
		}
	}
	return newTextSet(texts), ok
}

func (c *compiler) numberLiterals(left value, array *ast.ArrayNode) (numbers []float64, ok bool) {
	ok = true
	for _, n := range array.Nodes {
		sign, literal := 1.0, n
		if minus, isUnary := n.(*ast.UnaryNode); isUnary && minus.Operator == "-" {
			sign, literal = -1, minus.Node
		}
		switch literal := literal.(type) {
		case *ast.IntegerNode:
			numbers = append(numbers, sign*float64(literal.Value))
		case *ast.FloatNode:
			numbers = append(numbers, sign*literal.Value)
		default:
			c.failAt(start(n), "%s is a number and can only be in a list of numbers", left.what)
			ok = false
		}
	}
	return numbers, ok
}

func (c *compiler) addressLiterals(array *ast.ArrayNode) (addresses []address, ok bool) {
	ok = true
	for _, n := range array.Nodes {
		a, good := c.addressLiteral(n)
		addresses = append(addresses, a)
		ok = ok && good
	}
	return addresses, ok
}

func (c *compiler) addressLiteral(n ast.Node) (address, bool) {
	literal, ok := n.(*ast.StringNode)
	if !ok {
		c.failAt(start(n), "an IP address in quotes belongs here")
		return address{}, false
	}
	a, err := netip.ParseAddr(literal.Value)
	if err != nil || a.Zone() != "" {
		hint := ""
		if _, err := netip.ParsePrefix(literal.Value); err == nil {
			hint = ": for a network write in_network(address, …)"
		}
		c.failAt(n, "%s is not an IP address%s", quote(literal.Value), hint)
		return address{}, false
	}
	return a.Unmap(), true
}

// textSet holds the literals of a list: few are compared one by one, many are looked up.
type textSet struct {
	few  []string
	many map[string]struct{}
	// longest bounds what hasFold must fold.
	longest int
}

const fewTexts = 8

func newTextSet(texts []string) *textSet {
	s := &textSet{}
	for _, t := range texts {
		s.longest = max(s.longest, len(t))
	}
	if len(texts) <= fewTexts {
		s.few = texts
		return s
	}
	s.many = make(map[string]struct{}, len(texts))
	for _, t := range texts {
		s.many[t] = struct{}{}
	}
	return s
}

func (s *textSet) has(t string) bool {
	if s.many == nil {
		return contains(s.few, t)
	}
	_, ok := s.many[t]
	return ok
}

// hasFold asks for lower(t) without making it.
func (s *textSet) hasFold(t string) bool {
	if s.many == nil {
		return slices.ContainsFunc(s.few, func(entry string) bool { return equalFold(t, entry) })
	}
	if len(t) > s.longest {
		return false
	}
	var buffer [maxName]byte
	_, ok := s.many[string(appendLower(buffer[:0], t))]
	return ok
}
