package policy

import (
	"math"
	"net/netip"
	"reflect"
	"slices"

	"gatepost/filters"
)

// facts turns what was recorded into the struct that this engine's observation declares. It fails where a fact that a
// struct cannot leave out was not recorded, or is of another kind now.
func (p *Player) facts(o *observation, found any) (facts any, ok bool) {
	t := reflect.TypeOf(found)
	if t != nil && t.Kind() == reflect.Pointer && t.Elem() == o.spec.Facts {
		return found, true
	}
	values, ok := found.(Values)
	if !ok {
		return nil, false
	}
	plan := p.plan(o, values)
	if !plan.complete {
		return nil, false
	}
	made := reflect.New(o.spec.Facts)
	f := valuesFiller{plan: plan, target: made.Elem()}
	for _, i := range plan.floats {
		f.target.Field(i).SetFloat(math.NaN())
	}
	values.Visit(&f)
	return made.Interface(), !f.failed && f.seen == plan.needed
}

// maxValuePlans bounds what is remembered: a journal has new shapes in every block.
const maxValuePlans = 4096

type planKey struct {
	observation *filters.Observation
	shape       any
}

// valuesPlan says where the facts of a shape go.
type valuesPlan struct {
	fields   []playedField // by place in the shape; index -1: nowhere
	complete bool          // every fact that a struct cannot leave out is in the shape
	needed   int           // how many of those are never absent
	floats   []int         // fields that are absent by being no number
}

type playedField struct {
	index   int
	pointer bool
}

func (p *Player) plan(o *observation, values Values) *valuesPlan {
	key := planKey{o.spec, values.Shape()}
	if plan := p.plans[key]; plan != nil {
		return plan
	}
	if len(p.plans) >= maxValuePlans {
		clear(p.plans)
	}
	names := values.Names()
	plan := &valuesPlan{fields: slices.Repeat([]playedField{{index: -1}}, len(names)), complete: true}
	for i := range o.spec.Facts.NumField() {
		f := o.spec.Facts.Field(i)
		tag, ok := f.Tag.Lookup("fact")
		if !ok {
			continue
		}
		field := playedField{i, f.Type.Kind() == reflect.Pointer}
		place := slices.Index(names, o.filter+"."+tag)
		if place >= 0 {
			plan.fields[place] = field
		}
		if field.pointer {
			continue
		}
		plan.complete = plan.complete && place >= 0
		switch {
		case f.Type.Kind() == reflect.Float64:
			plan.floats = append(plan.floats, i)
		case f.Type != reflect.TypeFor[netip.Addr]():
			plan.needed++
		}
	}
	p.plans[key] = plan
	return plan
}

// valuesFiller fills a struct of facts with what it is told of.
type valuesFiller struct {
	plan   *valuesPlan
	target reflect.Value
	seen   int // of those that are needed
	failed bool
}

// field returns the field for a fact, or the zero Value.
func (f *valuesFiller) field(place int, fits func(reflect.Kind) bool) reflect.Value {
	if place >= len(f.plan.fields) || f.plan.fields[place].index < 0 {
		return reflect.Value{}
	}
	field := f.target.Field(f.plan.fields[place].index)
	kind := field.Type()
	if f.plan.fields[place].pointer {
		kind = kind.Elem()
	}
	if !fits(kind.Kind()) {
		f.failed = true
		return reflect.Value{}
	}
	if f.plan.fields[place].pointer {
		field.Set(reflect.New(kind))
		return field.Elem()
	}
	if kind.Kind() != reflect.Float64 && kind != reflect.TypeFor[netip.Addr]() {
		f.seen++
	}
	return field
}

func isBool(k reflect.Kind) bool   { return k == reflect.Bool }
func isText(k reflect.Kind) bool   { return k == reflect.String }
func isList(k reflect.Kind) bool   { return k == reflect.Slice }
func isStruct(k reflect.Kind) bool { return k == reflect.Struct }
func isNumber(k reflect.Kind) bool {
	return k == reflect.Int || k == reflect.Int32 || k == reflect.Int64 || k == reflect.Float64
}

func (f *valuesFiller) Bool(place int, value bool) {
	if field := f.field(place, isBool); field.IsValid() {
		field.SetBool(value)
	}
}

func (f *valuesFiller) Number(place int, value float64) {
	switch field := f.field(place, isNumber); {
	case !field.IsValid():
	case field.CanInt():
		field.SetInt(int64(value))
	default:
		field.SetFloat(value)
	}
}

func (f *valuesFiller) Text(place int, value string) {
	if field := f.field(place, isText); field.IsValid() {
		field.SetString(value)
	}
}

func (f *valuesFiller) List(place int, value []string) {
	if field := f.field(place, isList); field.IsValid() {
		field.Set(reflect.ValueOf(value))
	}
}

func (f *valuesFiller) Address(place int, value netip.Addr) {
	if field := f.field(place, isStruct); field.IsValid() {
		field.Set(reflect.ValueOf(value))
	}
}
