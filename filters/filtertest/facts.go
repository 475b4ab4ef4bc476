package filtertest

import (
	"fmt"

	"gatepost/filters"
)

// Facts are other filters' facts by name ("spf.result"): values of type string, []string, bool and float64. A name
// that is missing is an absent fact.
type Facts map[string]any

// Text returns a string fact.
func (f Facts) Text(name string) (string, bool) { return fact[string](f, name) }

// List returns a list fact.
func (f Facts) List(name string) ([]string, bool) { return fact[[]string](f, name) }

// Bool returns a bool fact.
func (f Facts) Bool(name string) (value, ok bool) { return fact[bool](f, name) }

// Number returns a number fact.
func (f Facts) Number(name string) (float64, bool) { return fact[float64](f, name) }

// Changes returns those under the filter's name.
func (f Facts) Changes(filter string) *filters.Changes {
	changes, _ := fact[*filters.Changes](f, filter)
	return changes
}

func fact[T any](f Facts, name string) (value T, ok bool) {
	found, ok := f[name]
	if !ok {
		return value, false
	}
	value, ok = found.(T)
	if !ok {
		panic(fmt.Sprintf("fact %s is a %T, not a %T", name, found, value))
	}
	return value, true
}
