package rules

import (
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"sync"
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

// parsed is the tree of an expression, or says at which byte offset it is none.
type parsed struct {
	tree   ast.Node
	offset int
	err    error
}

// parseConditions parses the conditions of all rules, on all processors: of the time that many rules take to compile it
// is the larger half.
func parseConditions(definitions []Definition) []parsed {
	config := newParserConfig()
	all := make([]parsed, len(definitions))
	each := max(1, (len(all)+runtime.GOMAXPROCS(0)-1)/runtime.GOMAXPROCS(0))
	var running sync.WaitGroup
	for start := 0; start < len(all); start += each {
		running.Go(func() {
			for i := start; i < min(start+each, len(all)); i++ {
				all[i] = parse(definitions[i].When.Text, config)
			}
		})
	}
	running.Wait()
	return all
}

// parse makes a tree of the text.
func parse(text string, config *conf.Config) (p parsed) {
	switch {
	case strings.TrimSpace(text) == "":
		return parsed{err: errors.New("the expression is empty")}
	case len(text) > maxExpression:
		return parsed{nil, maxExpression, fmt.Errorf("the expression is longer than %d bytes; use several rules, or in_list with a file", maxExpression)}
	}
	for i, r := range text {
		if r == utf8.RuneError || r < ' ' && !strings.ContainsRune("\t\r\n", r) || r == 0x7f {
			return parsed{nil, i, fmt.Errorf("the character %U does not belong here", r)}
		}
	}
	// A panic in foreign code must not take a running proxy along that is only asked to reload.
	defer func() {
		if v := recover(); v != nil {
			p = parsed{err: fmt.Errorf("the parser gave up on this expression: %v", v)}
		}
	}()
	result, err := parser.ParseWithConfig(text, config)
	if err == nil {
		return parsed{tree: result.Node}
	}
	var mistake *file.Error
	if !errors.As(err, &mistake) {
		return parsed{err: err}
	}
	return parsed{nil, byteOffset(text, mistake.From), errors.New(plainMessage(mistake.Message))}
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
