package exception

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"gatepost/filters"
)

// Spec describes the filter.
var Spec = filters.Define("exception", "Has an operator allowed or blocked the client, the sender or the recipient for a time?", Defaults, New,
	filters.On(filters.AtConnect, (*Filter).Connect, filters.Inline()),
	filters.On(filters.AtMail, (*Filter).Mail, filters.Inline()),
	filters.On(filters.AtRcpt, (*Filter).Rcpt, filters.Inline(), filters.Independent()))

// Config has no keys: there is nothing to choose.
type Config struct{}

// Defaults returns the configuration where nothing is configured.
func Defaults() Config { return Config{} }

// ClientFacts are about the client's address.
type ClientFacts struct {
	// What `gatepost allow` or `gatepost block` said of the client's address, or of the smallest network around it.
	Client string `fact:"client" values:"none allowed blocked"`
	// Why, in the operator's words; absent if he gave no reason or there is no exception. Not for replies.
	ClientWhy *string `fact:"client_why"`
}

// SenderFacts are about the reverse-path.
type SenderFacts struct {
	// The same of the sender's address, or else its domain. Anybody can write a sender's name on an envelope.
	Sender string `fact:"sender" values:"none allowed blocked"`
	// Why, in the operator's words; absent if there is none.
	SenderWhy *string `fact:"sender_why"`
}

// RecipientFacts are about one recipient.
type RecipientFacts struct {
	// The same of the recipient's address, or else its domain.
	Recipient string `fact:"recipient" values:"none allowed blocked"`
	// Why, in the operator's words; absent if there is none.
	RecipientWhy *string `fact:"recipient_why"`
}

const none = "none"

// What nearly every look-up finds; shared, never written.
var (
	noClient    = &ClientFacts{Client: none}
	noSender    = &SenderFacts{Sender: none}
	noRecipient = &RecipientFacts{Recipient: none}
)

// Filter looks exceptions up and changes them. It is safe for concurrent use.
type Filter struct {
	*memory // shared by the filters before and after a reload
	store   filters.Store
	clock   filters.Clock
	log     *slog.Logger
	domains []string
}

// memory is the exceptions as this process knows them.
type memory struct {
	first sync.Once             // the first look-up reads the store
	index atomic.Pointer[index] // nil: the store could not be read yet
	mu    sync.Mutex            // held while the store is read or changed
}

var (
	_ filters.Runner  = (*Filter)(nil)
	_ filters.Adopter = (*Filter)(nil)
)

// New makes the filter.
func New(_ Config, env filters.Env) (*Filter, error) {
	if env.Store == nil {
		return nil, errors.New("exceptions need a store")
	}
	return &Filter{memory: &memory{}, store: env.Store, clock: env.Clock, log: env.Log, domains: env.Domains}, nil
}

// Adopt implements [filters.Adopter].
func (f *Filter) Adopt(previous any) {
	if p, ok := previous.(*Filter); ok {
		f.memory = p.memory
	}
}

// errUnread is the observation's error while nobody knows the exceptions: no rule matches on them then.
var errUnread = errors.New("the exceptions could not be read from the store yet")

// current is the index, which it makes at the first call.
func (f *Filter) current(ctx context.Context) (*index, error) {
	if x := f.index.Load(); x != nil {
		return x, nil
	}
	f.first.Do(func() { f.refresh(ctx) })
	if x := f.index.Load(); x != nil {
		return x, nil
	}
	return nil, errUnread
}

// Connect looks the client's address up.
func (f *Filter) Connect(ctx context.Context, v filters.View) (*ClientFacts, error) {
	x, err := f.current(ctx)
	if err != nil {
		return nil, err
	}
	if e := x.client(v.Session.Client.IP, f.clock); e != nil {
		return &ClientFacts{Client: e.Action.state(), ClientWhy: e.why()}, nil
	}
	return noClient, nil
}

// Mail looks the sender up.
func (f *Filter) Mail(ctx context.Context, v filters.View) (*SenderFacts, error) {
	x, err := f.current(ctx)
	if err != nil {
		return nil, err
	}
	if e := x.address(Sender, v.Envelope.ReversePath, f.clock); e != nil {
		return &SenderFacts{Sender: e.Action.state(), SenderWhy: e.why()}, nil
	}
	return noSender, nil
}

// Rcpt looks the recipient up.
func (f *Filter) Rcpt(ctx context.Context, v filters.View) (*RecipientFacts, error) {
	x, err := f.current(ctx)
	if err != nil {
		return nil, err
	}
	if e := x.address(Recipient, v.Recipient.ForwardPath, f.clock); e != nil {
		return &RecipientFacts{Recipient: e.Action.state(), RecipientWhy: e.why()}, nil
	}
	return noRecipient, nil
}
