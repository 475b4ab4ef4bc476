package config

import (
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"

	"gatepost/rules"
)

// source is a scalar's text with the way back from a byte of it to its place in the file, whichever of YAML's five
// styles it is written in.
func (d *document) source(n ast.Node) (rules.Source, bool) {
	text, ok := scalarText(n)
	if !ok {
		return rules.Source{}, false
	}
	at := d.start(n)
	return rules.Source{Text: text, At: func(offset int) rules.Pos { return d.within(at, text, offset) }}, true
}

// scalarText is the text of a scalar as the file's author meant it: numbers and booleans as they are spelled.
func scalarText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// start is where a value's first character stands. A block mapping's own token is its first colon.
func (d *document) start(n ast.Node) rules.Pos {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return d.pos(n.Values[0].Key.GetToken())
		}
	case *ast.LiteralNode:
		return d.pos(n.Start)
	}
	return d.pos(n.GetToken())
}

// within walks the file and the text side by side from the scalar's start, until offset bytes of the text are behind.
func (d *document) within(at rules.Pos, text string, offset int) rules.Pos {
	if at.Line < 1 || at.Line > len(d.lines) {
		return at
	}
	c := cursor{lines: d.lines, line: at.Line - 1, runes: []rune(d.lines[at.Line-1]), column: at.Column - 1}
	c.open()
	offset = min(offset, len(text))
	for i, r := range text {
		if i >= offset {
			break
		}
		c.pass(r)
	}
	c.settle(text, offset)
	return rules.Pos{File: d.file, Line: c.line + 1, Column: c.column + 1}
}

// cursor is a place in the file.
type cursor struct {
	lines  []string
	line   int
	runes  []rune // of the line
	column int    // in runes
	style  rune   // ' " | > or 0 for a plain scalar
}

// open steps over what introduces the scalar.
func (c *cursor) open() {
	switch c.peek() {
	case '"', '\'':
		c.style = c.peek()
		c.column++
	case '|', '>':
		c.style = c.peek()
		c.nextLine()
		c.skipIndent()
	}
}

func (c *cursor) peek() rune {
	if c.column < len(c.runes) {
		return c.runes[c.column]
	}
	return '\n'
}

func (c *cursor) nextLine() {
	if c.line+1 >= len(c.lines) {
		c.column = len(c.runes)
		return
	}
	c.line++
	c.runes, c.column = []rune(c.lines[c.line]), 0
}

func (c *cursor) skipIndent() {
	for c.column < len(c.runes) && c.runes[c.column] == ' ' {
		c.column++
	}
}

// pass steps over the characters of the file that stand for r.
func (c *cursor) pass(r rune) {
	switch {
	case c.style == '"' && c.peek() == '\\':
		c.column += escapeLength(c.runes[c.column:])
	case c.style == '\'' && r == '\'':
		c.column += 2
	case r == '\n' || r == ' ' && c.column >= len(strings.TrimRight(string(c.runes), " ")):
		// A folded line end: a run of line ends and indentation stands for one character.
		c.nextLine()
		for c.column >= len(c.runes) && c.line+1 < len(c.lines) && c.style != '|' {
			c.nextLine()
		}
		c.skipIndent()
	default:
		c.column++
	}
}

// settle moves from the end of a line to where the next character really stands.
func (c *cursor) settle(text string, offset int) {
	if offset >= len(text) {
		return
	}
	if r, _ := utf8.DecodeRuneInString(text[offset:]); r != ' ' && r != '\n' && c.column >= len(c.runes) {
		c.nextLine()
		c.skipIndent()
	}
}

// escapeLength is how many characters of the file a double-quoted escape takes (YAML 1.2, 5.7).
func escapeLength(at []rune) int {
	n := 2
	if len(at) > 1 {
		switch at[1] {
		case 'x':
			n = 4
		case 'u':
			n = 6
		case 'U':
			n = 10
		}
	}
	return min(n, len(at))
}
