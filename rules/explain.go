package rules

import (
	"slices"

	"github.com/expr-lang/expr/ast"
)

// Reason is a condition taken apart, with what became of each part.
type Reason struct {
	Text  string // as the language writes it
	Truth Truth
	// Op is "and", "or" or "not" for what joins Parts, and empty for a comparison.
	Op    string
	Parts []*Reason
	// Comparison, Left and Right are those of a comparison of a fact with something written out, such as "dnsbl.score",
	// ">=" and "4"; empty for others.
	Left, Comparison, Right string
	Facts                   []Reading // what a comparison reads
	Listed                  bool      // it asks a list file, which may have been another one when the condition was looked at first
	Opaque                  bool      // what a comparison came to cannot be told any more: it needs a list that cannot be read, or a fact that does not exist here
}

// Reading is a fact and its value: bool, float64, string, []string or netip.Addr, or nil where it was absent.
type Reading struct {
	Name  string
	Value any
}

// Explain takes apart a condition that was compiled once, perhaps by another release, over facts of s. Its problems are
// those of a text that is no condition at all; a part that cannot be compiled here is opaque. Lists that it names are read
// from lists as they are now; with nil such a part is opaque.
func Explain(s *Schema, condition string, f *Facts, lists Lists) (*Reason, []Problem) {
	p := new(problems)
	e := &explainer{schema: s, text: condition, facts: f, lists: newListCache(lists)}
	parsed := parse(condition, newParserConfig())
	if parsed.err != nil {
		p.fail(Source{Text: condition}.at(parsed.offset), "%v", parsed.err)
		return nil, p.all
	}
	return e.reason(parsed.tree), nil
}

type explainer struct {
	schema *Schema
	text   string
	facts  *Facts
	lists  *listCache
}

func (e *explainer) reason(n ast.Node) *Reason {
	r := &Reason{Text: n.String()}
	switch n := n.(type) {
	case *ast.BinaryNode:
		switch n.Operator {
		case "and", "&&", "or", "||":
			return e.joined(r, n)
		}
	case *ast.UnaryNode:
		if n.Operator == "not" || n.Operator == "!" {
			part := e.reason(n.Node)
			r.Op, r.Parts, r.Truth = "not", []*Reason{part}, part.Truth.not()
			return r
		}
	}
	e.leaf(r, n)
	return r
}

// joined makes one of a chain of the same operator.
func (e *explainer) joined(r *Reason, n *ast.BinaryNode) *Reason {
	isAnd := n.Operator == "and" || n.Operator == "&&"
	r.Op, r.Truth = "or", False
	if isAnd {
		r.Op, r.Truth = "and", True
	}
	for _, side := range []ast.Node{n.Left, n.Right} {
		part := e.reason(side)
		switch {
		case isAnd && (part.Truth == False || part.Truth == Unknown && r.Truth == True),
			!isAnd && (part.Truth == True || part.Truth == Unknown && r.Truth == False):
			r.Truth = part.Truth
		}
		if part.Op == r.Op {
			r.Parts = append(r.Parts, part.Parts...)
		} else {
			r.Parts = append(r.Parts, part)
		}
	}
	return r
}

func (e *explainer) leaf(r *Reason, n ast.Node) {
	names := &namesIn{schema: e.schema}
	ast.Walk(&n, names)
	r.Listed = names.lists
	for _, name := range names.found {
		var value any
		if name == "score" {
			value = e.facts.Score()
		} else if v, ok := e.facts.Lookup(name); ok {
			value = v
		}
		r.Facts = append(r.Facts, Reading{name, value})
	}
	if b, ok := n.(*ast.BinaryNode); ok && len(names.found) == 1 && isLiteral(b.Right) {
		r.Left, r.Comparison, r.Right = b.Left.String(), b.Operator, b.Right.String()
	}
	c := &compiler{problems: new(problems), schema: e.schema, lists: e.lists, source: Source{Text: e.text}}
	condition := c.condition(n)
	if condition == nil {
		r.Opaque = true
		return
	}
	r.Truth = condition.match(e.facts)
}

func isLiteral(n ast.Node) bool {
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode, *ast.StringNode, *ast.BoolNode, *ast.ArrayNode, *ast.ConstantNode:
		return true
	}
	return false
}

// namesIn collects the facts that an expression names, each once, and whether it asks a list.
type namesIn struct {
	schema *Schema
	found  []string
	lists  bool
}

// Visit implements ast.Visitor.
func (v *namesIn) Visit(n *ast.Node) {
	name := ""
	switch n := (*n).(type) {
	case *ast.MemberNode:
		group, isGroup := groupIn(n.Node)
		property, isText := n.Property.(*ast.StringNode)
		if isGroup && isText {
			if x := v.schema.byName[group+"."+property.Value]; x != nil {
				name = x.Name
			}
		}
	case *ast.IdentifierNode:
		if n.Value == "score" || v.schema.byName[n.Value] != nil {
			name = n.Value
		}
	case *ast.CallNode:
		callee, isName := n.Callee.(*ast.IdentifierNode)
		v.lists = v.lists || isName && callee.Value == "in_list"
		if isName && callee.Value == "header" && len(n.Arguments) == 1 {
			if field, ok := n.Arguments[0].(*ast.StringNode); ok {
				name = factOfHeader(field.Value)
			}
		}
	}
	if name != "" && !slices.Contains(v.found, name) {
		v.found = append(v.found, name)
	}
}

// Change is what would have to become of parts of a condition. Either Reason is set, with the truth that it would need,
// or Parts: all of them, or with Any one of them.
type Change struct {
	Reason *Reason
	Want   bool
	Any    bool
	Parts  []Change
}

// To says what would have to be different for the condition to be true or, with want false, not to be; everything else
// as it was. It is about parts that stand in the way only.
func (r *Reason) To(want bool) Change {
	switch r.Op {
	case "":
		return Change{Reason: r, Want: want}
	case "not":
		return r.Parts[0].To(!want)
	}
	c := Change{Any: (r.Op == "and") != want}
	for _, part := range r.Parts {
		if (part.Truth == True) != want {
			c.Parts = append(c.Parts, part.To(want))
		}
	}
	if len(c.Parts) == 1 {
		return c.Parts[0]
	}
	return c
}

// Leaves are the comparisons of a condition, in the order of its text.
func (r *Reason) Leaves() []*Reason {
	if r.Op == "" {
		return []*Reason{r}
	}
	var leaves []*Reason
	for _, part := range r.Parts {
		leaves = append(leaves, part.Leaves()...)
	}
	return leaves
}
