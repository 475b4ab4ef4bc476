package recommend

import (
	"net/netip"
	"strings"
	"time"

	"gatepost/filters"
	"gatepost/filters/greylist"
	"gatepost/policy"
	"gatepost/policy/replay"
	"gatepost/rules"
)

// retries follows envelopes that were told to come back. An envelope is sender and recipient: a mail server repeats both
// to the letter, whatever address it comes from.
type retries struct {
	config greylist.Config
	waits  map[envelope]*wait
	all    []*wait // in order of their first attempts
}

type envelope struct{ sender, recipient string }

// wait is one envelope from its first attempt on.
type wait struct {
	first   time.Time
	sender  string
	network netip.Prefix
	proved  bool  // SPF proved the domain: another address of it passes, too
	tries   []try // later attempts, in order
}

// try is a later attempt.
type try struct {
	after     time.Duration
	network   netip.Prefix
	delivered bool
}

// Bounds. horizon is for how long a return is still taken for one: mail servers give up after five days (RFC 5321,
// 4.5.4.1).
const (
	maxWaits = 500_000
	maxTries = 30
	horizon  = 5 * 24 * time.Hour
)

func newRetries(c greylist.Config) *retries {
	return &retries{config: c, waits: map[envelope]*wait{}}
}

func (t *retries) add(r *policy.Recording) {
	sender := strings.ToLower(r.Envelope.ReversePath)
	if sender == "" || strings.HasPrefix(sender, "*@") { // bounces have no sender, and a journal that cuts addresses knows none
		return
	}
	network := t.network(r.Session.Client.IP)
	for i := range r.Recipients {
		key := envelope{sender, strings.ToLower(r.Recipients[i].Address)}
		if w := t.waits[key]; w != nil && r.Start.Sub(w.first) <= horizon {
			if len(w.tries) < maxTries {
				w.tries = append(w.tries, try{r.Start.Sub(w.first), network, delivered(r)})
			}
			return
		}
	}
	if len(r.Recipients) == 0 || r.Recipients[0].Action != rules.Greylist || r.Attempt == nil || r.Attempt.State != filters.GreylistNew ||
		len(t.all) >= maxWaits {
		return
	}
	w := &wait{first: r.Start, sender: sender, network: network, proved: proved(r)}
	t.waits[envelope{sender, strings.ToLower(r.Recipients[0].Address)}] = w
	t.all = append(t.all, w)
}

// proved tells whether the greylister knows the sender by its domain (filters/greylist/keys.go).
func proved(r *policy.Recording) bool {
	facts := replay.FactsOf(r.Looks)
	result, _ := facts.Text("spf.result")
	wide, told := facts.Bool("spf.wide")
	return result == "pass" && told && !wide
}

func (t *retries) network(client netip.Addr) netip.Prefix {
	client = client.Unmap().WithZone("")
	bits := t.config.IPv6Prefix
	if client.Is4() {
		bits = t.config.IPv4Prefix
	}
	network, _ := client.Prefix(bits)
	return network
}

// passing is the first try that comes when a delay is over.
func (w *wait) passing(delay time.Duration) (after time.Duration, ok bool) {
	for _, t := range w.tries {
		if t.after >= delay {
			return t.after, true
		}
	}
	return 0, false
}

// Greylisting is what is found about delay and window.
type Greylisting struct {
	Waits    int              `json:"first_attempts"` // that were told to come back, and had the time to
	Returned int              `json:"came_back"`      // after the delay in force, at any time
	KeptOut  int              `json:"kept_out"`       // would not have passed with the recommended delay
	Retry    Spread           `json:"first_retry"`    // of those that came back
	Pass     Spread           `json:"passing_retry"`  // with the recommended delay
	HeldUp   filters.Duration `json:"held_up"`        // half of them: to their passing retry with the delay in force
	Delay    filters.Duration `json:"delay"`
	Window   filters.Duration `json:"window"`
}

// Samples below these say too little.
const (
	fewReturns = 20
	fewClients = 20
)

// Greylisting recommends a delay and a window. ok is false where too few senders have come back, or greylisting is off.
//
// The delay is what 95 % of the senders that come back respect with their first retry anyway, with a tenth to spare for
// those whose timers jitter: a longer one makes more of them wait for their second, a shorter one hardly hurries anybody up
// and lets in who repeats at once. The window is one
// and a half times as long as 99 % of them take.
func (s *Survey) Greylisting() (g Greylisting, ok bool) {
	t := s.greylist
	if t == nil {
		return g, false
	}
	var first, now []time.Duration
	for _, w := range t.all {
		if s.ended.Sub(w.first) < time.Duration(t.config.Delay) {
			continue
		}
		g.Waits++
		if after, ok := w.passing(time.Duration(t.config.Delay)); ok {
			first, now = append(first, w.tries[0].after), append(now, after)
		}
	}
	g.Returned, g.Retry, g.HeldUp = len(first), spreadOf(first), spreadOf(now).P50
	if len(first) < fewReturns {
		return g, false
	}
	g.Delay = filters.Duration(stepBelow(delays, quantile(first, 0.05)*9/10))
	var passing []time.Duration
	for _, w := range t.all {
		if after, ok := w.passing(time.Duration(g.Delay)); ok {
			passing = append(passing, after)
		} else if s.ended.Sub(w.first) >= time.Duration(t.config.Delay) {
			g.KeptOut++
		}
	}
	g.Pass = spreadOf(passing)
	g.Window = filters.Duration(stepAbove(windows, time.Duration(g.Pass.P99)*3/2))
	return g, true
}

// Delays and windows that people write down. RFC 6647, 5: a delay from one minute on; below four hours a window gets in
// the way of servers that come back seldom.
var (
	delays  = []time.Duration{1 * time.Minute, 2 * time.Minute, 3 * time.Minute, 4 * time.Minute, 5 * time.Minute, 7 * time.Minute, 10 * time.Minute, 15 * time.Minute, 20 * time.Minute, 30 * time.Minute}
	windows = []time.Duration{4 * time.Hour, 6 * time.Hour, 8 * time.Hour, 12 * time.Hour, 24 * time.Hour, 36 * time.Hour, 48 * time.Hour, 72 * time.Hour, 96 * time.Hour, 120 * time.Hour}
)

// stepBelow is the last step that is not above d, or the first one.
func stepBelow(steps []time.Duration, d time.Duration) time.Duration {
	found := steps[0]
	for _, s := range steps {
		if s <= d {
			found = s
		}
	}
	return found
}

// stepAbove is the first step that is not below d, or the last one.
func stepAbove(steps []time.Duration, d time.Duration) time.Duration {
	for _, s := range steps {
		if s >= d {
			return s
		}
	}
	return steps[len(steps)-1]
}
