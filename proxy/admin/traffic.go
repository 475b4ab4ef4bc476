package admin

import (
	"strconv"
	"sync"
	"time"

	"gatepost/policy"
	"gatepost/proxy/telemetry"
)

const (
	// slot is the time that one counter of the ring is for.
	slot = 10 * time.Second
	// slots is how many there are: a day.
	slots = int(24 * time.Hour / slot)
	// maxRules bounds the rules whose outcomes are counted; a configuration has some dozens.
	maxRules = 4096
)

// Tally counts transactions by verdict, in the order of telemetry.Verdicts.
type Tally [len(telemetry.Verdicts)]uint32

// Total is how many there are.
func (t Tally) Total() (n uint64) {
	for _, one := range t {
		n += uint64(one)
	}
	return n
}

func (t *Tally) add(other Tally) {
	for i := range t {
		t[i] += other[i]
	}
}

// MarshalJSON writes an object with a number for every verdict.
func (t Tally) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, name := range telemetry.Verdicts {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, name...)
		b = append(b, `":`...)
		b = strconv.AppendUint(b, uint64(t[i]), 10)
	}
	return append(b, '}'), nil
}

// Traffic counts transactions as they end, over the last day, in memory. It is a policy.Recorder, safe for concurrent use.
type Traffic struct {
	mu    sync.Mutex // guards all below
	ring  [slots]Tally
	at    int64 // the slot, counted from 1970, that was written last
	rules map[string]*ruleTally
}

type ruleTally struct {
	outcomes Tally
	last     time.Time
}

// NewTraffic returns one that has counted nothing.
func NewTraffic() *Traffic { return &Traffic{rules: map[string]*ruleTally{}} }

// Record implements policy.Recorder.
func (t *Traffic) Record(r *policy.Record) {
	if r.Kind != policy.TransactionRecord {
		return
	}
	verdict := telemetry.VerdictOf(r)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.advance(r.End)
	t.ring[t.at%int64(slots)][verdict]++
	for i := range r.Matched {
		name := r.Matched[i].Rule.Name
		if matchedBefore(r.Matched[:i], name) {
			continue
		}
		n := t.rules[name]
		if n == nil {
			if len(t.rules) >= maxRules {
				continue
			}
			n = &ruleTally{}
			t.rules[name] = n
		}
		n.outcomes[verdict]++
		n.last = r.End
	}
}

// matchedBefore tells whether a rule has been counted for this record. The list of a transaction with many recipients is
// long, and a rule's matches stand near to each other: the last few are looked at.
func matchedBefore(matches []policy.Match, name string) bool {
	for i := len(matches) - 1; i >= max(0, len(matches)-64); i-- {
		if matches[i].Rule.Name == name {
			return true
		}
	}
	return false
}

// advance empties the slots that time has passed. A clock that was set back counts into the latest slot. t.mu is held.
func (t *Traffic) advance(now time.Time) {
	at := now.UnixNano() / int64(slot)
	if at <= t.at {
		return
	}
	for i := max(t.at+1, at-int64(slots)+1); i <= at; i++ {
		t.ring[i%int64(slots)] = Tally{}
	}
	t.at = at
}

// Over returns what ended in the last bars*width until now, the oldest bar first. width is a multiple of ten seconds, and all
// of it at most a day. The last bar is the one that is not over yet.
func (t *Traffic) Over(now time.Time, width time.Duration, bars int) []Tally {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.advance(now)
	list := make([]Tally, bars)
	each := int64(width / slot)
	last := t.at / each // bars begin at round times, so that they do not change from look to look
	for i := range list {
		bar := last - int64(bars-1-i)
		for k := bar * each; k < (bar+1)*each; k++ {
			if k > t.at-int64(slots) && k <= t.at {
				list[i].add(t.ring[k%int64(slots)])
			}
		}
	}
	return list
}

// Rule returns the outcomes of the transactions in which a rule matched, and when it did so last; the zero time is never.
func (t *Traffic) Rule(name string) (Tally, time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.rules[name]; n != nil {
		return n.outcomes, n.last
	}
	return Tally{}, time.Time{}
}
