package rules

import (
	"net/netip"
	"unsafe"
)

// Column is one fact of a group as a recorder reads it: nothing is boxed, nothing allocates. Of the methods that take a
// [Held] of the group each is for its Kind only; ok is false where the fact is absent.
type Column struct{ field *field }

// Columns are the facts of a group in the order of their fields, without the header.
func (s *Schema) Columns(group int) []Column { return s.columns[group] }

// Groups are all groups. The slice is the schema's own: do not change it.
func (s *Schema) Groups() []Group { return s.groups }

// Fact is the declaration.
func (c Column) Fact() Fact { return c.field.Fact }

// Header reads a header field by its canonical name, empty where the message has none. known is false before the message
// is there, and for a field that was not recorded.
func (f *Facts) Header(name string) (value string, known bool) {
	if f.schema.header == nil {
		return "", false
	}
	return headerField{f.schema.header, name}.value(f)
}

// HeaderGroup is the group whose struct or row has the header fields.
func (s *Schema) HeaderGroup() (group int, ok bool) {
	if s.header == nil {
		return 0, false
	}
	return s.header.Group, true
}

// Schema is what the facts are of.
func (f *Facts) Schema() *Schema { return f.schema }

// Row holds the facts of one group that were recorded earlier, perhaps by a release whose struct had fewer fields: what
// was not recorded is absent, which a struct cannot say of all its fields. It is written by one goroutine and read
// through the [Facts] that it was given to.
type Row struct {
	columns []Column
	values  []rowValue
	headers map[string]string // by canonical name; empty text: there was none
}

type rowValue struct {
	present bool
	number  float64 // 1 for a Bool that is true
	text    string
	list    []string
	address netip.Addr
}

// NewRow returns a row of a group, all of it absent.
func (s *Schema) NewRow(group int) *Row {
	return &Row{columns: s.columns[group], values: make([]rowValue, len(s.columns[group]))}
}

// Clear makes all facts absent.
func (r *Row) Clear() {
	for i := range r.values {
		r.values[i].present = false
	}
	clear(r.headers)
}

// SetBool sets the fact of a column, as the other setters do; a column of another kind is a mistake of the caller.
func (r *Row) SetBool(column int, value bool) {
	number := 0.0
	if value {
		number = 1
	}
	r.SetNumber(column, number)
}

// SetNumber sets a number.
func (r *Row) SetNumber(column int, value float64) {
	v := &r.values[column]
	v.present, v.number = true, value
}

// SetText sets a text.
func (r *Row) SetText(column int, value string) {
	v := &r.values[column]
	v.present, v.text = true, value
}

// SetList sets a list, which must not be changed while the row is read.
func (r *Row) SetList(column int, value []string) {
	v := &r.values[column]
	v.present, v.list = true, value
}

// SetAddress sets an address.
func (r *Row) SetAddress(column int, value netip.Addr) {
	v := &r.values[column]
	v.present, v.address = true, value.Unmap().WithZone("")
}

// SetHeader sets the value of a header field by its canonical name, the empty one where the message had none. Fields
// that were not set are unknown.
func (r *Row) SetHeader(name, value string) {
	if r.headers == nil {
		r.headers = make(map[string]string)
	}
	r.headers[name] = value
}

// SetRow makes the facts of a group known, as Set does.
func (f *Facts) SetRow(group int, r *Row) {
	f.put(group, unsafe.Pointer(r))
	f.rows |= 1 << uint(group)
}

// row returns the group's row, or nil where it is not known by one.
func (f *Facts) row(group int) *Row {
	if !f.rows.has(group) {
		return nil
	}
	return (*Row)(f.groups[f.known.before(group)])
}

// inRow finds the fact in its group's row; value is nil where it is absent there.
func (x *field) inRow(f *Facts) (value *rowValue, isRow bool) {
	row := f.row(x.Group)
	if row == nil {
		return nil, false
	}
	if v := &row.values[x.column]; v.present {
		return v, true
	}
	return nil, true
}
