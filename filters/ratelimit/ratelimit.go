// Package ratelimit tells who comes too often.
//
// A limit is a token bucket per client network, sender domain or recipient. Connections take their token when they
// come. Everything else is looked at when it begins and taken when it has ended, because only then it is known whether
// it counts: what we deferred ourselves (greylisting, another limit) does not, or a sender could never get through
// (the deadlock of rspamd issue 1498). So between look and take others may look too, and a limit can be exceeded by the
// transactions that are under way at the same time; the bucket is then in debt, and the rate holds in the long run. The
// debt of one message or recipient is at most a whole bucket, so nobody waits longer than a bucket takes to fill, per
// transaction that was under way. The alternative, to reserve first and to give back, would need a memory per session
// and would lose tokens with every session that breaks off.
package ratelimit

import (
	"context"
	"fmt"
	"hash/crc32"
	"math"
	"net/netip"
	"slices"
	"strings"

	"gatepost/filters"
)

// Spec describes the filter.
var Spec = filters.Define("ratelimit", "Does this client, sender domain or recipient get too much too fast?", Defaults, New,
	filters.On(filters.AtConnect, (*Filter).Connect, filters.Inline()),
	filters.On(filters.AtMail, (*Filter).Mail, filters.Inline()),
	filters.On(filters.AtRcpt, (*Filter).Rcpt, filters.Inline()))

// ConnectFacts are known when a client has connected.
type ConnectFacts struct {
	// The name of the limit on connections that the client exceeds, or of a limit on its refused recipients, abandoned
	// transactions or bytes that it has used up; empty if there is none.
	Connection string `fact:"connection"`
}

// withinLimits are the facts of most clients. Shared, never written.
var withinLimits = &ConnectFacts{}

// MailFacts are known at MAIL.
type MailFacts struct {
	// The name of the limit on messages, abandoned transactions or bytes that the client or the sender's domain has used
	// up; empty if there is none.
	Message string `fact:"message"`
}

// RcptFacts are known at RCPT.
type RcptFacts struct {
	// The name of the limit on recipients, or refused recipients, that the client, the sender's domain or the
	// recipient has used up; empty if there is none.
	Recipient string `fact:"recipient"`
}

// Filter is safe for concurrent use.
type Filter struct {
	limits  []limit
	clock   filters.Clock
	time    *steadyTime
	counter counter
	strict  bool // fail rather than know this proxy's part only
}

var (
	_ filters.Witness  = (*Filter)(nil)
	_ filters.Adopter  = (*Filter)(nil)
	_ filters.Foreseer = (*Filter)(nil)
)

// limit is a Limit made ready.
type limit struct {
	Limit
	id        string
	sharedID  string // short, and the same in every proxy
	perSecond float64
	burst     int
}

// New makes the filter. Without limits there is none.
func New(config Config, env filters.Env) (*Filter, error) {
	if len(config.Limits) == 0 {
		return nil, nil
	}
	f := &Filter{clock: env.Clock, time: &steadyTime{}, counter: newBuckets(maxBuckets), strict: env.DeferOnError}
	if meter, ok := env.Store.(filters.Meter); ok {
		f.counter = siteWide{meter}
	}
	for _, l := range config.Limits {
		if l.Burst.N == 0 {
			l.Burst = l.Rate.Amount
		}
		if l.IPv4Prefix == 0 {
			l.IPv4Prefix = 32
		}
		if l.IPv6Prefix == 0 {
			l.IPv6Prefix = 64
		}
		id := fmt.Sprint(l)
		f.limits = append(f.limits, limit{
			Limit:     l,
			id:        id,
			sharedID:  fmt.Sprintf("%s.%08x", l.Name, crc32.ChecksumIEEE([]byte(id))),
			perSecond: l.Rate.perSecond(),
			burst:     int(min(l.Burst.N, math.MaxInt)),
		})
	}
	return f, nil
}

// Adopt implements [filters.Adopter]: who was over a limit stays so over a reload, unless the limit was changed.
func (f *Filter) Adopt(previous any) {
	p, ok := previous.(*Filter)
	if !ok {
		return
	}
	f.time = p.time
	if _, local := f.counter.(*buckets); local {
		f.counter = p.counter
	}
}

// What is looked at when, which is also what is counted when a recipient (atRcpt) or a message (atMail) has ended.
var (
	atConnect = []string{countConnections, countRefused, countAbandoned, countBytes} // of a client's limits
	atMail    = []string{countMessages, countAbandoned, countBytes}
	atRcpt    = []string{countRecipients, countRefused}
)

