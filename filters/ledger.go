package filters

import (
	"context"
	"math"
	"time"
)

// Ledger is what a [Store] may also be: the site's memory of how things went with clients and domains, in counts that
// fade. It is safe for concurrent use.
//
// Keys are free text of at most 512 bytes; the ledger hashes what is longer. A standing that has faded to nothing does not
// exist.
type Ledger interface {
	// Tally adds counts of this moment to those under a key. It does not wait: they are written with many others, and seen
	// by the other proxies of a site within seconds. What there is no room for is lost.
	Tally(key string, n Counts, halfLife time.Duration)
	// Standings reads what is known under all keys, one entry per key; a key of which nothing is known has the zero
	// Standing. Tallies of the last half minute may be missing; of whom hundreds of messages are known, those of the last ten
	// minutes.
	Standings(ctx context.Context, keys []string) ([]Standing, error)
	// ForgetStandings removes what is known and returns under how many keys there was something.
	ForgetStandings(ctx context.Context, keys []string) (int, error)
	// RangeStandings calls yield for every key that starts with prefix, until it returns false. Order is undefined.
	RangeStandings(ctx context.Context, prefix string, yield func(key string, s Standing) bool) error
}

// MaxCount is how far counts are kept apart.
const MaxCount = 1e6

// faded is the sum of all counts below which nothing is left of them.
const faded = 0.05

// Counts are numbers of messages by how they ended. They are fractions, since they fade.
type Counts struct {
	Delivered float64 `json:"delivered"` // the backend took it
	Refused   float64 `json:"refused"`   // for good, by us or by the backend
	Unknown   float64 `json:"unknown"`   // most of its recipients do not exist
	Trapped   float64 `json:"trapped"`   // it was for a spam trap
}

// Total is the number of messages.
func (c Counts) Total() float64 { return c.Delivered + c.Refused + c.Unknown + c.Trapped }

// each makes counts out of those of c and o, one by one. They stay between 0 and MaxCount.
func (c Counts) each(o Counts, f func(a, b float64) float64) Counts {
	bounded := func(a, b float64) float64 { return max(0, min(f(a, b), MaxCount)) }
	return Counts{
		Delivered: bounded(c.Delivered, o.Delivered), Refused: bounded(c.Refused, o.Refused),
		Unknown: bounded(c.Unknown, o.Unknown), Trapped: bounded(c.Trapped, o.Trapped),
	}
}

// Standing is what is known under a key of a [Ledger]: the counts as they were at a moment. Half of them is left a
// half-life later.
type Standing struct {
	Counts
	At       time.Time     `json:"at"` // of the latest tally
	HalfLife time.Duration `json:"half_life"`
}

// NewStanding is what is known by counts of that moment alone, in the resolution that stores keep: milliseconds, and whole
// seconds of half-life.
func NewStanding(now time.Time, n Counts, halfLife time.Duration) Standing {
	halfLife = min(max(halfLife.Truncate(time.Second), time.Second), math.MaxUint32*time.Second)
	return Standing{Counts: n, At: now.Truncate(time.Millisecond).UTC(), HalfLife: halfLife}.Add(Standing{})
}

// Exists tells a standing from the zero value.
func (s Standing) Exists() bool { return !s.At.IsZero() }

// On is what is left of the counts at a moment; before At, all of them.
func (s Standing) On(now time.Time) Counts {
	if !s.Exists() || !now.After(s.At) || s.HalfLife <= 0 {
		return s.Counts
	}
	left := math.Exp2(-now.Sub(s.At).Seconds() / s.HalfLife.Seconds())
	return s.each(Counts{}, func(a, _ float64) float64 { return a * left })
}

// Expires is when nothing is left of it.
func (s Standing) Expires() time.Time {
	total := s.Total()
	if !s.Exists() || total <= faded {
		return s.At
	}
	return s.At.Add(time.Duration(s.HalfLife.Seconds() * math.Log2(total/faded) * float64(time.Second)))
}

// Live is s, or the zero Standing if nothing is left of it.
func (s Standing) Live(now time.Time) Standing {
	if s.Total() <= faded || !s.Expires().After(now) {
		return Standing{}
	}
	return s
}

// Add is what two parts of a history come to together; it does not matter which was counted first. The half-life of the
// later one holds.
func (s Standing) Add(o Standing) Standing {
	return s.join(o, func(a, b float64) float64 { return a + b })
}

// Merge is what two memories know that may have counted the same messages: the more of each kind. To merge them again
// changes nothing.
func (s Standing) Merge(o Standing) Standing { return s.join(o, math.Max) }

func (s Standing) join(o Standing, f func(a, b float64) float64) Standing {
	if !s.Exists() {
		s = Standing{At: o.At, HalfLife: o.HalfLife}
	}
	if !o.Exists() {
		o = Standing{At: s.At, HalfLife: s.HalfLife}
	}
	if s.At.Before(o.At) || s.At.Equal(o.At) && s.HalfLife < o.HalfLife {
		s, o = o, s
	}
	s.Counts = s.each(o.On(s.At), f)
	return s
}
