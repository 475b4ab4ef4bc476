package config

import (
	"bufio"
	"encoding"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"gatepost/policy"
	"gatepost/rules"
)

// Comments are the manual's words on a struct's fields, by "import/path.Type.Field".
type Comments map[string]string

// Of returns the comment of a field.
func (c Comments) Of(t reflect.Type, f reflect.StructField) string {
	return c[t.PkgPath()+"."+t.Name()+"."+f.Name]
}

// Write prints the configuration in force as a file that could be loaded again, but for secrets, which are asterisks.
func (c *Config) Write(w io.Writer, comments Comments) error {
	p := &printer{w: bufio.NewWriter(w), comments: comments}
	p.fields(reflect.ValueOf(c).Elem(), 0)
	p.filters(c.Filters)
	p.rules(c.Rules)
	return p.w.Flush()
}

// printer writes YAML. Errors of the writer show at Flush.
type printer struct {
	w        *bufio.Writer
	comments Comments
}

func (p *printer) line(indent int, format string, args ...any) {
	p.w.WriteString(strings.Repeat("  ", indent))
	fmt.Fprintf(p.w, format, args...)
	p.w.WriteByte('\n')
}

func (p *printer) comment(indent int, text string) {
	for _, line := range wrap(text, 100-2*indent) {
		p.line(indent, "# %s", line)
	}
}

func (p *printer) fields(v reflect.Value, indent int) {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous && f.Type.Kind() == reflect.Struct {
			p.fields(v.Field(i), indent)
			continue
		}
		key := keyOf(f)
		if key == "" || !f.IsExported() {
			continue
		}
		p.comment(indent, p.comments.Of(t, f))
		p.value(key, v.Field(i), indent)
		if indent == 0 {
			p.w.WriteByte('\n')
		}
	}
}

func (p *printer) value(key string, v reflect.Value, indent int) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			p.line(indent, "# %s:", key)
			return
		}
		v = v.Elem()
	}
	if text, ok := inline(v); ok {
		p.line(indent, "%s: %s", key, text)
		return
	}
	p.line(indent, "%s:", key)
	switch v.Kind() {
	case reflect.Struct:
		p.fields(v, indent+1)
	case reflect.Slice:
		for i := range v.Len() {
			p.line(indent+1, "-")
			p.fields(v.Index(i), indent+2)
		}
	case reflect.Map:
		for _, k := range sortedKeys(v) {
			p.value(quote(scalar(k)), v.MapIndex(k), indent+1)
		}
	}
}

// inline writes what fits behind a key: scalars, lists and maps of scalars.
func inline(v reflect.Value) (string, bool) {
	if isScalar(v.Type()) {
		return quote(scalar(v)), true
	}
	switch v.Kind() {
	case reflect.Slice:
		if v.Len() > 0 && !isScalar(v.Type().Elem()) {
			return "", false
		}
		items := make([]string, v.Len())
		for i := range items {
			items[i] = quote(scalar(v.Index(i)))
		}
		return "[" + strings.Join(items, ", ") + "]", true
	case reflect.Map:
		if v.Len() > 0 && !isScalar(v.Type().Elem()) {
			return "", false
		}
		items := make([]string, 0, v.Len())
		for _, k := range sortedKeys(v) {
			items = append(items, quote(scalar(k))+": "+quote(scalar(v.MapIndex(k))))
		}
		return "{" + strings.Join(items, ", ") + "}", true
	}
	return "", false
}

func sortedKeys(v reflect.Value) []reflect.Value {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(scalar(a), scalar(b)) })
	return keys
}

var textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()

func isScalar(t reflect.Type) bool {
	if t == sourceType || t.Implements(textMarshaler) || reflect.PointerTo(t).Implements(textMarshaler) {
		return true
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Map, reflect.Slice, reflect.Pointer, reflect.Interface:
		return false
	}
	return true
}

func scalar(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case rules.Source:
		return x.Text
	case encoding.TextMarshaler:
		text, err := x.MarshalText()
		if err != nil {
			return ""
		}
		return string(text)
	case float64:
		return strconv.FormatFloat(x, 'f', -1, 64)
	}
	return fmt.Sprint(v.Interface())
}

// plain is what YAML reads back as itself without quotes, inside of flow collections too.
var plain = regexp.MustCompile(`^(-[0-9]+(\.[0-9]+)?|[A-Za-z0-9_./+][A-Za-z0-9_./+@=-]*)$`)

func quote(s string) string {
	if plain.MatchString(s) && !strings.EqualFold(s, "null") {
		return s
	}
	return strconv.Quote(s)
}

// quoteExpression prefers the quotes of YAML that leave those of an expression as they are.
func quoteExpression(s string) string {
	if strings.Contains(s, `"`) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	}
	return quote(s)
}

func (p *printer) filters(all map[string]policy.FilterConfig) {
	p.line(0, "filters:")
	instances := map[string][]policy.FilterConfig{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		c := all[name]
		if several, _, found := strings.Cut(name, "."); found {
			instances[several] = append(instances[several], c)
			continue
		}
		p.line(1, "%s:", name)
		p.filter(c, 2)
	}
	for _, name := range slices.Sorted(maps.Keys(instances)) {
		p.line(1, "%s:", name)
		list := instances[name]
		slices.SortFunc(list, func(a, b policy.FilterConfig) int { return a.Place - b.Place })
		for _, c := range list {
			p.line(2, "-")
			p.filter(c, 3)
		}
	}
}

func (p *printer) filter(c policy.FilterConfig, indent int) {
	p.fields(reflect.ValueOf(c.Common), indent)
	p.fields(reflect.ValueOf(c.Settings).Elem(), indent)
	p.w.WriteByte('\n')
}

func (p *printer) rules(all []rules.Definition) {
	p.comment(0, "Rules in the order of the file. The first terminal action wins.")
	if len(all) == 0 {
		p.line(0, "rules: []")
		return
	}
	p.line(0, "rules:")
	for _, r := range all {
		lead := "- "
		for _, key := range []struct {
			name   string
			source rules.Source
		}{{"name", r.Name}, {"when", r.When}, {"then", r.Then}, {"at", r.At}, {"reply", r.Reply}, {"header", r.Header},
			{"points", r.Points}, {"delay", r.Delay}, {"mode", r.Mode}, {"on_error", r.OnError}} {
			if key.source.Text != "" {
				p.line(1, "%s%s: %s", lead, key.name, quoteExpression(strings.TrimRight(key.source.Text, "\n")))
				lead = "  "
			}
		}
	}
}

// wrap breaks a comment into lines.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
