package policy

import (
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"gatepost/filters"
	"gatepost/rules"
)

// Config is what an Engine is compiled from.
type Config struct {
	Hostname string
	Contact  string                  // where a refused sender finds help; added to our replies
	Domains  []string                // what we take mail for; empty: the backend alone decides
	Trusted  []netip.Prefix          // clients that pass all rules
	Filters  map[string]FilterConfig // by name; missing: the filter's defaults. Instances are "milter.rspamd"
	Rules    []rules.Definition

	// RefuseRoutes: the backend takes every client for its own, and so would follow a strangers' route to elsewhere
	// before the @ of one of our domains, as in user%example.net@example.org.
	RefuseRoutes bool

	AuthenticationResults AuthenticationResults // zero: as by default
}

// FilterConfig is one filter's configuration.
type FilterConfig struct {
	Common   Common
	Settings any // what filters.Spec.NewConfig returned, filled in; nil for the filter's defaults
	Place    int // of an instance in the list of its filter
}

// Common are the keys that every filter has.
type Common struct {
	Enabled bool             `yaml:"enabled"`
	Timeout filters.Duration `yaml:"timeout"`                      // for one observation; 0 stands for 10 s
	OnError string           `yaml:"on_error" values:"pass defer"` // pass or defer
}

const (
	defaultTimeout = 10 * time.Second
	maxContact     = 200 // bytes; the id and a sentence must fit beside it on a reply line
)

// Problem is a mistake in the configuration. Either Pos is known (a rule), or Key names the place ("filters.dnsbl.zones[0].codes").
type Problem struct {
	rules.Problem
	Key string
}

// Compile builds an engine, or says everything that is wrong. It does no I/O but reading lists. With a problem that is
// no warning the engine is nil.
func Compile(c Config, specs []filters.Spec, env filters.Env, lists rules.Lists) (*Engine, []Problem) {
	k := &compiler{
		config: c,
		specs:  Instances(specs, c.Filters),
		engine: &Engine{
			hostname:  c.Hostname,
			contact:   c.Contact,
			trusted:   c.Trusted,
			domains:   domainSet{},
			noRoutes:  c.RefuseRoutes,
			log:       env.Log,
			instances: map[string]any{},

			removeAllResults: c.AuthenticationResults.Remove == RemoveAll,
		},
	}
	if k.engine.log == nil {
		k.engine.log = slog.New(slog.DiscardHandler)
	}
	env.Drops = k.engine.drops
	k.site()
	k.build(attemptable(env))
	if k.schema() {
		k.compileRules(lists)
	}
	if k.failed {
		return nil, k.problems
	}
	k.planRules()
	k.planObservations()
	if k.failed {
		return nil, k.problems
	}
	k.planIndependence()
	return k.engine, k.problems
}

type compiler struct {
	config   Config
	specs    []filters.Spec
	engine   *Engine
	groups   []rules.Group
	declared []*observation // one per group of a filter, also of filters that are off
	problems []Problem
	failed   bool
}

func (k *compiler) problem(key, format string, args ...any) {
	k.failed = true
	k.problems = append(k.problems, Problem{Key: key, Problem: rules.Problem{Message: fmt.Sprintf(format, args...)}})
}

func (k *compiler) site() {
	if len(k.config.Contact) > maxContact || !isASCII(k.config.Contact) || strings.ContainsFunc(k.config.Contact, isControl) {
		k.problem("contact", "must be at most %d printable ASCII characters: it is part of SMTP replies", maxContact)
	}
	for i, domain := range k.config.Domains {
		if err := k.engine.domains.add(domain); err != nil {
			k.problem(fmt.Sprintf("domains[%d]", i), "%q is not a domain: %v", domain, err)
		}
	}
}

// build makes the filters that are on.
func (k *compiler) build(env filters.Env) {
	known := map[string]bool{}
	for i := range k.specs {
		spec := &k.specs[i]
		known[spec.Name] = true
		if k.isTaken(spec.Alias) {
			k.problem("filters."+spec.Name, "there are facts called %s.… already: rules could not tell them apart; take another name", spec.Alias)
		}
		config, ok := k.config.Filters[spec.Name]
		if !ok {
			config.Common.Enabled = true
		}
		instance := k.instance(spec, config, env)
		k.declare(spec, config.Common, instance)
		if instance == nil {
			continue
		}
		k.engine.instances[spec.Name] = instance
		if witness, ok := instance.(filters.Witness); ok {
			k.engine.witnesses = append(k.engine.witnesses, witness)
		}
		if pauser, ok := instance.(filters.Pauser); ok {
			k.engine.pauser = pauser
		}
	}
	for _, name := range slices.Sorted(maps.Keys(k.config.Filters)) {
		if !known[name] {
			k.problem("filters."+name, "there is no such filter")
		}
	}
	k.greylister()
}

