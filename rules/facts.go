package rules

import (
	"fmt"
	"math"
	mathbits "math/bits"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"unsafe"
)

// Facts holds the groups that are known. Any number of goroutines may read at once; Set, Fail, Clear, CopyFrom and
// SetScore need it alone.
//
// There are several for every waiting client, so that only what is known takes room: with a place for each of 25 groups
// they took 432 bytes, where a client that waits behind EHLO needs three of them. For the same reason they are bare
// pointers: the schema knows their types, and with all filters on interfaces took 96 bytes more of each such client. It
// also makes a fact one load away, where reflection needed several calls.
type Facts struct {
	schema *Schema
	score  float64
	known  bits             // groups that have facts
	gone   bits             // groups that failed
	rows   bits             // groups that are known by a *Row
	groups []unsafe.Pointer // to the struct of each group that is known, or to its Row, in the order of the groups
}

// maxGroups is how many groups a schema can have.
const maxGroups = 64

// bits is a set of groups.
type bits uint64

func (b bits) has(group int) bool { return b>>uint(group)&1 != 0 }

// before is how many members come before group.
func (b bits) before(group int) int { return mathbits.OnesCount64(uint64(b) & (1<<uint(group) - 1)) }

// NewFacts returns facts of which nothing is known yet.
func (s *Schema) NewFacts() *Facts { return &Facts{schema: s} }

// Set makes the facts of a group known; facts is a pointer to a struct of the group's type, which must not be written
// any more. Another type panics: that is a mistake of the caller.
func (f *Facts) Set(group int, facts any) {
	v := reflect.ValueOf(facts)
	if t := f.schema.groups[group].Type; v.Kind() != reflect.Pointer || v.Type().Elem() != t || v.IsNil() {
		panic(fmt.Sprintf("rules: facts of %s are a %T and not a *%v", f.schema.groups[group].Name, facts, t))
	}
	f.put(group, v.UnsafePointer())
}

func (f *Facts) put(group int, facts unsafe.Pointer) {
	f.rows &^= 1 << uint(group)
	i := f.known.before(group)
	if f.known.has(group) {
		f.groups[i] = facts
		return
	}
	f.groups = slices.Insert(f.groups, i, facts)
	f.known |= 1 << uint(group)
	f.gone &^= 1 << uint(group)
}

// Fail marks a group as failed (as opposed to not run yet): its facts are absent for good.
func (f *Facts) Fail(group int) {
	f.Clear(group)
	f.gone |= 1 << uint(group)
}

// Failed tells whether the group was marked by Fail.
func (f *Facts) Failed(group int) bool { return f.gone.has(group) }

// Clear makes a group unknown again, as if it had not run.
func (f *Facts) Clear(group int) {
	if f.known.has(group) {
		i := f.known.before(group)
		f.groups = slices.Delete(f.groups, i, i+1)
	}
	f.known &^= 1 << uint(group)
	f.gone &^= 1 << uint(group)
	f.rows &^= 1 << uint(group)
}

// Group returns what Set or SetRow was given, or nil while the group is not known.
func (f *Facts) Group(group int) any {
	switch {
	case !f.known.has(group):
		return nil
	case f.rows.has(group):
		return f.row(group)
	default:
		return reflect.NewAt(f.schema.groups[group].Type, f.groups[f.known.before(group)]).Interface()
	}
}

// Settled tells whether the group is known or has failed.
func (f *Facts) Settled(group int) bool { return (f.known | f.gone).has(group) }

// CopyFrom makes f equal to other, which is of the same schema. The structs are shared. It does not allocate where f has
// held as many groups before.
func (f *Facts) CopyFrom(other *Facts) {
	clear(f.groups)
	f.groups = append(f.groups[:0], other.groups...)
	f.known, f.gone, f.rows, f.score = other.known, other.gone, other.rows, other.score
}

// WithRoom returns a copy with room for so many groups, before it has to grow. The structs are shared.
func (f *Facts) WithRoom(groups int) Facts {
	c := *f
	c.groups = append(make([]unsafe.Pointer, 0, max(groups, len(f.groups))), f.groups...)
	return c
}

// Clone is WithRoom behind a pointer.
func (f *Facts) Clone(groups int) *Facts {
	c := f.WithRoom(groups)
	return &c
}

// SetScore sets the sum that `score` reads.
func (f *Facts) SetScore(points float64) { f.score = points }

// Score returns the sum that `score` reads.
func (f *Facts) Score() float64 { return f.score }

// Lookup reads one fact by name: bool, float64, string, []string or netip.Addr. ok is false when it is absent or does
// not exist. It reads header fields too, by the name that [Rule].Fields has for them.
func (f *Facts) Lookup(name string) (value any, ok bool) {
	if x := f.schema.byName[name]; x != nil {
		return x.get(f)
	}
	if field, ok := headerOfFact(name); ok && f.schema.header != nil {
		value, ok := headerField{f.schema.header, field}.value(f)
		return value, ok
	}
	return nil, false
}

// All calls yield with every fact that is not absent, in the order of the schema.
func (f *Facts) All(yield func(name string, value any)) {
	for _, x := range f.schema.fields {
		if value, ok := x.get(f); ok {
			yield(x.Name, value)
		}
	}
}

// AppendText appends every fact that is not absent as "name=value", lists with commas, except those of groups that are
// [Group].Given. A text that could be taken for more than one fact or item is quoted: much of it was written by strangers.
func (f *Facts) AppendText(dst []byte) []byte {
	start := len(dst)
	for told := uint64(f.known &^ f.schema.given); told != 0; told &= told - 1 {
		for _, column := range f.schema.columns[mathbits.TrailingZeros64(told)] {
			before := len(dst)
			if before > start {
				dst = append(dst, ' ')
			}
			var ok bool
			if dst, ok = column.field.appendValue(append(append(dst, column.field.Name...), '='), f); !ok {
				dst = dst[:before]
			}
		}
	}
	return dst
}

// appendValue appends nothing, and is not ok, where the fact is absent.
func (x *field) appendValue(dst []byte, f *Facts) (text []byte, ok bool) {
	switch x.Kind {
	case Bool:
		if value, ok := x.boolean(f); ok {
			return strconv.AppendBool(dst, value), true
		}
	case Number:
		if value, ok := x.number(f); ok {
			return appendShortest(dst, value), true
		}
	case Text:
		if value, ok := x.text(f); ok {
			return appendWord(dst, value), true
		}
	case List:
		list, ok := x.list(f)
		for i, value := range list {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendWord(dst, value)
		}
		return dst, ok
	case Address:
		if value, ok := x.address(f); ok {
			return value.AppendTo(dst), true
		}
	}
	return dst, false
}

// appendShortest writes most numbers, which are small and whole, without looking for their shortest form.
func appendShortest(dst []byte, n float64) []byte {
	if whole := int64(n); float64(whole) == n && whole > -1e6 && whole < 1e6 && (n != 0 || !math.Signbit(n)) {
		return strconv.AppendInt(dst, whole, 10)
	}
	return strconv.AppendFloat(dst, n, 'g', -1, 64)
}

func appendWord(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == 0x7f || c == '"' || c == '=' || c == ',' {
			return strconv.AppendQuoteToASCII(dst, s)
		}
	}
	return append(dst, s...)
}

func (x *field) get(f *Facts) (value any, ok bool) {
	switch x.Kind {
	case Bool:
		value, ok = x.boolean(f)
	case Number:
		value, ok = x.number(f)
	case Text:
		value, ok = x.text(f)
	case List:
		value, ok = x.list(f)
	case Address:
		value, ok = x.address(f)
	}
	if !ok {
		return nil, false
	}
	return value, true
}

// present does what get does without boxing the value.
func (x *field) present(f *Facts) bool {
	switch x.Kind {
	case Number:
		_, ok := x.number(f)
		return ok
	case Address:
		_, ok := x.address(f)
		return ok
	default:
		if value, isRow := x.inRow(f); isRow {
			return value != nil
		}
		return x.read(f) != nil
	}
}

// read returns where the fact itself is, behind its pointer if it has one; nil where it is absent.
func (x *field) read(f *Facts) unsafe.Pointer {
	if !f.known.has(x.Group) {
		return nil
	}
	p := unsafe.Add(f.groups[f.known.before(x.Group)], x.offset)
	if x.pointer {
		p = *(*unsafe.Pointer)(p)
	}
	return p
}

func (x *field) boolean(f *Facts) (value, ok bool) {
	if value, isRow := x.inRow(f); isRow {
		return value != nil && value.number != 0, value != nil
	}
	p := x.read(f)
	return p != nil && *(*bool)(p), p != nil
}

// number returns all numbers as float64: exact up to 2^53, far above any size or count here. NaN is no number and counts as absent.
func (x *field) number(f *Facts) (float64, bool) {
	if value, isRow := x.inRow(f); isRow {
		if value == nil {
			return 0, false
		}
		return value.number, true
	}
	p := x.read(f)
	if p == nil {
		return 0, false
	}
	return x.numberAt(p)
}

func (x *field) numberAt(p unsafe.Pointer) (float64, bool) {
	switch x.stored {
	case reflect.Int:
		return float64(*(*int)(p)), true
	case reflect.Int32:
		return float64(*(*int32)(p)), true
	case reflect.Int64:
		return float64(*(*int64)(p)), true
	}
	number := *(*float64)(p)
	return number, number == number
}

func (x *field) text(f *Facts) (string, bool) {
	if value, isRow := x.inRow(f); isRow {
		if value == nil {
			return "", false
		}
		return value.text, true
	}
	p := x.read(f)
	if p == nil {
		return "", false
	}
	return *(*string)(p), true
}

func (x *field) list(f *Facts) ([]string, bool) {
	if value, isRow := x.inRow(f); isRow {
		if value == nil {
			return nil, false
		}
		return value.list, true
	}
	p := x.read(f)
	if p == nil {
		return nil, false
	}
	return *(*[]string)(p), true
}

// address returns IPv4 as IPv4 also where it came as ::ffff:192.0.2.1. The zero Addr counts as absent.
func (x *field) address(f *Facts) (netip.Addr, bool) {
	if value, isRow := x.inRow(f); isRow {
		if value == nil {
			return netip.Addr{}, false
		}
		return value.address, true
	}
	p := x.read(f)
	if p == nil {
		return netip.Addr{}, false
	}
	address := *(*netip.Addr)(p)
	return address.Unmap().WithZone(""), address.IsValid()
}
