package journal

import (
	"net/netip"

	"gatepost/rules"
)

// Shape is the names and kinds of a group of facts as the writer had them. All entries of a block share it: do not
// change it.
type Shape struct {
	Name    string // of the group: "spf"
	Stage   int
	Columns []Column
}

// Column is one fact of a shape.
type Column struct {
	Name string // "spf.result"
	Kind rules.Kind
}

func parseShape(u *unpacker) *Shape {
	s := &Shape{Name: u.text(), Stage: u.small()}
	for range u.count() {
		name, kind := u.text(), u.text()
		c := Column{Name: name, Kind: unknownKind}
		for i, known := range kindNames {
			if kind == known {
				c.Kind = rules.Kind(i)
			}
		}
		s.Columns = append(s.Columns, c)
	}
	return s
}

// unknownKind is a kind of a later release: its value cannot be read, nor those behind it.
const unknownKind = rules.Kind(255)

// Group is the facts of one group. Its values are unpacked when they are asked for.
type Group struct {
	Shape  *Shape
	Failed bool // its filter was off, failed, or took too long: all of it is absent for good
	values unpacker
}

func (k *block) shape(u *unpacker) *Shape {
	place := u.small()
	if place == 0 || place > len(k.shapes) {
		u.fail()
		return nil
	}
	return k.shapes[place-1]
}

func (k *block) groups(u *unpacker, e *Entry) {
	for range u.count() {
		p := u.part()
		if shape := k.shape(&p); shape != nil {
			e.groups = append(e.groups, Group{Shape: shape, values: p})
		}
	}
}

func (k *block) facts(u *unpacker, e *Entry) {
	e.Score = u.number()
	for range u.count() {
		shape, place := k.shape(u), u.small()
		switch {
		case shape == nil:
			return
		case place == 0:
			e.Facts = append(e.Facts, Group{Shape: shape, Failed: true})
		case place <= len(e.groups):
			e.Facts = append(e.Facts, e.groups[place-1])
		}
	}
}

// Visitor is called with the facts of a group; column is the place in the shape.
type Visitor interface {
	Bool(column int, value bool)
	Number(column int, value float64)
	Text(column int, value string)
	List(column int, value []string) // a new list
	Address(column int, value netip.Addr)
}

// Visit calls v for every fact that is not absent, in the order of the shape. It allocates for lists alone.
func (g *Group) Visit(v Visitor) {
	if g.Failed {
		return
	}
	u := g.values
	bits := u.bytes((len(g.Shape.Columns) + 7) / 8)
	for i := range g.Shape.Columns {
		if i/8 >= len(bits) || *u.garbled {
			return
		}
		if bits[i/8]&(1<<(i%8)) == 0 {
			continue
		}
		switch g.Shape.Columns[i].Kind {
		case rules.Bool:
			v.Bool(i, u.flag())
		case rules.Number:
			v.Number(i, u.number())
		case rules.Text:
			v.Text(i, u.text())
		case rules.List:
			list := make([]string, u.count())
			for k := range list {
				list[k] = u.text()
			}
			v.List(i, list)
		case rules.Address:
			v.Address(i, u.address())
		default:
			return
		}
	}
}

// Lookup reads one fact by its full name: bool, float64, string, []string or netip.Addr.
func (g *Group) Lookup(name string) (value any, ok bool) {
	for i := range g.Shape.Columns {
		if g.Shape.Columns[i].Name == name {
			l := lookup{column: i}
			g.Visit(&l)
			return l.value, l.value != nil
		}
	}
	return nil, false
}

// All calls yield for every fact that is not absent.
func (g *Group) All(yield func(name string, value any)) {
	g.Visit(&every{g.Shape, yield})
}

// lookup keeps the fact of one column.
type lookup struct {
	column int
	value  any
}

func (l *lookup) Bool(column int, value bool)          { keep(l, column, value) }
func (l *lookup) Number(column int, value float64)     { keep(l, column, value) }
func (l *lookup) Text(column int, value string)        { keep(l, column, value) }
func (l *lookup) List(column int, value []string)      { keep(l, column, value) }
func (l *lookup) Address(column int, value netip.Addr) { keep(l, column, value) }

func keep[T any](l *lookup, column int, value T) {
	if column == l.column {
		l.value = value
	}
}

// every hands on all facts with their names.
type every struct {
	shape *Shape
	yield func(name string, value any)
}

func (e *every) Bool(column int, value bool)          { e.yield(e.shape.Columns[column].Name, value) }
func (e *every) Number(column int, value float64)     { e.yield(e.shape.Columns[column].Name, value) }
func (e *every) Text(column int, value string)        { e.yield(e.shape.Columns[column].Name, value) }
func (e *every) List(column int, value []string)      { e.yield(e.shape.Columns[column].Name, value) }
func (e *every) Address(column int, value netip.Addr) { e.yield(e.shape.Columns[column].Name, value) }