// isTaken tells whether a name that rules may use for an instance means something else.
func (k *compiler) isTaken(alias string) bool {
	return alias != "" && (slices.ContainsFunc(builtins(), func(g rules.Group) bool { return g.Name == alias }) ||
		slices.ContainsFunc(k.specs, func(s filters.Spec) bool {
			first, _, _ := strings.Cut(s.Name, ".")
			return first == alias
		}))
}

func (k *compiler) instance(spec *filters.Spec, config FilterConfig, env filters.Env) any {
	key := "filters." + spec.Name
	if config.Common.OnError != "" && config.Common.OnError != "pass" && config.Common.OnError != "defer" {
		k.problem(key+".on_error", "must be pass or defer, not %q", config.Common.OnError)
	}
	if !config.Common.Enabled {
		return nil
	}
	if config.Settings == nil {
		config.Settings = spec.NewConfig()
	}
	env.Log = k.engine.log.With("filter", spec.Name)
	env.DeferOnError = config.Common.OnError == "defer"
	switch spec.Name {
	case "greylist":
		k.engine.settings.Greylist = digest(config.Settings)
	case "ratelimit":
		k.engine.settings.RateLimit = digest(config.Settings)
	}
	instance, err := spec.Build(config.Settings, env)
	var list filters.KeyErrors
	var single *filters.KeyError
	switch {
	case errors.As(err, &list):
		for _, e := range list {
			k.problem(key+"."+e.Key, "%v", e.Err)
		}
	case errors.As(err, &single):
		k.problem(key+"."+single.Key, "%v", single.Err)
	case err != nil:
		k.problem(key, "%v", err)
	}
	return instance
}

// digest of plain settings. Of two configurations that mean the same and are written in two ways the digests may differ.
func digest(settings any) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%#v", reflect.Indirect(reflect.ValueOf(settings)))
	return h.Sum64()
}

// declare adds the filter's groups to the schema, also those of a filter that is off: rules may speak of them, they are
// just absent.
func (k *compiler) declare(spec *filters.Spec, common Common, instance any) {
	timeout := time.Duration(common.Timeout)
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	for i := range spec.Observations {
		o := &spec.Observations[i]
		k.declared = append(k.declared, &observation{
			spec:         o,
			filter:       spec.Name,
			alias:        spec.Alias,
			instance:     instance,
			stage:        o.Stage,
			level:        levelOf(o.Stage),
			group:        builtinGroups + len(k.declared),
			slot:         -1,
			inline:       o.Inline,
			repeatable:   o.Repeatable,
			timeout:      timeout,
			deferOnError: common.OnError == "defer",
			edits:        canEdit(o, instance),
			reports:      reflect.PointerTo(o.Facts).Implements(reflect.TypeFor[filters.AuthReporter]()),
		})
	}
}

// greylister finds the filter behind the action `greylist`.
func (k *compiler) greylister() {
	k.engine.askBackend = true
	k.engine.greylister, _ = k.engine.instances["greylist"].(filters.Greylister)
	if choice, ok := k.engine.greylister.(interface{ AskBackend() bool }); ok {
		k.engine.askBackend = choice.AskBackend()
	}
}

func (k *compiler) schema() bool {
	k.groups = builtins()
	for _, o := range k.declared {
		k.groups = append(k.groups, rules.Group{Name: o.filter, Alias: o.alias, Type: o.spec.Facts, Stage: int(o.stage)})
	}
	schema, err := rules.NewSchema(filters.Stages[:], int(filters.AtRcpt), k.groups)
	if err != nil {
		k.problem("filters", "%v", err)
		return false
	}
	k.engine.schema = schema
	return true
}

func (k *compiler) compileRules(lists rules.Lists) {
	set, problems := rules.Compile(k.engine.schema, k.config.Rules, lists)
	for _, p := range problems {
		k.failed = k.failed || !p.Warning
		k.problems = append(k.problems, Problem{Problem: p})
	}
	if set == nil {
		k.failed = true
		return
	}
	k.engine.set = set
	for _, r := range set.Rules() {
		if r.Action != rules.Greylist {
			continue
		}
		if r.Stage < int(filters.AtRcpt) {
			k.failed = true
			k.problems = append(k.problems, Problem{Problem: rules.Problem{Pos: r.Pos, Message: "greylist acts at rcpt at the earliest: it needs the envelope"}})
		}
		if k.engine.greylister == nil {
			k.problems = append(k.problems, Problem{Problem: rules.Problem{Pos: r.Pos, Warning: true,
				Message: "the filter greylist is off: this rule lets pass what it would greylist"}})
		}
	}
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }
