package recommend

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"gatepost/filters"
	"gatepost/filters/ratelimit"
	"gatepost/policy"
	"gatepost/rules"
)

// usage follows what one limit counts.
type usage struct {
	limit  ratelimit.Limit
	slot   time.Duration
	meters map[string]*meter
}

// slots is into how many parts the time of a rate is cut. The most that came within that time is overestimated by one of
// them at most.
const slots = 12

// meter is the most that came from one client, domain or recipient within the time of a rate.
type meter struct {
	last   int64 // slot
	counts [slots + 1]int64
	peak   int64
	good   bool // the mail server took mail of it
}

const maxMeters = 300_000

func newUsage(l ratelimit.Limit) *usage {
	if l.IPv4Prefix == 0 {
		l.IPv4Prefix = 32
	}
	if l.IPv6Prefix == 0 {
		l.IPv6Prefix = 64
	}
	return &usage{limit: l, slot: max(time.Duration(l.Rate.Per)/slots, time.Millisecond), meters: map[string]*meter{}}
}

func (m *meter) add(slot, n int64) {
	for ; m.last < slot; m.last++ {
		if slot-m.last > slots { // all of it is past
			m.counts, m.last = [slots + 1]int64{}, slot-1
		}
		m.counts[(m.last+1)%(slots+1)] = 0
	}
	m.counts[m.last%(slots+1)] += n
	sum := int64(0)
	for _, c := range m.counts {
		sum += c
	}
	m.peak = max(m.peak, sum)
}

func (u *usage) add(r *policy.Recording) {
	if u.limit.Per != "recipient" {
		u.count(u.owner(r, ""), r, u.weight(r))
		return
	}
	for i := range r.Recipients {
		if weight := recipientWeight(&r.Recipients[i], u.limit.Count); weight > 0 {
			u.count(u.owner(r, r.Recipients[i].Address), r, weight)
		}
	}
}

func (u *usage) count(owner string, r *policy.Recording, n int64) {
	m := u.meters[owner]
	if owner == "" || m == nil && (n == 0 && !delivered(r) || len(u.meters) >= maxMeters) {
		return
	}
	slot := r.Start.UnixNano() / int64(u.slot)
	if m == nil {
		m = &meter{last: slot}
		u.meters[owner] = m
	}
	m.good = m.good || delivered(r)
	if n > 0 {
		m.add(slot, n)
	}
}

// owner is for whom it is counted, as filters/ratelimit has it; empty where there is nobody.
func (u *usage) owner(r *policy.Recording, recipient string) string {
	switch u.limit.Per {
	case "client":
		client := r.Session.Client.IP.Unmap().WithZone("")
		bits := u.limit.IPv6Prefix
		if client.Is4() {
			bits = u.limit.IPv4Prefix
		}
		if network, err := client.Prefix(bits); err == nil {
			return network.String()
		}
	case "sender_domain":
		if r.Envelope != nil {
			_, domain := filters.SplitAddress(r.Envelope.ReversePath)
			return domain
		}
	default:
		return strings.ToLower(recipient)
	}
	return ""
}

// weight is how much of what the limit counts a recording is.
func (u *usage) weight(r *policy.Recording) (n int64) {
	switch count := u.limit.Count; {
	case r.Envelope == nil:
		if count == "connections" {
			n = 1
		}
	case count == "recipients" || count == "refused":
		for i := range r.Recipients {
			n += recipientWeight(&r.Recipients[i], count)
		}
	case r.Reply.Code == 0 || r.Ours && r.Reply.Code/100 == 4: // it came to nothing, or we deferred it: not counted
	case count == "messages":
		n = 1
	case count == "bytes":
		n = max(r.Size, 0)
	}
	return n
}

func recipientWeight(r *policy.RecordedRecipient, count string) int64 {
	deferred := r.Reply.Code/100 == 4 && r.Ours
	if r.Reply.Code == 0 || deferred || r.Action == rules.Drop || count == "refused" && r.Reply.Code < 500 {
		return 0
	}
	return 1
}

// Limit is what is found about a limit.
type Limit struct {
	Name      string   `json:"limit"`
	Count     string   `json:"count"`
	Per       string   `json:"per"`
	Span      string   `json:"span"`        // the time of the rate
	Now       int64    `json:"now"`         // what is allowed in it
	All       int      `json:"all"`         // clients, domains or recipients
	Good      int      `json:"good"`        // of which the mail server took mail
	P50       int64    `json:"p50"`         // the most within the time, of good ones
	P99       int64    `json:"p99"`         //
	Max       int64    `json:"max"`         //
	Amount    int64    `json:"recommended"` //
	OverNow   int      `json:"over_now"`    // good ones that came above what is allowed
	Over      int      `json:"over"`        // good ones that would be above what is recommended
	OverBad   int      `json:"over_bad"`    // others that would be
	Exceeding []string `json:"exceeding"`   // the first of the good ones that would be
}

const namesShown = 5

// Limits recommends amounts: twice of what 99 % of good clients (domains, recipients) have at most in the time of the
// rate. Those of whom too few are known are left out.
func (s *Survey) Limits() []Limit {
	var list []Limit
	for _, u := range s.limits {
		if l, ok := u.find(); ok {
			list = append(list, l)
		}
	}
	return list
}

func (u *usage) find() (l Limit, ok bool) {
	l = Limit{Name: u.limit.Name, Count: u.limit.Count, Per: u.limit.Per, Span: u.limit.Rate.Per.String(), Now: u.limit.Rate.Amount.N, All: len(u.meters)}
	var good []int64
	for _, m := range u.meters {
		if m.good {
			good = append(good, m.peak)
		}
	}
	if l.Good = len(good); l.Good < fewClients || u.limit.Count == "abandoned" {
		return l, false
	}
	slices.Sort(good)
	l.P50, l.P99, l.Max = quantile(good, 0.5), quantile(good, 0.99), quantile(good, 1)
	l.Amount = roundUp(2*l.P99, u.limit.Count == "bytes")
	type over struct {
		name string
		peak int64
	}
	var exceeding []over
	for name, m := range u.meters {
		if m.good && m.peak > max(l.Now, u.limit.Burst.N) {
			l.OverNow++
		}
		switch {
		case m.peak <= l.Amount:
		case m.good:
			exceeding = append(exceeding, over{name, m.peak})
		default:
			l.OverBad++
		}
	}
	l.Over = len(exceeding)
	slices.SortFunc(exceeding, func(a, b over) int { return cmp.Or(cmp.Compare(b.peak, a.peak), cmp.Compare(a.name, b.name)) })
	for _, o := range exceeding[:min(len(exceeding), namesShown)] {
		l.Exceeding = append(l.Exceeding, o.name)
	}
	return l, true
}

// Least amounts: below them a limit is a nuisance and no defence.
const (
	leastCount = 10
	leastBytes = 10 << 20
)

// roundUp is a number that people write down: one, one and a half, two, three, five or seven with zeros behind it; bytes
// in MiB.
func roundUp(n int64, bytes bool) int64 {
	unit := int64(1)
	if bytes {
		n, unit = max(n, leastBytes), 1<<20
		n = (n + unit - 1) / unit
	} else {
		n = max(n, leastCount)
	}
	for power := int64(1); power < math.MaxInt64/100; power *= 10 {
		for _, tenths := range []int64{10, 15, 20, 30, 50, 70} {
			if round := tenths * power / 10; round >= n && tenths*power%10 == 0 {
				return round * unit
			}
		}
	}
	return n * unit
}
