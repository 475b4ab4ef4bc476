package filters

import (
	"slices"
	"strings"
)

// Draft is a message's header under the hands of several editors. Each counts the fields that it has seen: those of the
// message, with the changes of the editors before it and its own. What independent editors do is put together: a field
// that one has inserted does not shift what another one counts.
//
// Where two independent editors change the same field, both new ones stand; where one deletes what the other changes, the
// new one stands.
type Draft struct {
	header  *Header
	fields  []draftField
	editors map[*Changes]editors
}

// MaxEditors is how many filters may edit one message.
const MaxEditors = 64

// editors is a set of them.
type editors uint64

type draftField struct {
	name   string
	raw    []byte
	own    bool // the message's own
	hidden bool // no editor sees it: what is no field, or does not reach the backend
	drop   bool // it does not reach the backend
	made   editors
	gone   editors
}

// NewDraft begins with the fields of a message. drop, which may be nil, tells of those that do not reach the backend.
func NewDraft(h *Header, drop func(*Field) bool) *Draft {
	d := &Draft{header: h, fields: make([]draftField, len(h.Fields)), editors: map[*Changes]editors{}}
	for i := range h.Fields {
		f := &h.Fields[i]
		dropped := f.Name != "" && drop != nil && drop(f)
		d.fields[i] = draftField{name: f.Name, raw: f.Raw, own: true, drop: dropped, hidden: dropped || f.Name == ""}
	}
	return d
}

// Apply makes one filter's changes, and before them those that they were made after.
func (d *Draft) Apply(c *Changes) {
	if c == nil || d.editors[c] != 0 || len(d.editors) == MaxEditors {
		return
	}
	d.Apply(c.After)
	self := editors(1) << len(d.editors)
	d.editors[c] = self
	sees := self | d.sees(c.After)
	for i := range c.Fields {
		d.edit(&c.Fields[i], self, sees)
	}
}

// sees is the editors whose changes are in what c left.
func (d *Draft) sees(c *Changes) (set editors) {
	for ; c != nil; c = c.After {
		set |= d.editors[c]
	}
	return set
}

func (d *Draft) edit(e *FieldEdit, self, sees editors) {
	added := draftField{name: e.Name, raw: e.Raw, made: self}
	switch e.Kind {
	case InsertField:
		d.fields = slices.Insert(d.fields, d.find(sees, e.Index, ""), added)
	case AppendField:
		d.fields = append(d.fields, added)
	case ChangeField, DeleteField:
		i := d.find(sees, e.Index, e.Name)
		if i < len(d.fields) {
			d.fields[i].gone |= self
			i++
		}
		if e.Kind == ChangeField {
			d.fields = slices.Insert(d.fields, i, added)
		}
	}
}

// find returns the place of the index-th field, of that name if there is one, or the place behind all.
func (d *Draft) find(sees editors, index int, name string) int {
	for i := range d.fields {
		f := &d.fields[i]
		if !f.seen(sees) || name != "" && !strings.EqualFold(f.name, name) {
			continue
		}
		if index--; index <= 0 {
			return i
		}
	}
	return len(d.fields)
}

func (f *draftField) seen(sees editors) bool {
	return !f.hidden && (f.own || f.made&sees != 0) && f.gone&sees == 0
}

// After yields the fields as they were after c; as they were at first with nil.
func (d *Draft) After(c *Changes) func(yield func(name string, raw []byte) bool) {
	sees := d.sees(c)
	return func(yield func(string, []byte) bool) {
		for i := range d.fields {
			if f := &d.fields[i]; f.seen(sees) && !yield(f.name, f.raw) {
				return
			}
		}
	}
}

// Splice is a change to the bytes of a message: those from Start up to End are left out, or Text stands before the one at
// Start.
type Splice struct {
	Start, End int64
	Text       []byte
}

// Splices are what the draft changes in the message, in order.
func (d *Draft) Splices() []Splice {
	var list []Splice
	at, next, open := int64(0), 0, false // open: the field above has no line end
	for i := range d.fields {
		f := &d.fields[i]
		switch {
		case f.own:
			own := &d.header.Fields[next]
			next++
			at = int64(own.Offset + len(own.Raw))
			if f.drop || f.gone != 0 {
				list = append(list, Splice{Start: int64(own.Offset), End: at})
			} else {
				open = len(own.Raw) > 0 && own.Raw[len(own.Raw)-1] != '\n'
			}
		case f.gone == 0:
			text := f.raw
			if open {
				text, open = append([]byte("\r\n"), text...), false
			}
			list = append(list, Splice{Start: at, End: at, Text: text})
		}
	}
	return list
}
