package config

import (
	"reflect"
	"strings"
)

// fieldOf finds the field that a key sets; fields of embedded structs count as the struct's own.
func fieldOf(structs []reflect.Value, key string) (reflect.Value, bool) {
	for _, v := range structs {
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.Anonymous && f.Type.Kind() == reflect.Struct {
				if found, ok := fieldOf([]reflect.Value{v.Field(i)}, key); ok {
					return found, true
				}
			} else if f.IsExported() && keyOf(f) == key {
				return v.Field(i), true
			}
		}
	}
	return reflect.Value{}, false
}

// keyOf is the key that sets a field; empty for fields that the file cannot set.
func keyOf(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	if name == "-" {
		return ""
	}
	return name
}

// keysOf is all keys of a struct type in order of declaration.
func keysOf(t reflect.Type) []string {
	var keys []string
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous && f.Type.Kind() == reflect.Struct {
			keys = append(keys, keysOf(f.Type)...)
		} else if key := keyOf(f); key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func display(path string) string {
	if path == "" {
		return "the configuration"
	}
	return path
}

func in(path string) string {
	if path == "" {
		return ""
	}
	return " in " + path
}

// didYouMean names the key that is nearest to what was written, if one is near.
func didYouMean(written string, keys []string) string {
	best, distance := "", min(3, 2+len(written)/6)
	for _, key := range keys {
		if d := editDistance(written, key); d < distance && d < len(key) {
			best, distance = key, d
		}
	}
	if best == "" {
		return "; known are " + strings.Join(keys, ", ")
	}
	return "; did you mean " + best + "?"
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			next := min(row[j]+1, row[j+1]+1)
			if a[i] == b[j] {
				next = min(next, diagonal)
			} else {
				next = min(next, diagonal+1)
			}
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
