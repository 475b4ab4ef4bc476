package config

import (
	"encoding"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"gatepost/filters"
	"gatepost/rules"
)

// ScalarUnmarshaler is a struct that may also be written as one scalar, such as `backend: 127.0.0.1:10025`.
type ScalarUnmarshaler interface{ UnmarshalScalar(text string) error }

var (
	textUnmarshaler   = reflect.TypeFor[encoding.TextUnmarshaler]()
	scalarUnmarshaler = reflect.TypeFor[ScalarUnmarshaler]()
	sourceType        = reflect.TypeFor[rules.Source]()
)

// decode puts a node into v, which holds the defaults: keys that are not in the file leave them alone. It is our own
// because go-yaml's decoder stops at the first mistake and loses the place of those that a type's own method finds.
//
// Known are structs with `yaml` tags, maps, slices (a lone scalar is a list of one), the basic types, everything with
// an UnmarshalText, and rules.Source, which keeps the way back to its place.
func (d *document) decode(n ast.Node, v reflect.Value, path string) {
	if path != "" {
		d.places[path] = d.start(n)
	}
	if n.Type() == ast.NullType { // a key without a value means the default
		return
	}
	switch n.Type() {
	case ast.AnchorType, ast.AliasType, ast.TagType, ast.MergeKeyType:
		d.undecoded(n, path, "anchors, aliases and tags are not supported")
		return
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		v = v.Elem()
	}
	_, isScalar := scalarText(n)
	switch {
	case v.Type() == sourceType || isScalar && d.isScalarType(v):
		d.decodeScalar(n, v, path)
	case v.Kind() == reflect.Struct:
		d.decodeFields(n, path, v)
	case v.Kind() == reflect.Map:
		d.decodeMap(n, v, path)
	case v.Kind() == reflect.Slice:
		d.decodeSlice(n, v, path)
	default:
		d.decodeScalar(n, v, path)
	}
}

func (d *document) isScalarType(v reflect.Value) bool {
	t := reflect.PointerTo(v.Type())
	return t.Implements(textUnmarshaler) || t.Implements(scalarUnmarshaler)
}

// decodeFields reads a mapping into the fields of one or several structs.
func (d *document) decodeFields(n ast.Node, path string, structs ...reflect.Value) {
	if n.Type() == ast.NullType {
		return
	}
	var known []string
	for _, v := range structs {
		known = append(known, keysOf(v.Type())...)
	}
	pairs, ok := mapping(n)
	if !ok {
		d.undecoded(n, path, "%s: a mapping with keys such as %s is expected here", display(path), strings.Join(known[:min(3, len(known))], ", "))
		return
	}
	seen := map[string]rules.Pos{}
	for _, pair := range pairs {
		key, at := pair.Key.GetToken().Value, d.pos(pair.Key.GetToken())
		if first, again := seen[key]; again {
			d.problem(at, "%s is already set in line %d", key, first.Line)
			continue
		}
		seen[key] = at
		field, ok := fieldOf(structs, key)
		if !ok {
			d.problem(at, "unknown key %q%s%s", key, in(path), didYouMean(key, known))
			continue
		}
		d.decode(pair.Value, field, join(path, key))
	}
}

