package admin

import (
	"encoding"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
)

// object is one of JSON.
type object = map[string]any

// openAPI describes operations (OpenAPI 3.1).
func openAPI(operations []Operation) object {
	types := schemas{defined: object{}}
	paths := object{}
	for _, o := range operations {
		methods, _ := paths[o.Path].(object)
		if methods == nil {
			methods = object{}
			paths[o.Path] = methods
		}
		methods[strings.ToLower(o.Method)] = types.operation(o)
	}
	return object{
		"openapi": "3.1.0",
		"info": object{"title": "Gatepost", "version": "1", "description": "What the admin pages show and do. Keys are added in later releases, " +
			"and none changes its meaning. Send the password, if there is one, as that of any user (HTTP Basic authentication)."},
		"paths": paths,
		"components": object{
			"schemas":         types.defined,
			"securitySchemes": object{"password": object{"type": "http", "scheme": "basic"}},
		},
		"security": []object{{"password": []string{}}, {}},
	}
}

var inPath = regexp.MustCompile(`\{(\w+)\}`)

func (s *schemas) operation(o Operation) object {
	var parameters []object
	for _, name := range inPath.FindAllStringSubmatch(o.Path, -1) {
		parameters = append(parameters, object{"name": name[1], "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, p := range o.Query {
		parameters = append(parameters, object{"name": p.Name, "in": "query", "description": p.Summary, "required": p.Required, "schema": object{"type": "string"}})
	}
	out := object{"summary": o.Summary, "operationId": operationID(o), "responses": object{
		"200":     object{"description": "It is done.", "content": content("application/json", s.of(reflect.TypeOf(o.Answer)))},
		"default": object{"description": "It did not work, and why.", "content": content("application/json", s.of(reflect.TypeFor[apiError]()))},
	}}
	if parameters != nil {
		out["parameters"] = parameters
	}
	switch o.Body.(type) {
	case nil:
	case Text:
		out["requestBody"] = object{"required": true, "content": content("application/yaml", object{"type": "string"})}
	default:
		out["requestBody"] = object{"required": true, "content": content("application/json", s.of(reflect.TypeOf(o.Body)))}
	}
	return out
}

func content(kind string, schema object) object { return object{kind: object{"schema": schema}} }

// operationID is the name of an operation in programs: getJournalId.
func operationID(o Operation) string {
	id := strings.ToLower(o.Method)
	for _, part := range strings.FieldsFunc(strings.TrimPrefix(o.Path, "/api"), func(r rune) bool { return r == '/' || r == '{' || r == '}' }) {
		id += strings.ToUpper(part[:1]) + part[1:]
	}
	return id
}

// schemas are the types that the document names.
type schemas struct{ defined object }

var (
	timeType  = reflect.TypeFor[time.Time]()
	tallyType = reflect.TypeFor[Tally]()
	textType  = reflect.TypeFor[encoding.TextMarshaler]()
)

// of describes how encoding/json writes a type.
func (s *schemas) of(t reflect.Type) object {
	switch {
	case t == timeType:
		return object{"type": "string", "format": "date-time"}
	case t == tallyType:
		return object{"type": "object", "additionalProperties": object{"type": "integer"}}
	case t.Implements(textType):
		return object{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.Slice:
		return object{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.Interface:
		return object{} // anything
	case reflect.Struct:
		return s.named(t)
	}
	return object{"type": "integer"}
}

// named describes a struct once, and refers to it.
func (s *schemas) named(t reflect.Type) object {
	name := schemaName(t)
	if _, known := s.defined[name]; !known {
		s.defined[name] = nil // it may contain itself
		properties := object{}
		required := []string{}
		s.fields(t, properties, &required)
		slices.Sort(required)
		s.defined[name] = object{"type": "object", "properties": properties, "required": required}
	}
	return object{"$ref": "#/components/schemas/" + name}
}

// schemaName is a type's name, with that of its package where it is not one of ours: greylist and exceptions both have
// an Entry.
func schemaName(t reflect.Type) string {
	name := strings.ToUpper(t.Name()[:1]) + t.Name()[1:]
	if pkg := path.Base(t.PkgPath()); t.PkgPath() != ourPath {
		name = strings.ToUpper(pkg[:1]) + pkg[1:] + name
	}
	return name
}

var ourPath = reflect.TypeFor[Operation]().PkgPath()

func (s *schemas) fields(t reflect.Type, properties object, required *[]string) {
	for f := range fieldsOf(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		properties[name] = s.of(f.Type)
		if !strings.Contains(options, "omit") {
			*required = append(*required, name)
		}
	}
}

// fieldsOf are the fields that encoding/json writes, those of embedded structs among them.
func fieldsOf(t reflect.Type) func(yield func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for _, f := range reflect.VisibleFields(t) {
			if tag := f.Tag.Get("json"); f.IsExported() && !f.Anonymous && tag != "" && tag != "-" && !yield(f) {
				return
			}
		}
	}
}

func fieldNames(t reflect.Type) (names []string) {
	for f := range fieldsOf(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

// Keys are those of a value as JSON.
func Keys(value any) []string { return fieldNames(reflect.TypeOf(value)) }
