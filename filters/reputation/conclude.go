package reputation

import (
	"sync"

	"gatepost/filters"
)

// trial is what became of a transaction's recipients, as far as it is bad.
type trial struct {
	trapped  bool
	unknown  int
	refused  int
	circular bool // refused for what is known here
}

// trials are those of the transactions that are under way.
type trials struct {
	mu   sync.Mutex // guards open
	open map[*filters.Envelope]*trial
}

// maxTrials bounds them; proxies have fewer sessions. Beyond it, what is bad about a transaction's recipients is lost.
const maxTrials = 100_000

func newTrials() *trials { return &trials{open: map[*filters.Envelope]*trial{}} }

// note changes what is known of a transaction.
func (t *trials) note(e *filters.Envelope, change func(*trial)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.open[e]
	if one == nil {
		if len(t.open) >= maxTrials {
			return
		}
		one = &trial{}
		t.open[e] = one
	}
	change(one)
}

// end returns what is known of a transaction that has ended.
func (t *trials) end(e *filters.Envelope) trial {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.open[e]
	delete(t.open, e)
	if one == nil {
		return trial{}
	}
	return *one
}

// Concluded implements [filters.Witness].
func (f *Filter) Concluded(o *filters.Outcome) {
	v := &o.View
	switch {
	case v.Session == nil || v.Envelope == nil:
	case isOwn(v):
		// Our relays and users teach nothing about others, but a trap that a user writes to is none.
		if o.Kind == filters.RecipientOutcome {
			f.writtenToByUser(v)
		}
	case o.Kind == filters.RecipientOutcome:
		f.recipient(o)
	case o.Kind == filters.MessageOutcome:
		f.message(o)
	}
}

func isOwn(v *filters.View) bool {
	return v.Session.Trusted || v.Session.Submission || v.Greeting != nil && v.Greeting.AuthUser != ""
}

// recipient notes an answer to RCPT. One that tells the client to come back is none: he does, and is judged then. Only a
// trap is a trap even so, since most who write to one do not come back; who does is known here for a day.
func (f *Filter) recipient(o *filters.Outcome) {
	v := &o.View
	if v.Recipient == nil {
		return
	}
	if trap := f.trap(v.Recipient.ForwardPath); trap != "" {
		f.trapped(v, trap)
		return
	}
	switch {
	case v.Envelope.ReversePath == "":
		// A bounce comes from whoever was written to in our name, a callout from who wants to know: neither has the address
		// from a list. Otherwise spammers could spoil a network by sending it mail with our names on it.
	case o.Code/10 != 55:
	case o.Ours && reads(o.Reasons):
		f.trials.note(v.Envelope, func(t *trial) { t.circular = true })
	case !o.Ours && o.Enhanced == "5.1.1":
		f.trials.note(v.Envelope, func(t *trial) { t.unknown++ })
	default:
		f.trials.note(v.Envelope, func(t *trial) { t.refused++ })
	}
}

func (f *Filter) trapped(v *filters.View, trap string) {
	network := f.network(v.Session.Client.IP)
	if !f.retries.isNew(network+" "+v.Envelope.ReversePath+" "+trap, f.clock.Now()) {
		return
	}
	f.remember(hit{trap: trap, network: network})
	if v.Envelope.ReversePath != "" { // see recipient
		f.trials.note(v.Envelope, func(t *trial) { t.trapped = true })
	}
}

// message counts a transaction that has ended, once.
func (f *Filter) message(o *filters.Outcome) {
	v := &o.View
	n := judge(o, f.trials.end(v.Envelope))
	if n == (filters.Counts{}) {
		return
	}
	f.ledger.Tally(f.networkKey(v.Session.Client.IP), n, f.halfLife())
	if domain := proved(v); domain != "" {
		f.ledger.Tally(domainKey+domain, n, f.halfLife())
	}
	f.tallied.Add(1)
}

// judge finds what a transaction counts as: the worst that can be said of it, and nothing where we only told the client to
// come back, or where a rule let it pass that would have refused it otherwise.
func judge(o *filters.Outcome, t trial) (n filters.Counts) {
	accepted := len(o.View.Recipients)
	switch {
	case t.trapped:
		n.Trapped = 1
	case t.unknown > accepted+t.refused:
		n.Unknown = 1
	case accepted == 0:
		if t.refused > 0 && !t.circular {
			n.Refused = 1
		}
	case o.Code/10 == 55 && !(o.Ours && (o.Reasons == nil || reads(o.Reasons))):
		n.Refused = 1
	case o.Code == 250 && !o.Ours && !o.Excused:
		n.Delivered = 1
	}
	return n
}
