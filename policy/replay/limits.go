package replay

import (
	"context"
	"math"
	"slices"
	"time"

	"gatepost/filters"
	"gatepost/filters/ratelimit"
	"gatepost/policy"
)

// limiting is what the rate limits would have counted under the new rules.
//
// What would have become of a recording is not always known, so there are two counts: most has all that may have come,
// least what surely has. What both say is so. With the limits that are tried, then counts what was recorded: while it has
// as much as the other two, what was recorded stands. Of most buckets nothing but that can be said, so that most counts
// for all three until a bucket is among changed; when they agree again, at the latest when it is full, it is so no longer.
type limiting struct {
	most, least, then *ratelimit.Filter // nil: off; most is the engine's
	settings          uint64
	clock             *clock
	changed           map[ratelimit.Bucket]struct{}
	// Limits by which it is not even known for whom something was counted, until all that it was is forgotten.
	anybodys map[string]time.Time
	// A connection counts once, however many transactions it brings.
	connections map[string]looked

	// For the recording at hand:
	recording *policy.Recording
	other     bool // it was made with other limits
	answered  int  // recipients that were counted
	concluded bool // the message was

	buckets []ratelimit.Bucket // for use again
}

type looked struct {
	facts any
	err   error
	ok    bool
}

const (
	maxConnections = 100_000   // sessions whose end has not come yet
	maxChanged     = 1_000_000 // beyond it, what was recorded stands for others

	// mostBytes is what a message is supposed to have at most that was neither seen nor announced.
	mostBytes = 50 << 20
)

func newLimiting(e *policy.Engine, c *clock) limiting {
	l := limiting{
		clock: c, settings: e.Settings().RateLimit,
		connections: map[string]looked{}, changed: map[ratelimit.Bucket]struct{}{}, anybodys: map[string]time.Time{},
	}
	if l.most, _ = e.Filter("ratelimit").(*ratelimit.Filter); l.most != nil {
		l.least, l.then = l.most.Twin(), l.most.Twin()
	}
	return l
}

func (l *limiting) begin(r *policy.Recording) {
	l.recording, l.other, l.answered, l.concluded = r, r.Settings.RateLimit != l.settings, 0, false
}

// simulates tells whether look is to be asked. While nothing has changed what was recorded stands; but connections are
// counted when they are looked at.
func (l *limiting) simulates(stage filters.Stage) bool {
	return l.most != nil && (l.other || stage == filters.AtConnect || len(l.changed) > 0 || len(l.anybodys) > 0)
}

// look does what [policy.Simulation] does.
func (l *limiting) look(stage filters.Stage, v filters.View, look func() (any, error)) (facts any, err error, ok bool) {
	if stage != filters.AtConnect {
		return l.find(stage, v, look)
	}
	if found, ok := l.connections[v.Session.ID]; ok {
		return found.facts, found.err, found.ok
	}
	facts, err, ok = l.find(stage, v, look)
	if len(l.connections) < maxConnections {
		l.connections[v.Session.ID] = looked{facts, err, ok}
	}
	return facts, err, ok
}

func (l *limiting) find(stage filters.Stage, v filters.View, look func() (any, error)) (facts any, err error, ok bool) {
	if l.isAnybodys(stage, v) {
		return nil, policy.ErrUntold, true
	}
	changed := l.hasChanged(stage, v)
	if changed || l.other || stage == filters.AtConnect { // where it counts
		facts, err = look()
	}
	if !changed {
		return facts, err, l.other
	}
	least := exceeded(l.least, stage, v)
	exceeded(l.then, stage, v)
	if err == nil && limitIn(facts) != least {
		err = policy.ErrUntold
	}
	return facts, err, true
}

// hasChanged tells whether one of the buckets that are looked at may be another than most says, or than then.
func (l *limiting) hasChanged(stage filters.Stage, v filters.View) (changed bool) {
	if len(l.changed) == 0 {
		return false
	}
	l.buckets = l.most.LookedAt(l.buckets[:0], stage, v)
	for _, b := range l.buckets {
		if _, is := l.changed[b]; !is {
			continue
		}
		if l.agree(b) {
			delete(l.changed, b)
		} else {
			changed = true
		}
	}
	return changed
}

func (l *limiting) agree(b ratelimit.Bucket) bool {
	most := l.most.Tokens(b)
	rounding := 1e-6 * float64(b.Burst())
	return math.Abs(l.least.Tokens(b)-most) <= rounding && (l.other || math.Abs(l.then.Tokens(b)-most) <= rounding)
}

// isAnybodys tells whether nobody knows what was counted in one of the buckets that are looked at.
func (l *limiting) isAnybodys(stage filters.Stage, v filters.View) bool {
	if len(l.anybodys) == 0 || stage == filters.AtConnect {
		return false
	}
	l.buckets = l.most.LookedAt(l.buckets[:0], stage, v)
	return slices.ContainsFunc(l.buckets, func(b ratelimit.Bucket) bool { return l.clock.now.Before(l.anybodys[b.Limit()]) })
}

// exceeded asks a filter for the limit that is exceeded.
func exceeded(f *ratelimit.Filter, stage filters.Stage, v filters.View) string {
	var facts any
	switch stage {
	case filters.AtConnect:
		facts, _ = f.Connect(context.Background(), v)
	case filters.AtMail:
		facts, _ = f.Mail(context.Background(), v)
	default:
		facts, _ = f.Rcpt(context.Background(), v)
	}
	return limitIn(facts)
}

func limitIn(facts any) string {
	switch f := facts.(type) {
	case *ratelimit.ConnectFacts:
		return f.Connection
	case *ratelimit.MailFacts:
		return f.Message
	case *ratelimit.RcptFacts:
		return f.Recipient
	default:
		return ""
	}
}
