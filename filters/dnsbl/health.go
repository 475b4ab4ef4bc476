package dnsbl

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"gatepost/filters"
)

// subject is what a list can be asked about. Each has test points of its own, so a list can be sane for one and not for
// another.
type subject int

const (
	aboutIPv4 subject = iota
	aboutIPv6
	aboutDomains
	subjects
)

func (s subject) String() string { return [...]string{"IPv4", "IPv6", "domains"}[s] }

// testPoints are what every list must list, and what none may list (RFC 5782, 5).
var testPoints = [subjects]struct{ listed, clean string }{
	aboutIPv4:    {"2.0.0.127.", "1.0.0.127."},
	aboutIPv6:    {reversed(netip.MustParseAddr("::ffff:127.0.0.2")), reversed(netip.MustParseAddr("::ffff:127.0.0.1"))},
	aboutDomains: {"test.", "invalid."},
}

func familyOf(ip netip.Addr) subject {
	if ip.Is4() {
		return aboutIPv4
	}
	return aboutIPv6
}

// state is what is known of a list's health.
type state int

const (
	untested state = iota // the test has not got an answer yet
	sane
	insane
)

// list is one list with its health.
type list struct {
	name   string
	suffix string // key and zone; holds the secret: never print it
	codes  []codeRange
	about  []subject
	auto   bool // whether a list that fails the test for IPv6 just does not know IPv6
	tested bool // whether it must pass the test at all
	env    filters.Env
	wake   chan struct{} // tells the watch that the list refused

	mu     sync.Mutex // guards all below
	states [subjects]state
	told   [subjects]string // the reason that the log was told
	since  [subjects]time.Time
}

func newList(z *Zone, env filters.Env) *list {
	l := &list{
		name:   z.name(),
		suffix: z.domain() + ".",
		tested: z.Test != "off",
		auto:   z.IPv6 == "" || z.IPv6 == "auto",
		env:    env,
		wake:   make(chan struct{}, 1),
	}
	if key := z.Key.Reveal(); key != "" {
		l.suffix = key + "." + l.suffix
	}
	for _, text := range sortedKeys(z.Codes) {
		if r, err := parseRange(text); err == nil && z.Codes[text] != 0 {
			r.weight = z.Codes[text]
			l.codes = append(l.codes, r)
		}
	}
	switch {
	case z.Kind == kindDomain:
		l.about = []subject{aboutDomains}
	default:
		if z.IPv4 != "off" {
			l.about = append(l.about, aboutIPv4)
		}
		if z.IPv6 != "off" {
			l.about = append(l.about, aboutIPv6)
		}
	}
	if !l.tested {
		for _, s := range l.about {
			l.states[s] = sane
		}
	}
	return l
}

// covers tells whether the list is to be asked about such a subject. Many lists know no IPv6: with ipv6: auto one that
// passes the test for IPv4 alone is taken for one of them.
func (l *list) covers(s subject) bool {
	if !slices.Contains(l.about, s) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return s != aboutIPv6 || !l.auto || l.told[s] != reasonSilent || l.states[aboutIPv4] == insane
}

func (l *list) state(s subject) state {
	l.mu.Lock()
	defer l.mu.Unlock()
	// A list without test points that refused us gets another chance after a while.
	if !l.tested && l.states[s] == insane && l.env.Clock.Now().Sub(l.since[s]) >= retryLast {
		l.states[s] = sane
	}
	return l.states[s]
}

// Reasons for which a list is left out, with what to do.
const (
	reasonRefused = "it refuses to answer our resolver (127.255.255.x): use a resolver of your own instead of a public one, or ask the list for a key"
	reasonSilent  = "it does not list its test point: the list is dead or does not answer our resolver; remove it, or set test: off if it has no test points"
	reasonAll     = "it lists what no list may list: it answers everything; remove it"
)

// test asks for the test points. Without an answer nothing changes.
func (l *list) test(ctx context.Context, s subject) {
	listed, err := l.lookup(ctx, testPoints[s].listed)
	if err != nil {
		return
	}
	clean, err := l.lookup(ctx, testPoints[s].clean)
	if err != nil {
		return
	}
	switch {
	case refuses(listed) || refuses(clean):
		l.set(s, insane, reasonRefused)
	case lists(clean):
		l.set(s, insane, reasonAll)
	case !lists(listed):
		l.set(s, insane, reasonSilent)
	default:
		l.set(s, sane, "")
	}
}

// refused takes the list out because of an answer to a real question, and has it tested later.
func (l *list) refused(s subject) {
	l.set(s, insane, reasonRefused)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// set changes the health of a list and tells the log what is new.
func (l *list) set(s subject, to state, reason string) {
	l.mu.Lock()
	from, before := l.states[s], l.told[s]
	l.states[s], l.told[s], l.since[s] = to, reason, l.env.Clock.Now()
	l.mu.Unlock()
	switch {
	case to == insane && s == aboutIPv6 && l.auto && reason == reasonSilent:
		if before != reason {
			l.env.Log.Info("DNS list does not know IPv6 clients", "list", l.name)
		}
	case to == insane && before != reason:
		l.env.Log.Warn("DNS list is left out", "list", l.name, "about", s.String(), "reason", reason)
	case to == sane && from == insane:
		l.env.Log.Info("DNS list is in use again", "list", l.name, "about", s.String())
	}
}
