package backend

import (
	"reflect"
	"testing"
)

// Every field counts: sessions share what is equal.
func TestEqualExtensions(t *testing.T) {
	whole := Extensions{Passed: []Keyword{{Name: "X"}}, Auth: []string{"PLAIN"}, XClient: []string{"NAME"}, Limits: Limits{Rcpt: 1}}
	same := whole
	if !whole.Equal(&same) {
		t.Error("a copy is not equal")
	}
	for i := range reflect.TypeFor[Extensions]().NumField() {
		other := whole
		switch field := reflect.ValueOf(&other).Elem().Field(i); field.Kind() {
		case reflect.Bool:
			field.SetBool(true)
		case reflect.Int64:
			field.SetInt(7)
		default:
			field.SetZero()
		}
		if whole.Equal(&other) || other.Equal(&whole) {
			t.Errorf("%s does not count", reflect.TypeFor[Extensions]().Field(i).Name)
		}
	}
}
