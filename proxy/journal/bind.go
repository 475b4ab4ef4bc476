package journal

import (
	"net/netip"

	"gatepost/rules"
)

// Binder puts recorded facts before rules that were compiled against the reader's own schema: by name and kind. What was
// not recorded is absent; what the schema does not have is left out. It is for one goroutine.
type Binder struct {
	schema  *rules.Schema
	targets map[string]target
	plans   map[*Shape]*plan
	rows    []rowPool // by group of the schema
	header  int       // group, -1 without one
	filler  filler    // here, so that a group costs no allocation
}

// target is where a fact is in the schema.
type target struct {
	group, column int
	kind          rules.Kind
}

// plan says for each column of a shape where it goes; of one that goes nowhere the group is -1.
type plan struct {
	columns []target
	groups  []int
}

// rowPool is rows of one group; those up to used are in use for the entry at hand.
type rowPool struct {
	rows []*rules.Row
	used int
}

// NewBinder returns a binder for facts of s.
func NewBinder(s *rules.Schema) *Binder {
	b := &Binder{schema: s, targets: map[string]target{}, plans: map[*Shape]*plan{}, rows: make([]rowPool, len(s.Groups())), header: -1}
	for group := range s.Groups() {
		for column, c := range s.Columns(group) {
			fact := c.Fact()
			b.targets[fact.Name] = target{group, column, fact.Kind}
		}
	}
	if group, ok := s.HeaderGroup(); ok {
		b.header = group
	}
	return b
}

// Reset lets the rows of earlier entries be used again: facts that they were bound to hold nothing any more.
func (b *Binder) Reset() {
	for i := range b.rows {
		b.rows[i].used = 0
	}
}

// maxPlans bounds how many shapes are remembered: each block has its own.
const maxPlans = 4096

// Group puts the facts of one group into f, or marks them as failed.
func (b *Binder) Group(f *rules.Facts, g *Group) {
	p := b.plans[g.Shape]
	if p == nil {
		if len(b.plans) >= maxPlans {
			clear(b.plans)
		}
		p = b.plan(g.Shape)
		b.plans[g.Shape] = p
	}
	for _, group := range p.groups {
		if g.Failed {
			f.Fail(group)
		} else {
			f.SetRow(group, b.row(group))
		}
	}
	if !g.Failed {
		b.filler = filler{binder: b, plan: p}
		g.Visit(&b.filler)
	}
}

// Entry makes f the facts by which an entry was judged: those that were known, those that failed, header fields, score.
func (b *Binder) Entry(f *rules.Facts, e *Entry) {
	for group := range b.rows {
		f.Clear(group)
	}
	for i := range e.Facts {
		b.Group(f, &e.Facts[i])
	}
	b.Headers(f, e)
	f.SetScore(e.Score)
}

// Headers puts the header fields that were recorded into f, if the message had come. Its group must be bound.
func (b *Binder) Headers(f *rules.Facts, e *Entry) {
	if b.header < 0 {
		return
	}
	row, ok := f.Group(b.header).(*rules.Row)
	if !ok {
		return
	}
	for i := range e.Headers {
		if h := &e.Headers[i]; h.Known {
			row.SetHeader(h.Name, h.Value)
		}
	}
}

func (b *Binder) plan(s *Shape) *plan {
	p := &plan{columns: make([]target, len(s.Columns))}
	for i, c := range s.Columns {
		t, ok := b.targets[c.Name]
		if !ok || t.kind != c.Kind {
			t.group = -1
		}
		p.columns[i] = t
		if t.group >= 0 && !contains(p.groups, t.group) {
			p.groups = append(p.groups, t.group)
		}
	}
	return p
}

func contains(list []int, n int) bool {
	for _, other := range list {
		if other == n {
			return true
		}
	}
	return false
}

func (b *Binder) row(group int) *rules.Row {
	pool := &b.rows[group]
	if pool.used == len(pool.rows) {
		pool.rows = append(pool.rows, b.schema.NewRow(group))
	}
	row := pool.rows[pool.used]
	pool.used++
	row.Clear()
	return row
}

// filler puts what it is visited with into the rows that were taken last.
type filler struct {
	binder *Binder
	plan   *plan
}

func (w *filler) to(column int) (row *rules.Row, place int) {
	t := w.plan.columns[column]
	if t.group < 0 {
		return nil, 0
	}
	pool := &w.binder.rows[t.group]
	return pool.rows[pool.used-1], t.column
}

func (w *filler) Bool(column int, value bool) {
	if row, place := w.to(column); row != nil {
		row.SetBool(place, value)
	}
}

func (w *filler) Number(column int, value float64) {
	if row, place := w.to(column); row != nil {
		row.SetNumber(place, value)
	}
}

func (w *filler) Text(column int, value string) {
	if row, place := w.to(column); row != nil {
		row.SetText(place, value)
	}
}

func (w *filler) List(column int, value []string) {
	if row, place := w.to(column); row != nil {
		row.SetList(place, value)
	}
}

func (w *filler) Address(column int, value netip.Addr) {
	if row, place := w.to(column); row != nil {
		row.SetAddress(place, value)
	}
}