// Connect counts the connection.
func (f *Filter) Connect(ctx context.Context, v filters.View) (*ConnectFacts, error) {
	facts, now := withinLimits, f.time.at(f.clock.Now())
	for i := range f.limits {
		l := &f.limits[i]
		key, ok := l.key(&v)
		exceeded, err := false, error(nil)
		switch {
		case !ok || l.Per != perClient:
		case l.Count == countConnections:
			exceeded, err = f.counter.allow(ctx, key, l, now)
			exceeded = !exceeded
		case l.Count == countRefused || l.Count == countAbandoned || l.Count == countBytes:
			exceeded, err = f.counter.isEmpty(ctx, key, l, now)
		}
		if err != nil && f.strict {
			return nil, err
		}
		if exceeded && facts == withinLimits {
			facts = &ConnectFacts{Connection: l.Name}
		}
	}
	return facts, nil
}

// Mail looks whether a message may come.
func (f *Filter) Mail(ctx context.Context, v filters.View) (*MailFacts, error) {
	name, err := f.usedUp(ctx, &v, atMail)
	return &MailFacts{name}, err
}

// Rcpt looks whether a recipient may come.
func (f *Filter) Rcpt(ctx context.Context, v filters.View) (*RcptFacts, error) {
	name, err := f.usedUp(ctx, &v, atRcpt)
	return &RcptFacts{name}, err
}

// Foresees implements [filters.Foreseer]: there is a token for the next recipient, even if all those under way take one.
func (f *Filter) Foresees(v filters.View, n int) bool {
	now := f.time.at(f.clock.Now())
	for i := range f.limits {
		l := &f.limits[i]
		if l.Count != countRecipients && l.Count != countRefused {
			continue
		}
		if key, ok := l.key(&v); ok && f.counter.tokens(key, l, now) < float64(n)+oneToken {
			return false
		}
	}
	return true
}

// usedUp names the first limit on one of the counts that has no token left.
func (f *Filter) usedUp(ctx context.Context, v *filters.View, counts []string) (name string, err error) {
	now := f.time.at(f.clock.Now())
	for i := range f.limits {
		l := &f.limits[i]
		if !slices.Contains(counts, l.Count) {
			continue
		}
		key, ok := l.key(v)
		if !ok {
			continue
		}
		empty, err := f.counter.isEmpty(ctx, key, l, now)
		if err != nil && f.strict {
			return "", err
		}
		if empty {
			return l.Name, nil
		}
	}
	return "", nil
}

// Concluded implements [filters.Witness]: it takes the tokens of what has ended.
func (f *Filter) Concluded(o *filters.Outcome) {
	deferredByUs := o.Ours && o.Code >= 400 && o.Code < 500
	if o.Kind == filters.SessionOutcome || o.Code == 0 && !o.GivenUp || deferredByUs {
		return
	}
	now := f.time.at(f.clock.Now())
	for i := range f.limits {
		l := &f.limits[i]
		n := l.weight(o)
		if n == 0 {
			continue
		}
		if key, ok := l.key(&o.View); ok {
			f.counter.take(key, l, n, now)
		}
	}
}

// weight is how many tokens of the limit an outcome takes.
func (l *limit) weight(o *filters.Outcome) int64 {
	switch {
	case o.GivenUp:
		if l.Count == countAbandoned {
			return 1
		}
	case o.Kind == filters.MessageOutcome && l.Count == countMessages,
		o.Kind == filters.RecipientOutcome && l.Count == countRecipients,
		o.Kind == filters.RecipientOutcome && l.Count == countRefused && o.Code >= 500:
		return 1
	case o.Kind == filters.MessageOutcome && l.Count == countBytes:
		return max(o.Size, 0)
	}
	return 0
}

// key names the bucket for what the view is about; ok is false where there is nothing to count by, such as the domain
// of the null sender.
func (l *limit) key(v *filters.View) (key bucketKey, ok bool) {
	key.limit = l.id
	switch l.Per {
	case perClient:
		key.network = l.network(v.Session.Client.IP)
		return key, true
	case perSenderDomain:
		if v.Envelope != nil {
			_, key.text = filters.SplitAddress(v.Envelope.ReversePath)
		}
	case perRecipient:
		if v.Recipient != nil {
			key.text = strings.ToLower(v.Recipient.ForwardPath)
		}
	}
	if len(key.text) > maxText {
		key.text = key.text[:maxText]
	}
	return key, key.text != ""
}

// network is the zero Prefix for a client without an IP address: all those count as one.
func (l *limit) network(client netip.Addr) netip.Prefix {
	client = client.Unmap().WithZone("")
	bits := l.IPv6Prefix
	if client.Is4() {
		bits = l.IPv4Prefix
	}
	prefix, err := client.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}
