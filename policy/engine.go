package policy

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"gatepost/filters"
	"gatepost/rules"
)

// Engine is compiled policy: filters and rules. Immutable, safe for concurrent use.
type Engine struct {
	hostname string
	contact  string
	trusted  []netip.Prefix
	domains  domainSet
	noRoutes bool
	log      *slog.Logger

	schema *rules.Schema
	blank  rules.Facts // what a connection begins with
	set    *rules.Set
	rules  []plannedRule // in order of evaluation
	first  [len(filters.Stages) + 1]int

	instances    map[string]any // by name; only those that are on and have something to do
	witnesses    []filters.Witness
	observations []*observation // those that may run, in order of start; an observation's slot is its place
	byStage      [len(filters.Stages)][]*observation
	slotOf       []int // by group, -1 where no observation runs
	lasting      int   // how many of them, at the head, outlast a transaction
	maxRunning   int   // goroutines of one gate
	groups       int   // of facts that can be known of one message

	pauser      filters.Pauser // nil when there is none
	pauserGroup int
	pauses      bool // an enforced rule reads the pauser's facts

	ledgerReaders []filters.LedgerReader // that a rule reads

	greylister filters.Greylister // nil when there is none
	askBackend bool               // a recipient to be greylisted is offered to the backend first
	greyReads  []int              // slots that are joined before the greylister is asked

	independent bool               // what becomes of one recipient does not decide what is said of the next
	foreseers   []filters.Foreseer // unless one of these says so
	splits      bool               // a rule behind RCPT can tell recipients apart
	reportsAuth bool               // an observation that runs reports to Authentication-Results
	editors     []int              // slots of those that may change the message

	settings Settings

	removeAllResults bool // inbound Authentication-Results go whoever they are from
}

// observation is a filter's observation in its place.
type observation struct {
	spec         *filters.Observation
	filter       string
	alias        string // rules may call its facts so, too; or empty
	instance     any
	stage        filters.Stage
	level        level
	group        int
	slot         int
	after        []int // slots
	inline       bool
	repeatable   bool
	awaited      bool // another observation waits for it
	timeout      time.Duration
	deferOnError bool
	firstReader  int  // place of the first rule that needs it; beyond all rules if none does
	reports      bool // Authentication-Results needs it
	edits        bool // it may change the message
	inbound      bool // not made where users hand in their mail
}

// plannedRule is a rule with what the gate has to know beyond it.
type plannedRule struct {
	*rules.Rule
	place int   // in the order of evaluation
	scope level // for how long what it reads stays true; those of recipientLevel can tell recipients apart
	waits []int // slots of what it reads
	shows []int // slots of what only its reply or its header shows

	deferring []int // slots of all that decides it, if mail waits for some of that when it failed

	personal string // a fact by which it may tell local parts apart, or empty
	inbound  bool   // has no say where users hand in their mail
}

// level is how long something lives. Levels are ordered: a later one is contained in the earlier ones.
type level uint8

const (
	connectionLevel level = iota
	greetingLevel
	transactionLevel
	recipientLevel
	levels
)

func levelOf(stage filters.Stage) level {
	switch stage {
	case filters.AtConnect:
		return connectionLevel
	case filters.AtHelo:
		return greetingLevel
	case filters.AtRcpt:
		return recipientLevel
	default:
		return transactionLevel
	}
}

// Run runs what filters do beside the sessions; it returns when ctx has ended and all of it has stopped. A filter that
// panics there loses this work until the next reload, which is logged; sessions go on.
func (e *Engine) Run(ctx context.Context) {
	var running sync.WaitGroup
	for name, instance := range e.instances {
		runner, ok := instance.(filters.Runner)
		if !ok {
			continue
		}
		running.Go(func() {
			defer func() {
				if v := recover(); v != nil {
					e.log.Error("filter's background work panicked", "filter", name, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
				}
			}()
			runner.Run(ctx)
		})
	}
	<-ctx.Done()
	running.Wait()
}

// Adopt takes over the memory of the previous engine's filters. Call it before the first NewGate.
func (e *Engine) Adopt(previous *Engine) {
	for name, instance := range e.instances {
		adopter, ok := instance.(filters.Adopter)
		if old := previous.instances[name]; ok && old != nil {
			adopter.Adopt(old)
		}
	}
}

// Settings tells whether filters with a memory are configured as those were that made a recording.
func (e *Engine) Settings() Settings { return e.settings }

// Schema returns all facts there are, also those of filters that are off.
func (e *Engine) Schema() *rules.Schema { return e.schema }

// Rules returns the compiled rules.
func (e *Engine) Rules() *rules.Set { return e.set }

// newFacts returns facts of which nothing is known yet, but that those of filters that do not run are absent for good.
func (e *Engine) newFacts() rules.Facts {
	f := *e.schema.NewFacts()
	for group := builtinGroups; group < len(e.slotOf); group++ {
		if e.slotOf[group] < 0 {
			f.Fail(group)
		}
	}
	return f
}

// Filter returns the instance of that name, or nil: there is none, it is off, or it has nothing to do.
func (e *Engine) Filter(name string) any { return e.instances[name] }

// Trusts tells whether an address is in one of the trusted networks; the front end asks for Session.Trusted.
func (e *Engine) Trusts(client netip.Addr) bool {
	client = client.Unmap()
	for _, network := range e.trusted {
		if network.Contains(client) {
			return true
		}
	}
	return false
}

// Runtime is what gates share beside the engine. Recorder and Bypass may be nil; a nil Clock is the machine's.
type Runtime struct {
	Recorder Recorder
	Bypass   *Bypass
	Clock    filters.Clock
}

func (r *Runtime) now() time.Time {
	if r.Clock == nil {
		return time.Now()
	}
	return r.Clock.Now()
}
