package replay

import (
	"net/netip"
	"slices"

	"gatepost/policy"
)

// valueOf reads one fact; nil if it is absent.
func valueOf(values policy.Values, name string) any {
	place := slices.Index(values.Names(), name)
	if place < 0 {
		return nil
	}
	v := one{place: place}
	values.Visit(&v)
	return v.value
}

// one keeps the fact at a place.
type one struct {
	place int
	value any
}

func (o *one) Bool(place int, value bool)          { keep(o, place, value) }
func (o *one) Number(place int, value float64)     { keep(o, place, value) }
func (o *one) Text(place int, value string)        { keep(o, place, value) }
func (o *one) List(place int, value []string)      { keep(o, place, value) }
func (o *one) Address(place int, value netip.Addr) { keep(o, place, value) }

func keep[T any](o *one, place int, value T) {
	if place == o.place {
		o.value = value
	}
}
