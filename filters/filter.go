package filters

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"time"
)

// Spec describes a filter to the rest of the house. Make one with [Define] and list it in filters/all.
type Spec struct {
	Name         string // the key under `filters:` and the first part of the names of its facts
	Several      bool   // there is a list under the key, of instances that have names: facts are called NAME.instance.fact
	Alias        string // of an instance: its name alone, by which rules may call its facts, too
	Summary      string // one line for `ls`-like overviews
	Observations []Observation

	newConfig func() any
	build     func(config any, env Env) (any, error)
}

// Observation is one stage at which a filter looks, and the facts that come of it.
type Observation struct {
	Stage  Stage
	Facts  reflect.Type // a struct; its fields carry the tag `fact:"name"`
	After  []string     // filters whose facts, as far as they will exist at this stage, are joined before it starts
	Inline bool         // it neither waits nor works hard: it runs on the session's own goroutine
	// Repeatable: nothing but its result tells that it was made; it may be given up in the middle and made again.
	Repeatable bool
	// Independent: what it tells of a recipient does not hang on what became of those before.
	Independent bool
	observe     func(ctx context.Context, filter any, v View) (facts any, err error)
}

// Observe calls the filter's method. The result is a pointer to a new struct of type o.Facts, or an error; never both.
func (o *Observation) Observe(ctx context.Context, filter any, v View) (any, error) {
	return o.observe(ctx, filter, v)
}

// Define describes a filter of type *F, configured by a C.
//
// C is a struct whose fields carry `yaml` tags and comments: they are the reference manual, units included. Scalars
// beyond Go's own implement encoding.TextUnmarshaler ([Duration], [Size], [Secret]). A *C with a method
// `Validate() error` is asked after decoding; it answers with [KeyErrors].
//
// build makes a filter from a valid configuration. It does no I/O: what must run beside the sessions belongs into
// [Runner]. A nil *F without an error means that there is nothing to do (no list configured): all facts stay absent.
func Define[C, F any](name, summary string, defaults func() C, build func(C, Env) (*F, error), look ...func() Look[F]) Spec {
	s := Spec{
		Name:      name,
		Summary:   summary,
		newConfig: func() any { c := defaults(); return &c },
		build: func(config any, env Env) (any, error) {
			f, err := build(*config.(*C), env)
			if f == nil || err != nil {
				return nil, err
			}
			return f, nil
		},
	}
	for _, l := range look {
		s.Observations = append(s.Observations, l().Observation)
	}
	return s
}

// Named is implemented by the configuration of one instance of a filter that is there [Spec.Several] times.
type Named interface {
	InstanceName() string
	// Follows names other instances that come before it in the list: its observations wait for theirs.
	Follows() []string
}

// Instance describes one instance, called NAME.name.
func (s *Spec) Instance(c Named) Spec {
	instance := *s
	instance.Name, instance.Alias, instance.Several = s.Name+"."+c.InstanceName(), c.InstanceName(), false
	instance.Observations = slices.Clone(s.Observations)
	for i := range instance.Observations {
		o := &instance.Observations[i]
		o.After = slices.Clone(o.After)
		for _, name := range c.Follows() {
			o.After = append(o.After, s.Name+"."+name)
		}
	}
	return instance
}

// Look is an [Observation] of a filter of type *F.
type Look[F any] struct{ Observation }

// On declares that the filter looks at stage by calling method, whose result's type T declares the facts.
func On[F, T any](stage Stage, method func(*F, context.Context, View) (*T, error), options ...Option) func() Look[F] {
	return func() Look[F] {
		o := Observation{
			Stage: stage,
			Facts: reflect.TypeFor[T](),
			observe: func(ctx context.Context, filter any, v View) (any, error) {
				facts, err := method(filter.(*F), ctx, v)
				if err != nil {
					return nil, err
				}
				if facts == nil {
					return nil, fmt.Errorf("filter returned neither facts nor an error")
				}
				return facts, nil
			},
		}
		for _, option := range options {
			option(&o)
		}
		return Look[F]{o}
	}
}

// Option refines an [Observation].
type Option func(*Observation)

// After makes an observation wait for the facts of other filters.
func After(names ...string) Option { return func(o *Observation) { o.After = names } }

// Inline marks an observation that neither waits nor works hard; it costs no goroutine.
func Inline() Option { return func(o *Observation) { o.Inline = true } }

// Repeatable marks an observation that leaves no trace but its result, and waits for nothing but the resolver and
// [Store.Peek]. It is tried on the session's own goroutine first (see [Attempt]): nearly always its answers are at hand,
// and then a goroutine would cost more than the look-ups.
func Repeatable() Option { return func(o *Observation) { o.Repeatable = true } }

// Independent marks an observation at [AtRcpt] for which it does not matter what became of other recipients: the backend
// is then asked about several of a client that pipelines at once. See also [Foreseer].
func Independent() Option { return func(o *Observation) { o.Independent = true } }

