package milter

import (
	"context"
	"errors"
	"time"

	"gatepost/filters"
)

// specName is the key of the list.
const specName = "milter"

// Spec describes the filter; there may be several of it.
var Spec = func() filters.Spec {
	spec := filters.Define(specName, "What do other milters say?", Defaults, New,
		filters.On(filters.AtMessage, (*Filter).Message, filters.After("rdns")))
	spec.Several = true
	return spec
}()

// Facts are what one milter said. Its name stands between: milter.NAME.action.
type Facts struct {
	// What it wants done with the message. It asks for `accept` or `continue` when it has nothing against it.
	Action string `fact:"action" values:"continue accept reject defer discard"`
	// It refuses the message for good.
	Rejects bool `fact:"rejects"`
	// It refuses the message for now.
	Defers bool `fact:"defers"`
	// It wants the message thrown away.
	Discards bool `fact:"discards"`
	// It wants the message held; the reason that it gave. Absent if it does not.
	Quarantine *string `fact:"quarantine"`
	// The stage at which it spoke.
	Stage string `fact:"stage" values:"connect helo mail rcpt data header body end"`
	// Its own reply in full, such as "550 5.7.1 Spam message rejected"; absent if it gave none. A rule gives it to the client
	// with `reply: "{milter.NAME.reply}"`.
	Reply *string `fact:"reply" reply:"smtp"`
	// The reply's code.
	Code *int `fact:"code"`
	// Recipients that it refused, while others stay.
	RefusedRecipients []string `fact:"refused_recipients"`
	// Header fields that it adds or changes, as "Name: value", unfolded.
	Headers []string `fact:"headers"`
	// All that it wants changed and that is allowed, one text each: "insert 1 X-Spam: yes", "add …", "change 1 …",
	// "delete 1 X-Spam", "body 1234 bytes", "add recipient <…>", "delete recipient <…>", "sender <…>".
	Edits []string `fact:"edits"`
	// What it wants changed beyond that: it is not done.
	RefusedEdits []string `fact:"refused_edits"`

	changes *filters.Changes
}

// Changes implements filters.Editor.
func (f *Facts) Changes() *filters.Changes { return f.changes }

// Filter asks one milter.
type Filter struct {
	config  Config
	env     filters.Env
	pool    *pool
	breaker *breaker
	counts  *counts
}

// New makes the filter of one milter.
func New(c Config, env filters.Env) (*Filter, error) {
	if c.DaemonName == "" {
		c.DaemonName = env.Hostname
	}
	return &Filter{
		config:  c,
		env:     env,
		pool:    newPool(c.Connections, c.Reuse == reuseAlways),
		counts:  &counts{},
		breaker: &breaker{name: c.Name, limit: c.Failures, pause: time.Duration(c.Pause), clock: env.Clock, log: env.Log},
	}, nil
}

// MayEdit tells the policy whether the milter is asked even if no rule reads its facts.
func (f *Filter) MayEdit() bool { return len(f.config.Edits) > 0 && f.config.Mode == modeEnforce }

// Run closes connections that nobody needs any more.
func (f *Filter) Run(ctx context.Context) { f.pool.run(ctx) }

// Circuit implements filters.Breaker.
func (f *Filter) Circuit() filters.Circuit { return f.breaker.circuit() }

// Adopt implements filters.Adopter: a milter that was not asked is not asked after a reload either.
func (f *Filter) Adopt(previous any) {
	if old, ok := previous.(*Filter); ok && old.config.Address == f.config.Address {
		f.breaker.adopt(old.breaker)
		f.counts = old.counts
	}
}

// Concluded implements filters.Witness: a client has left.
func (f *Filter) Concluded(o *filters.Outcome) {
	if o.Kind == filters.SessionOutcome {
		f.pool.end(o.View.Session)
	}
}

// Message plays the message to the milter.
func (f *Filter) Message(ctx context.Context, v filters.View) (*Facts, error) {
	if f.env.Dialer == nil {
		return nil, errors.New("there is nothing here to connect with")
	}
	if err := f.breaker.ask(); err != nil {
		return nil, err
	}
	facts, err := f.attempt(ctx, v)
	var theirs *fault
	switch {
	case err == nil:
		f.breaker.succeeded()
	case errors.As(err, &theirs):
		f.breaker.failed(err)
	default:
		f.breaker.gaveUp()
	}
	return facts, err
}

// fault is an error that is the milter's, rather than the client's who left.
type fault struct{ err error }

func (f *fault) Error() string { return f.err.Error() }

func (f *fault) Unwrap() error { return f.err }
