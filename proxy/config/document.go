package config

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"gatepost/filters"
	"gatepost/rules"
)

// maxFile bounds a configuration file. List files have their own bound.
const maxFile = 8 << 20

// document is one parsed YAML file with what has been found wrong in it. All mistakes are collected, so that an
// operator sees them at once.
type document struct {
	file          string
	lines         []string
	root          ast.Node // nil for an empty file
	problems      Problems
	places        map[string]rules.Pos // where the value of a key path stands
	brokenFilters map[string]bool      // whose configuration is wrong
	specs         []filters.Spec       // all there are
	secretFiles   []string             // that secrets were read from
	unknown       []string             // credentials that only the service has
	broken        []string             // key paths whose values could not be read; "" is the whole file
}

// parse reads YAML. A syntax error is the document's only problem, since nothing after it can be trusted.
func parse(file string, text []byte) *document {
	d := &document{
		file:          file,
		lines:         strings.Split(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n"),
		places:        map[string]rules.Pos{},
		brokenFilters: map[string]bool{},
	}
	if len(text) > maxFile {
		d.unreadable(rules.Pos{File: file}, "the file is larger than %d bytes", maxFile)
		return d
	}
	if !utf8.Valid(text) {
		d.unreadable(rules.Pos{File: file}, "the file is not UTF-8 text")
		return d
	}
	parsed, err := parser.ParseBytes(text, parser.ParseComments, parser.AllowDuplicateMapKey())
	if err != nil {
		d.syntaxProblem(err)
		return d
	}
	for _, doc := range parsed.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if d.root != nil {
			d.problem(d.start(doc.Body), "a second YAML document; a configuration is one document")
			return d
		}
		d.root = doc.Body
	}
	return d
}

func (d *document) syntaxProblem(err error) {
	var syntax *yaml.SyntaxError
	if errors.As(err, &syntax) {
		d.unreadable(d.pos(syntax.GetToken()), "%s", syntax.GetMessage())
		return
	}
	d.unreadable(rules.Pos{File: d.file}, "%v", err)
}

// unreadable reports why nothing of the file can be used.
func (d *document) unreadable(at rules.Pos, format string, args ...any) {
	d.problem(at, format, args...)
	d.broken = append(d.broken, "")
}

func (d *document) pos(t *token.Token) rules.Pos {
	if t == nil || t.Position == nil {
		return rules.Pos{File: d.file}
	}
	return rules.Pos{File: d.file, Line: t.Position.Line, Column: max(1, t.Position.Column)}
}

func (d *document) problem(at rules.Pos, format string, args ...any) {
	d.add(rules.Problem{Pos: at, Message: fmt.Sprintf(format, args...)})
}

func (d *document) add(p rules.Problem) {
	found := Problem{Problem: p}
	if p.Pos.File == d.file && p.Pos.Line >= 1 && p.Pos.Line <= len(d.lines) {
		found.excerpt = d.lines[p.Pos.Line-1]
	}
	d.problems = append(d.problems, found)
}

// Place is where the value of a key stands, such as listen[0].address, or the nearest that encloses it. The configuration was
// read from a file.
func (c *Config) Place(key string) rules.Pos { return c.doc.place(key) }

// place finds where the value of a key path stands, or the nearest enclosing one that is in the file.
func (d *document) place(path string) rules.Pos {
	for path != "" {
		if at, ok := d.places[path]; ok {
			return at
		}
		cut := strings.LastIndexAny(path, ".[")
		if cut < 0 {
			break
		}
		path = path[:cut]
	}
	return rules.Pos{File: d.file}
}
