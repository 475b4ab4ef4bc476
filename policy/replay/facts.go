package replay

import (
	"reflect"
	"strings"

	"gatepost/filters"
	"gatepost/policy"
)

// FactsOf reads facts that observations have found.
func FactsOf(looks []policy.Look) filters.Facts { return recordedFacts(looks) }

// recordedFacts reads facts as they were recorded, whatever the rules that are tried have the filters do.
type recordedFacts []policy.Look

var _ filters.Facts = recordedFacts{}

// Text implements filters.Facts.
func (f recordedFacts) Text(name string) (string, bool) { return read[string](f, name) }

// List implements filters.Facts.
func (f recordedFacts) List(name string) ([]string, bool) { return read[[]string](f, name) }

// Bool implements filters.Facts.
func (f recordedFacts) Bool(name string) (value, ok bool) { return read[bool](f, name) }

// Number implements filters.Facts.
func (f recordedFacts) Number(name string) (float64, bool) { return read[float64](f, name) }

// Changes implements filters.Facts. What was changed then is not recorded, and nothing is changed now.
func (f recordedFacts) Changes(string) *filters.Changes { return nil }

// read finds the last look that knows the fact.
func read[T any](looks recordedFacts, name string) (value T, ok bool) {
	dot := strings.LastIndexByte(name, '.')
	filter, fact := name[:max(dot, 0)], name[dot+1:]
	for i := range looks {
		l := &looks[i]
		if l.Filter != filter || l.Status != policy.LookOK {
			continue
		}
		var found any
		if values, isValues := l.Facts.(policy.Values); isValues {
			found = valueOf(values, name)
		} else {
			found = fieldOf(reflect.ValueOf(l.Facts).Elem(), fact)
		}
		if v, is := found.(T); is {
			value, ok = v, true
		}
	}
	return value, ok
}

func fieldOf(facts reflect.Value, fact string) any {
	for i := range facts.NumField() {
		if facts.Type().Field(i).Tag.Get("fact") != fact {
			continue
		}
		v := facts.Field(i)
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return nil
			}
			v = v.Elem()
		}
		if v.CanInt() {
			return float64(v.Int())
		}
		return v.Interface()
	}
	return nil
}
