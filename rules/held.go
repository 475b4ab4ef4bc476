package rules

import (
	"net/netip"
	"reflect"
	"unsafe"
)

// Held is the facts of one group, as [Facts] or somebody else holds them: it can be compared, and is equal to those that
// are the same struct or [Row]. The zero Held is a group that is not known.
type Held struct {
	data unsafe.Pointer // to the group's struct
	row  *Row
}

// Known tells whether there are any.
func (h Held) Known() bool { return h.data != nil || h.row != nil }

// Held returns a group as it is held, without the price of an interface: see Group.
func (f *Facts) Held(group int) Held {
	if !f.known.has(group) {
		return Held{}
	}
	p := f.groups[f.known.before(group)]
	if f.rows.has(group) {
		return Held{row: (*Row)(p)}
	}
	return Held{data: p}
}

// Hold is for facts that no [Facts] hold any more: a pointer to a group's struct. The caller sees to it that it is of the
// group whose columns it reads.
func Hold(facts any) Held { return Held{data: reflect.ValueOf(facts).UnsafePointer()} }

// find returns where the fact is: in a struct, behind its pointer if it has one, in a row, or, with two nils, nowhere.
func (c Column) find(h Held) (p unsafe.Pointer, recorded *rowValue) {
	x := c.field
	switch {
	case h.data != nil:
		if p = unsafe.Add(h.data, x.offset); x.pointer {
			p = *(*unsafe.Pointer)(p)
		}
		return p, nil
	case h.row != nil && h.row.values[x.column].present:
		return nil, &h.row.values[x.column]
	}
	return nil, nil
}

// Bool reads a fact of kind [Bool].
func (c Column) Bool(h Held) (value, ok bool) {
	p, recorded := c.find(h)
	if recorded != nil {
		return recorded.number != 0, true
	}
	return p != nil && *(*bool)(p), p != nil
}

// Number reads a fact of kind [Number].
func (c Column) Number(h Held) (value float64, ok bool) {
	p, recorded := c.find(h)
	switch {
	case recorded != nil:
		return recorded.number, true
	case p == nil:
		return 0, false
	}
	return c.field.numberAt(p)
}

// Text reads a fact of kind [Text].
func (c Column) Text(h Held) (value string, ok bool) {
	p, recorded := c.find(h)
	switch {
	case recorded != nil:
		return recorded.text, true
	case p == nil:
		return "", false
	}
	return *(*string)(p), true
}

// List reads a fact of kind [List]; the list must not be changed.
func (c Column) List(h Held) (value []string, ok bool) {
	p, recorded := c.find(h)
	switch {
	case recorded != nil:
		return recorded.list, true
	case p == nil:
		return nil, false
	}
	return *(*[]string)(p), true
}

// Address reads a fact of kind [Address], as IPv4 also where it came as ::ffff:192.0.2.1.
func (c Column) Address(h Held) (value netip.Addr, ok bool) {
	p, recorded := c.find(h)
	switch {
	case recorded != nil:
		return recorded.address, true
	case p == nil:
		return netip.Addr{}, false
	}
	address := *(*netip.Addr)(p)
	return address.Unmap().WithZone(""), address.IsValid()
}
