package rules

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/builtin"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
)

// Bounds of one expression.
const (
	maxExpression = 4096 // bytes
	maxNodes      = 1000 // not counting the entries of lists
	maxEntries    = 1000 // of one list, or arguments of one function
	maxDepth      = 100
	maxRegexp     = 1000  // bytes
	maxProgram    = 10000 // instructions that a regular expression compiles to; time is input × program
)

// newParserConfig makes lower, len and the like ordinary calls: the functions here are ours. The parser only reads it,
// so that all rules of one compilation share it.
func newParserConfig() *conf.Config {
	c := conf.CreateNew()
	c.MaxNodes = maxExpression
	for _, name := range builtin.Names {
		c.Disabled[name] = true
	}
	return c
}

// parse makes a tree of the text, or says at which byte offset it is no expression.
func parse(text string, config *conf.Config) (tree ast.Node, offset int, err error) {
	switch {
	case strings.TrimSpace(text) == "":
		return nil, 0, errors.New("the expression is empty")
	case len(text) > maxExpression:
		return nil, maxExpression, fmt.Errorf("the expression is longer than %d bytes; use several rules, or in_list with a file", maxExpression)
	}
	for i, r := range text {
		if r == utf8.RuneError || r < ' ' && !strings.ContainsRune("\t\r\n", r) || r == 0x7f {
			return nil, i, fmt.Errorf("the character %U does not belong here", r)
		}
	}
	// A panic in foreign code must not take a running proxy along that is only asked to reload.
	defer func() {
		if p := recover(); p != nil {
			tree, offset, err = nil, 0, fmt.Errorf("the parser gave up on this expression: %v", p)
		}
	}()
	parsed, err := parser.ParseWithConfig(text, config)
	if err == nil {
		return parsed.Node, 0, nil
	}
	var mistake *file.Error
	if !errors.As(err, &mistake) {
		return nil, 0, err
	}
	return nil, byteOffset(text, mistake.From), errors.New(plainMessage(mistake.Message))
}

var token = regexp.MustCompile(`(?:Operator|Bracket|Identifier|Number|String|Bytes)\(("(?:[^"\\]|\\.)*")\)`)

// plainMessage turns the parser's words into those of people who write rules.
func plainMessage(message string) string {
	message = token.ReplaceAllString(message, "$1")
	switch {
	case message == `unexpected token "="`:
		return `unexpected "=": compare with ==`
	case strings.HasPrefix(message, "unexpected token EOF"), message == "unexpected end of expression":
		return "the expression ends too early"
	case strings.Contains(message, "coalesce"):
		return "there is no operator ?? here"
	case strings.HasPrefix(message, "unexpected token "):
		return "unexpected " + strings.TrimPrefix(message, "unexpected token ")
	default:
		return message
	}
}

// byteOffset converts the parser's positions, which count characters.
func byteOffset(text string, characters int) int {
	for i := range text {
		if characters == 0 {
			return i
		}
		characters--
	}
	return len(text)
}