func (d *document) decodeMap(n ast.Node, v reflect.Value, path string) {
	pairs, ok := mapping(n)
	if !ok {
		d.undecoded(n, path, "%s: a mapping is expected here", display(path))
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, pair := range pairs {
		keyText := pair.Key.GetToken().Value
		key := reflect.New(v.Type().Key()).Elem()
		if err := setScalar(key, keyText); err != nil {
			d.problem(d.pos(pair.Key.GetToken()), "%v", err)
			continue
		}
		if v.MapIndex(key).IsValid() {
			d.problem(d.pos(pair.Key.GetToken()), "%s is already set", keyText)
			continue
		}
		value := reflect.New(v.Type().Elem()).Elem()
		d.decode(pair.Value, value, join(path, keyText))
		v.SetMapIndex(key, value)
	}
}

func (d *document) decodeSlice(n ast.Node, v reflect.Value, path string) {
	nodes := []ast.Node{n}
	if sequence, ok := n.(*ast.SequenceNode); ok {
		nodes = sequence.Values
	} else if _, scalar := scalarText(n); !scalar {
		d.undecoded(n, path, "%s: a list is expected here", display(path))
		return
	}
	list := reflect.MakeSlice(v.Type(), 0, len(nodes))
	for i, item := range nodes {
		value := reflect.New(v.Type().Elem()).Elem()
		if defaulter, ok := value.Addr().Interface().(interface{ SetDefaults() }); ok {
			defaulter.SetDefaults()
		}
		d.decode(item, value, fmt.Sprintf("%s[%d]", path, i))
		list = reflect.Append(list, value)
	}
	v.Set(list)
}

func (d *document) decodeScalar(n ast.Node, v reflect.Value, path string) {
	source, ok := d.source(n)
	if !ok {
		advice := ""
		if _, ok := mapping(n); ok { // go-yaml takes {a: [b:1]} for {a: [{b: 1}]}
			advice = "; one with a colon in it wants quotes inside of brackets"
		}
		d.undecoded(n, path, "%s: a single value is expected here%s", display(path), advice)
		return
	}
	if v.Type() == sourceType {
		v.Set(reflect.ValueOf(source))
		return
	}
	if secret, ok := v.Addr().Interface().(*filters.Secret); ok && elsewhere(source.Text) {
		d.decodeSecret(n, path, source.Text, secret)
		return
	}
	if err := setScalar(v, source.Text); err != nil {
		d.undecoded(n, path, "%s: %v", display(path), err)
	}
}

// undecoded reports a value that could not be read. What its section has to say of the default that stands there instead
// would only confuse.
func (d *document) undecoded(n ast.Node, path, format string, args ...any) {
	d.problem(d.start(n), format, args...)
	d.broken = append(d.broken, path)
}

// isBroken tells whether the value of a key path, or one that it is part of, was reported by undecoded.
func (d *document) isBroken(path string) bool {
	for _, b := range d.broken {
		if rest, ok := strings.CutPrefix(path, b); ok && (b == "" || rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

// setScalar parses text into v.
func setScalar(v reflect.Value, text string) error {
	switch p := v.Addr().Interface().(type) {
	case *netip.Prefix:
		return setPrefix(p, text)
	case *filters.Secret:
		if text != "" && strings.Trim(text, "*") == "" {
			return errors.New("the asterisks stand for a secret that `gatepost config` does not show; write the secret itself")
		}
		*p = filters.NewSecret(text)
		return nil
	case ScalarUnmarshaler:
		return p.UnmarshalScalar(text)
	case encoding.TextUnmarshaler:
		return p.UnmarshalText([]byte(text))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		switch text {
		case "true", "on", "yes":
			v.SetBool(true)
		case "false", "off", "no":
			v.SetBool(false)
		default:
			return fmt.Errorf("%q is neither true nor false", text)
		}
	case reflect.Int, reflect.Int64, reflect.Int32:
		i, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		v.SetInt(i)
	case reflect.Uint, reflect.Uint64, reflect.Uint32, reflect.Uint16, reflect.Uint8:
		u, err := strconv.ParseUint(text, 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is not a whole number from 0 on", text)
		}
		v.SetUint(u)
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || f != f || f > 1e15 || f < -1e15 {
			return fmt.Errorf("%q is not a number", text)
		}
		v.SetFloat(f)
	default:
		return fmt.Errorf("%q cannot be given as a single value", text)
	}
	return nil
}

// setPrefix takes a network or a single address. Host bits are refused: "192.0.2.7/24" is more often a slip of the pen
// than a way to write 192.0.2.0/24.
func setPrefix(p *netip.Prefix, text string) error {
	if ip, err := netip.ParseAddr(text); err == nil && ip.Zone() == "" {
		*p = netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen())
		return nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return fmt.Errorf("%q is not an address or a network such as 192.0.2.0/24", text)
	}
	if masked := prefix.Masked(); masked != prefix {
		return fmt.Errorf("%s has host bits set; the network is %s", text, masked)
	}
	*p = prefix
	return nil
}

// mapping is the pairs of a mapping node.
func mapping(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}