// NewConfig returns a pointer to a new configuration struct that holds the defaults.
func (s *Spec) NewConfig() any { return s.newConfig() }

// Build makes the filter from a configuration that came from NewConfig. It is nil when there is nothing to do.
func (s *Spec) Build(config any, env Env) (any, error) { return s.build(config, env) }

// Env is what a filter is handed instead of opening sockets and files itself. All of it is safe for concurrent use.
type Env struct {
	Hostname string   // our name: HELO to others, authserv-id
	Domains  []string // what we take mail for
	Resolver Resolver
	Store    Store
	Clock    Clock
	Dialer   Dialer
	Log      *slog.Logger
	// DeferOnError tells a filter that answers by halves rather than not at all that its errors shall defer mail
	// (on_error: defer): it is to fail then.
	DeferOnError bool

	// Drops tells of fields that do not reach the backend, such as forged Authentication-Results. Who shows the message
	// to others leaves them out. It is set by the policy.
	Drops func(*Field) bool
}

// Dialer opens connections to other programs, such as milters: network is "tcp" or "unix".
type Dialer interface {
	Dial(ctx context.Context, network, address string) (net.Conn, error)
}

// Clock tells the time. The demo and the tests move it.
type Clock interface{ Now() time.Time }

// SystemClock is the machine's clock.
type SystemClock struct{}

// Now returns time.Now().
func (SystemClock) Now() time.Time { return time.Now() }

// Runner is a filter with work beside the sessions, such as health checks. Run returns soon after ctx ends.
type Runner interface{ Run(ctx context.Context) }

// Adopter is a filter whose memory survives a reload: it takes over from the previous one of its name, which goes on
// serving older sessions at the same time. Adopt is called before the first observation.
type Adopter interface{ Adopt(previous any) }

// Pauser is a filter that wants the greeting held back. Its only observation is declared at [AtConnect], for the facts;
// it is never called: the facts come from Greeted.
type Pauser interface {
	// GreetPause returns for how long the greeting is held back, 0 for not at all. It may ask the store but not the
	// network.
	GreetPause(ctx context.Context, s *Session) time.Duration
	// Greeted tells how the pause went: whether the client talked before it was greeted, and how long it waited. The
	// result is a pointer to the observation's facts.
	Greeted(talked bool, waited time.Duration) (facts any)
}

// Foreseer is a filter whose observation at [AtRcpt] hangs on what became of earlier recipients, but seldom: as long as it
// foresees what it will tell, several recipients are under way at once.
type Foreseer interface {
	// Foresees tells whether it will tell the same of whatever recipient comes next in this transaction, however the
	// recipient of the view and others before it, n in all, are answered. It must not wait.
	Foresees(v View, n int) bool
}

// Witness is a filter that wants to know how things ended. Calls come from the session's goroutine; they must not
// wait, and the Outcome is good until they return.
type Witness interface{ Concluded(o *Outcome) }

// Outcome tells a [Witness] how a connection, a recipient or a message ended.
type Outcome struct {
	Kind OutcomeKind
	View View
	// Code is the reply code that the client was given.
	Code int
	// Enhanced is that of the reply, such as "5.1.1" (RFC 3463); empty if it has none.
	Enhanced string
	// Ours tells that the reply was our decision and not the backend's.
	Ours bool
	// Reasons are the facts that the rule reads by which it is Ours, by their names; they must not be changed.
	Reasons []string
	// Excused tells of a MessageOutcome that a rule would have refused or taken away what came through, but for a bypass or
	// because it only observes: how it ended says nothing good about its sender.
	Excused bool
	// Size is the message's size in bytes for MessageOutcome.
	Size int64
	// GivenUp tells of a MessageOutcome without a reply that the client ended the transaction, by RSET or by leaving, of
	// which nothing had been refused or deferred.
	GivenUp bool
}

// OutcomeKind says what an [Outcome] is about.
type OutcomeKind uint8

const (
	RecipientOutcome OutcomeKind = iota // one RCPT was answered
	MessageOutcome                      // the end of data was answered, or MAIL's transaction ended before it
	SessionOutcome                      // the connection is closed
)

// Greylister is the filter behind the action `greylist`. Its facts tell what is known; Attempt writes.
type Greylister interface {
	// Attempt records that this transaction was told to come back and returns what is now true of it: a sender whose
	// delay is over, or who is known, need not wait.
	Attempt(ctx context.Context, v View) (GreylistAttempt, error)
}

// GreylistAttempt is what an attempt came to, this attempt included.
type GreylistAttempt struct {
	State GreylistState
	First time.Time // the sender's first attempt; zero where an operator let it pass
}

// GreylistState is where a sender stands.
type GreylistState string

const (
	GreylistNew    GreylistState = "new"    // never seen, or too long ago
	GreylistEarly  GreylistState = "early"  // seen, but the delay is not over
	GreylistPassed GreylistState = "passed" // came back in time, now or before
)
