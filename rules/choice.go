package rules

import "slices"

// Choice is a fact that has few possible values: a text with a closed set of them, or true or false. It reads facts of
// every schema that was made of the same groups.
type Choice struct {
	Name   string
	Values []string
	Stage  int // from which it can be known

	field *field
}

// Choices lists the facts with few possible values, in the order of their groups and fields.
func (s *Schema) Choices() []Choice {
	var list []Choice
	for _, x := range s.fields {
		switch {
		case x.Kind == Bool:
			list = append(list, Choice{x.Name, []string{"false", "true"}, x.Stage, x})
		case x.Kind == Text && len(x.Values) > 0:
			list = append(list, Choice{x.Name, x.Values, x.Stage, x})
		}
	}
	return list
}

// Of returns the place of the fact's value in Values, or -1 if the fact is absent. It does not allocate.
func (c *Choice) Of(f *Facts) int {
	if c.field.Kind == Bool {
		value, ok := c.field.boolean(f)
		switch {
		case !ok:
			return -1
		case value:
			return 1
		}
		return 0
	}
	value, ok := c.field.text(f)
	if !ok {
		return -1
	}
	return slices.Index(c.Values, value)
}
