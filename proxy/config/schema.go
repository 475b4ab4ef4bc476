package config

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"gatepost/filters"
	"gatepost/policy"
)

// Schema is a JSON Schema (2020-12) of the configuration file, with which editors complete and check it. It comes from
// the same structs, tags and comments as the manual. invopop/jsonschema was looked at and left: it reads `json` tags and
// knows nothing of what makes our files: one value for a list of one, `backend: host:port` for a section, on and off,
// UnmarshalText, the filters' tables; every type would have needed a mapping of its own, which is this file.
//
// It refuses what the decoder refuses: unknown keys, and values of the wrong shape. What only Validate and the compiler
// can know it lets pass.
func Schema(specs []filters.Spec, comments Comments) ([]byte, error) {
	s := schemer{comments}
	defaults := Default(specs)
	defaults.Hostname = "" // the machine's own, which is another one everywhere
	top := s.object(reflect.ValueOf(defaults).Elem())
	properties := top["properties"].(node)
	every := node{}
	common := policy.Common{Enabled: true, Timeout: defaultTimeout, OnError: "pass"}
	for i := range specs {
		spec := &specs[i]
		filter := s.object(reflect.ValueOf(common), reflect.ValueOf(spec.NewConfig()).Elem())
		if spec.Several { // a list, `- name: …` for each
			filter = node{"type": "array", "items": filter}
		}
		filter["description"] = spec.Summary
		every[spec.Name] = orNull(filter)
	}
	properties["filters"] = orNull(node{"type": "object", "properties": every, "additionalProperties": false,
		"description": "Every filter's configuration by its name."})
	properties["rules"] = node{"type": []string{"array", "null"}, "items": s.object(reflect.ValueOf(ruleEntry{})),
		"description": "Rules in the order of the file. The first terminal action wins. Without this key those that come with Gatepost are in force."}
	top["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	top["title"] = "Gatepost"
	orNull(top) // a file of comments
	text, err := json.MarshalIndent(top, "", " ")
	return append(text, '\n'), err
}

// node is a schema. encoding/json writes its keys in order, so that it is the same each time.
type node map[string]any

type schemer struct{ comments Comments }

// object is a mapping with the keys of these structs, which hold the defaults.
func (s schemer) object(structs ...reflect.Value) node {
	properties := node{}
	for _, v := range structs {
		s.fields(properties, v)
	}
	return node{"type": "object", "properties": properties, "additionalProperties": false}
}

func (s schemer) fields(properties node, v reflect.Value) {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous && f.Type.Kind() == reflect.Struct {
			s.fields(properties, v.Field(i))
			continue
		}
		key := keyOf(f)
		if key == "" || !f.IsExported() {
			continue
		}
		n := s.value(v.Field(i), f.Tag.Get("values"))
		if text := s.comments.Of(t, f); text != "" {
			n["description"] = text
		}
		if text := defaultText(v.Field(i)); text != "" {
			n["default"] = text
		}
		properties[key] = n
	}
}

// defaultText shows the default where that is one word; not the machine's own name.
func defaultText(v reflect.Value) string {
	if v.Type() == sourceType || v.Type() == reflect.TypeFor[filters.Secret]() || v.Kind() == reflect.Pointer || !isScalar(v.Type()) || v.IsZero() {
		return ""
	}
	return scalar(v)
}

// value is what may stand behind a key; nothing at all means the default.
func (s schemer) value(v reflect.Value, values string) node {
	t := v.Type()
	if t.Kind() == reflect.Pointer {
		return s.value(reflect.Zero(t.Elem()), values)
	}
	switch {
	case values != "":
		return node{"enum": enumeration(values)}
	case isScalar(t):
		return orNull(scalarSchema(t))
	}
	switch t.Kind() {
	case reflect.Struct:
		n := s.object(v)
		if reflect.PointerTo(t).Implements(scalarUnmarshaler) {
			return orNull(node{"anyOf": []any{node{"type": "string"}, n}})
		}
		return orNull(n)
	case reflect.Slice:
		item := s.value(element(t), "")
		list := node{"type": "array", "items": item}
		if isScalar(t.Elem()) { // a lone value is a list of one
			return orNull(node{"anyOf": []any{scalarSchema(t.Elem()), list}})
		}
		return orNull(list)
	case reflect.Map:
		return orNull(node{"type": "object", "additionalProperties": s.value(reflect.Zero(t.Elem()), "")})
	}
	return node{}
}

// element is a new item of a list with its defaults.
func element(t reflect.Type) reflect.Value {
	v := reflect.New(t.Elem())
	if d, ok := v.Interface().(interface{ SetDefaults() }); ok {
		d.SetDefaults()
	}
	return v.Elem()
}

// enumeration is the words, what YAML 1.1 makes of on and off, and nothing.
func enumeration(values string) []any {
	list := []any{}
	for _, word := range strings.Fields(values) {
		list = append(list, word)
		switch word {
		case "on":
			list = append(list, true)
		case "off":
			list = append(list, false)
		}
	}
	return append(list, "", nil)
}

const (
	number   = `^[+-]?[0-9]+$`
	decimal  = `^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$`
	duration = `^([0-9]+d)?([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))*0?$`
	size     = `^ *[0-9]+ *([KMG]i)?B?$`
)

// scalarSchema: the decoder reads a value's text, whatever YAML takes it for. So 1.2 is a good text, and "25" a good number.
func scalarSchema(t reflect.Type) node {
	switch t {
	case reflect.TypeFor[netip.Prefix]():
		return node{"type": "string", "pattern": `^[0-9a-fA-F:.]+(/[0-9]+)?$`}
	case reflect.TypeFor[filters.Duration]():
		return node{"type": []string{"string", "integer"}, "pattern": duration}
	case reflect.TypeFor[filters.Size]():
		return node{"type": []string{"string", "integer"}, "pattern": size, "minimum": 0}
	}
	if p := reflect.PointerTo(t); t != sourceType && !p.Implements(textUnmarshaler) {
		switch t.Kind() {
		case reflect.Bool:
			return node{"enum": []any{true, false, "true", "false", "on", "off", "yes", "no"}}
		case reflect.Int, reflect.Int64, reflect.Int32, reflect.Uint, reflect.Uint64, reflect.Uint32, reflect.Uint16, reflect.Uint8:
			return node{"type": []string{"integer", "string"}, "pattern": number}
		case reflect.Float64:
			return node{"type": []string{"number", "string"}, "pattern": decimal}
		}
	}
	return node{"type": []string{"string", "number", "boolean"}}
}

// orNull lets a key stand without a value.
func orNull(n node) node {
	switch t := n["type"].(type) {
	case string:
		n["type"] = []string{t, "null"}
	case []string:
		n["type"] = append(slices.Clone(t), "null")
	}
	if all, ok := n["anyOf"].([]any); ok {
		n["anyOf"] = append(all, node{"type": "null"})
	}
	if all, ok := n["enum"].([]any); ok {
		n["enum"] = append(slices.Clone(all), nil)
	}
	return n
}
