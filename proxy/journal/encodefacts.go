package journal

import (
	"reflect"

	"gatepost/rules"
)

// blueprint is how the facts of one schema are written. A reload makes another schema.
type blueprint struct {
	schema  *rules.Schema
	groups  [][]packedColumn
	byType  map[reflect.Type]int
	shapes  []uint64     // by group, the place in the block's table; 0: not there yet
	scratch *rules.Facts // to read a struct that no facts hold any more
}

type packedColumn struct {
	rules.Column
	kind   rules.Kind
	closed bool // its values are known beforehand: no address among them
}

// packedGroup is facts of one group that the record at hand refers to.
type packedGroup struct {
	facts any // pointer to the struct
	group int
}

func newBlueprint(s *rules.Schema) *blueprint {
	groups := s.Groups()
	p := &blueprint{schema: s, groups: make([][]packedColumn, len(groups)), byType: make(map[reflect.Type]int, len(groups)),
		shapes: make([]uint64, len(groups)), scratch: s.NewFacts()}
	for i, g := range groups {
		p.byType[g.Type] = i
		for _, c := range s.Columns(i) {
			fact := c.Fact()
			p.groups[i] = append(p.groups[i], packedColumn{Column: c, kind: fact.Kind, closed: len(fact.Values) > 0})
		}
	}
	return p
}

// maxBlueprints is how many configurations are in use at once: sessions finish on the one they began with.
const maxBlueprints = 8

// beginGroups begins the groups of a record.
func (b *builder) beginGroups(f *rules.Facts) {
	clear(b.groups)
	b.groups = b.groups[:0]
	if f == nil || b.blueprint != nil && b.blueprint.schema == f.Schema() {
		return
	}
	if b.blueprint = b.blueprints[f.Schema()]; b.blueprint == nil {
		if len(b.blueprints) >= maxBlueprints {
			clear(b.blueprints)
		}
		b.blueprint = newBlueprint(f.Schema())
		b.blueprints[f.Schema()] = b.blueprint
	}
}

// group returns the place, from 1, of a filter's facts among the groups of the record, and 0 for none.
func (b *builder) group(facts any) int {
	if facts == nil || b.blueprint == nil {
		return 0
	}
	for i := range b.groups {
		if b.groups[i].facts == facts {
			return i + 1
		}
	}
	group, known := b.blueprint.byType[reflect.TypeOf(facts).Elem()]
	if !known {
		return 0
	}
	b.groups = append(b.groups, packedGroup{facts, group})
	return len(b.groups)
}

// facts writes which groups stood for the whole: for each that is known or failed its shape, and its place among the
// record's groups or 0.
func (b *builder) facts(f *rules.Facts) {
	b.number(f.Score())
	n := 0
	for i := range b.blueprint.groups {
		if f.Failed(i) || f.Group(i) != nil {
			n++
		}
	}
	b.count(n)
	for i := range b.blueprint.groups {
		known := f.Group(i)
		if known == nil && !f.Failed(i) {
			continue
		}
		b.unsigned(b.shape(i))
		b.count(b.groupOf(known, i))
	}
}

// groupOf is group where the place in the schema is known already.
func (b *builder) groupOf(facts any, group int) int {
	if facts == nil {
		return 0
	}
	for i := range b.groups {
		if b.groups[i].facts == facts {
			return i + 1
		}
	}
	b.groups = append(b.groups, packedGroup{facts, group})
	return len(b.groups)
}

// shape returns the place of a group's names and kinds in the block's table.
func (b *builder) shape(group int) uint64 {
	if place := b.blueprint.shapes[group]; place != 0 {
		return place
	}
	b.shapeCount++
	b.blueprint.shapes[group] = b.shapeCount
	entries := b.buf
	b.buf = b.shapes
	start := b.begin()
	g := b.blueprint.schema.Groups()[group]
	b.text(g.Name)
	b.count(g.Stage)
	b.count(len(b.blueprint.groups[group]))
	for i := range b.blueprint.groups[group] {
		c := &b.blueprint.groups[group][i]
		b.text(c.Fact().Name)
		b.text(kindNames[c.kind])
	}
	b.end(start)
	b.shapes, b.buf = b.buf, entries
	return b.shapeCount
}

var kindNames = [...]string{rules.Bool: "bool", rules.Number: "number", rules.Text: "text", rules.List: "list", rules.Address: "address"}

func (b *builder) packGroups() {
	b.count(len(b.groups))
	for _, g := range b.groups {
		start := b.begin()
		b.unsigned(b.shape(g.group))
		if row, isRow := g.facts.(*rules.Row); isRow {
			b.blueprint.scratch.SetRow(g.group, row)
		} else {
			b.blueprint.scratch.Set(g.group, g.facts)
		}
		b.columns(g.group)
		b.blueprint.scratch.Clear(g.group)
		b.end(start)
	}
}

// columns writes which facts of a group are there, a bit each, and their values.
func (b *builder) columns(group int) {
	columns := b.blueprint.groups[group]
	bits := len(b.buf)
	for range (len(columns) + 7) / 8 {
		b.buf = append(b.buf, 0)
	}
	for i := range columns {
		if b.column(&columns[i]) {
			b.buf[bits+i/8] |= 1 << (i % 8)
		}
	}
}

func (b *builder) column(c *packedColumn) (present bool) {
	f := b.blueprint.scratch
	switch c.kind {
	case rules.Bool:
		value, ok := c.Bool(f)
		if ok {
			b.flag(value)
		}
		return ok
	case rules.Number:
		value, ok := c.Number(f)
		if ok {
			b.number(value)
		}
		return ok
	case rules.Text:
		value, ok := c.Text(f)
		if ok {
			b.factText(c, value)
		}
		return ok
	case rules.List:
		list, ok := c.List(f)
		if ok {
			b.count(len(list))
			for _, value := range list {
				b.factText(c, value)
			}
		}
		return ok
	case rules.Address:
		value, ok := c.Address(f)
		if ok {
			b.address(value)
		}
		return ok
	}
	return false
}

func (b *builder) factText(c *packedColumn, value string) {
	if c.closed {
		b.text(value)
	} else {
		b.foreign(value)
	}
}
