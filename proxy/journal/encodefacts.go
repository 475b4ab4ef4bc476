package journal

import (
	"reflect"
	"slices"

	"gatepost/rules"
)

// blueprint is how the facts of one schema are written. A reload makes another schema.
type blueprint struct {
	schema *rules.Schema
	groups []packing
	next   int // group that is looked for first: filters come in the order of their groups
}

// packing is how a group is written.
type packing struct {
	columns []packedColumn
	pointer reflect.Type // of what holds its facts
	shape   uint64       // the place in the block's table; 0: not there yet
	serial  uint64       // of the record for which it was needed last
	place   int          // where it stood, from 1, among the groups of that record
	recent  [4]packed    // in the block at hand: a session's record repeats what the one of its transaction had
	oldest  int          // of recent
}

// packed is facts that are in the block already, as they are there.
type packed struct {
	facts rules.Held
	bytes []byte
}

type packedColumn struct {
	rules.Column
	kind   rules.Kind
	closed bool // its values are known beforehand: no address among them
}

// packedGroup is facts of one group that the record at hand refers to.
type packedGroup struct {
	facts rules.Held
	group int
}

func newBlueprint(s *rules.Schema) *blueprint {
	groups := s.Groups()
	p := &blueprint{schema: s, groups: make([]packing, len(groups))}
	for i, g := range groups {
		p.groups[i].pointer = reflect.PointerTo(g.Type)
		for _, c := range s.Columns(i) {
			fact := c.Fact()
			p.groups[i].columns = append(p.groups[i].columns, packedColumn{Column: c, kind: fact.Kind, closed: len(fact.Values) > 0})
		}
	}
	return p
}

// nextBlock forgets what is in the block before.
func (p *blueprint) nextBlock() {
	for i := range p.groups {
		g := &p.groups[i]
		g.shape = 0
		for i := range g.recent {
			g.recent[i].facts = rules.Held{}
		}
	}
}

// groupOf finds the group of a filter's facts by their type.
func (p *blueprint) groupOf(facts any) (group int, ok bool) {
	t := reflect.TypeOf(facts)
	for range p.groups {
		group = p.next
		if p.next++; p.next == len(p.groups) {
			p.next = 0
		}
		if p.groups[group].pointer == t {
			return group, true
		}
	}
	return 0, false
}

// maxBlueprints is how many configurations are in use at once: sessions finish on the one they began with.
const maxBlueprints = 8

// beginGroups begins the groups of a record.
func (b *builder) beginGroups(f *rules.Facts) {
	clear(b.groups)
	b.groups = b.groups[:0]
	b.serial++
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

// filterFacts returns the place, from 1, of a filter's facts among the groups of the record, and 0 for none.
func (b *builder) filterFacts(facts any) int {
	if facts == nil || b.blueprint == nil {
		return 0
	}
	group, known := b.blueprint.groupOf(facts)
	if !known {
		return 0
	}
	return b.placeOf(packedGroup{rules.Hold(facts), group})
}

// placeOf returns the place, from 1, of facts among the groups of the record. A group is there several times where
// recipients differ in it.
func (b *builder) placeOf(g packedGroup) int {
	p := &b.blueprint.groups[g.group]
	if p.serial == b.serial {
		if b.groups[p.place-1] == g {
			return p.place
		}
		if i := slices.Index(b.groups, g); i >= 0 {
			return i + 1
		}
	}
	b.groups = append(b.groups, g)
	p.serial, p.place = b.serial, len(b.groups)
	return p.place
}

// facts writes which groups stood for the whole: for each that is known or failed its shape, and its place among the
// record's groups or 0.
func (b *builder) facts(f *rules.Facts) {
	b.number(f.Score())
	n := 0
	for i := range b.blueprint.groups {
		if f.Settled(i) {
			n++
		}
	}
	b.count(n)
	for i := range b.blueprint.groups {
		if !f.Settled(i) {
			continue
		}
		b.unsigned(b.shape(i))
		if held := f.Held(i); held.Known() {
			b.count(b.placeOf(packedGroup{held, i}))
		} else {
			b.count(0)
		}
	}
}

// shape returns the place of a group's names and kinds in the block's table.
func (b *builder) shape(group int) uint64 {
	if place := b.blueprint.groups[group].shape; place != 0 {
		return place
	}
	b.shapeCount++
	b.blueprint.groups[group].shape = b.shapeCount
	entries := b.buf
	b.buf = b.shapes
	start := b.begin()
	g := b.blueprint.schema.Groups()[group]
	b.text(g.Name)
	b.count(g.Stage)
	b.count(len(b.blueprint.groups[group].columns))
	for i := range b.blueprint.groups[group].columns {
		c := &b.blueprint.groups[group].columns[i]
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
		p := &b.blueprint.groups[g.group]
		if b.repeat(p, g.facts) {
			continue
		}
		from := len(b.buf)
		start := b.begin()
		b.unsigned(b.shape(g.group))
		b.columns(p.columns, g.facts)
		b.end(start)
		last := &p.recent[p.oldest]
		last.facts, last.bytes = g.facts, append(last.bytes[:0], b.buf[from:]...)
		p.oldest = (p.oldest + 1) % len(p.recent)
	}
}

// repeat writes facts as they were written for another record of the block. Where addresses are hidden they can come out
// otherwise in each: whose they are is looked for in all texts.
func (b *builder) repeat(p *packing, facts rules.Held) bool {
	if b.disguise != nil {
		return false
	}
	for i := range p.recent {
		if r := &p.recent[i]; r.facts == facts {
			b.buf = append(b.buf, r.bytes...)
			return true
		}
	}
	return false
}

// columns writes which facts of a group are there, a bit each, and their values.
func (b *builder) columns(columns []packedColumn, facts rules.Held) {
	bits := len(b.buf)
	for range (len(columns) + 7) / 8 {
		b.buf = append(b.buf, 0)
	}
	for i := range columns {
		if b.column(&columns[i], facts) {
			b.buf[bits+i/8] |= 1 << (i % 8)
		}
	}
}

func (b *builder) column(c *packedColumn, facts rules.Held) (present bool) {
	switch c.kind {
	case rules.Bool:
		value, ok := c.Bool(facts)
		if ok {
			b.flag(value)
		}
		return ok
	case rules.Number:
		value, ok := c.Number(facts)
		if ok {
			b.number(value)
		}
		return ok
	case rules.Text:
		value, ok := c.Text(facts)
		if ok {
			b.factText(c, value)
		}
		return ok
	case rules.List:
		list, ok := c.List(facts)
		if ok {
			b.count(len(list))
			for _, value := range list {
				b.factText(c, value)
			}
		}
		return ok
	case rules.Address:
		value, ok := c.Address(facts)
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
