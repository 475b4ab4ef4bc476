// Package config reads Gatepost's configuration file: it puts the file's keys over the defaults, checks all that can
// be checked without the network, and says everything that is wrong at once, each mistake with its place.
//
// The sections belong to the packages that use them: each declares a struct with `yaml` tags, whose comments are the
// manual (docs/configuration.md is made from them), and a Validate method.
package config

import (
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/proxy"
	"gatepost/proxy/admin"
	"gatepost/proxy/backend"
	"gatepost/proxy/journal"
	"gatepost/proxy/milter"
	"gatepost/proxy/policyserver"
	"gatepost/proxy/quarantine"
	"gatepost/proxy/resolver"
	"gatepost/proxy/store"
	"gatepost/proxy/telemetry"
	"gatepost/rules"
)

// Config is the configuration in force: the file's keys over the defaults.
type Config struct {
	// The name of this mail exchanger: in the greeting, towards the backend and as the authserv-id of
	// Authentication-Results. Default: the machine's name.
	Hostname string `yaml:"hostname"`
	// What mail is taken for: domains, or ".example.org" for everything below one. Recipients elsewhere are refused with
	// 550 5.7.1 unless the client is trusted. Empty: the backend alone decides, which Gatepost puts to the test before it
	// answers the first RCPT.
	Domains []string `yaml:"domains"`
	// Networks whose clients pass all rules: own relays, backup mail exchangers, monitors.
	Trusted []netip.Prefix `yaml:"trusted"`
	// Where a refused sender finds help; a URL or an address that is added to our own replies.
	Contact string `yaml:"contact"`
	// Where clients are served. Without this key: port 25, or nowhere if MTAs are (milter, policy_server).
	Listen []proxy.Listen `yaml:"listen"`
	// Where MTAs call Gatepost as a milter, beside or instead of `listen`.
	Milter []milter.Listen `yaml:"milter"`
	// Where Postfix asks Gatepost as a policy server (check_policy_service), beside or instead of `listen`.
	PolicyServer []policyserver.Listen `yaml:"policy_server"`
	// The mail server behind Gatepost. `backend: host:port` is enough, and nothing is needed if there is only a milter or a
	// policy server.
	Backend backend.Config `yaml:"backend"`
	// How the DNS is asked.
	Resolver resolver.Config `yaml:"resolver"`
	// What is remembered: greylisting, known clients.
	Store store.Config `yaml:"store"`
	// What was decided and why, for `gatepost why`.
	Journal journal.Config `yaml:"journal"`
	// Messages that rules keep instead of delivering them, for `gatepost quarantine`.
	Quarantine quarantine.Config `yaml:"quarantine"`
	// Bounds on what one client, and all of them, may use.
	Limits proxy.Limits `yaml:"limits"`
	// What is done with bare CR, bare LF and NUL in messages: normalize or strict.
	LineEndings proxy.LineEndings `yaml:"line_endings" values:"normalize strict"`
	// What is done with a message that was delivered before: deliver, or suppress. With suppress it is answered 250 and
	// thrown away if it comes from the same network (IPv4 /24, IPv6 /64) or SPF domain, with the same envelope and the same
	// bytes, within 48 hours of a delivery whose client left without a sign that it had read the reply.
	Duplicates proxy.Duplicates `yaml:"duplicates" values:"deliver suppress"`
	// What happens to Authentication-Results fields that are in a message already. Our own is always added on top.
	AuthenticationResults policy.AuthenticationResults `yaml:"authentication_results"`
	// The log on standard error.
	Log telemetry.Config `yaml:"log"`
	// Metrics, health and the admin pages, over HTTP. `admin: off` does without.
	Admin admin.Config `yaml:"admin"`
	// The user to become, by name or number, when Gatepost is started as root: low ports are bound first, and there is no way
	// back. With root Gatepost stays root. Empty: it stays who it was started as, and says so if that is root. Everything that is
	// read at run time, keys of certificates too, must be readable for this user.
	User string `yaml:"user"`
	// The group to be in instead of the one that the user database names for the user. Other groups of the user stay.
	Group string `yaml:"group"`
	// Confine the running process to the files and folders that this configuration names, and its outgoing TCP connections to
	// the ports named (Linux with Landlock). A change that needs more takes a restart. off does without.
	Confine bool `yaml:"confine"`
	// The folder that relative names of list files in rules mean. Default: the folder "lists" beside this file.
	Lists string `yaml:"lists"`

	// Filters is every filter's configuration by name.
	Filters map[string]policy.FilterConfig `yaml:"-"`
	// Rules is the list under `rules:`, or the rules that come with Gatepost.
	Rules []rules.Definition `yaml:"-"`

	doc *document
}

// Default is the configuration of an empty file.
func Default(specs []filters.Spec) *Config {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "localhost"
	}
	return &Config{
		Hostname: hostname,
		Listen:   proxy.DefaultListen(),
		Backend:  backend.Default(),
		Resolver: resolver.Defaults(),
		Store:    store.Defaults(),
		Journal:  journal.Defaults(),
		Limits:   proxy.DefaultLimits(),
		Log:      telemetry.Default(),
		Admin:    admin.Default(),

		Quarantine: quarantine.Defaults(),

		AuthenticationResults: policy.DefaultAuthenticationResults(),
		Confine:               true,

		Filters: defaultFilters(specs),
	}
}

// Load reads a file. The configuration is nil when a problem is more than a warning.
func Load(path string, specs []filters.Spec) (*Config, Problems) {
	c, problems := read(path, specs)
	if problems.Failed() {
		return nil, problems
	}
	return c, problems
}

// Parse reads a file's content. path names it in messages; relative file names in it are meant from its folder.
func Parse(path string, text []byte, specs []filters.Spec) (*Config, Problems) {
	c := parseConfig(path, text, specs)
	if c.doc.problems.Failed() {
		return nil, c.doc.problems
	}
	return c, c.doc.problems
}

// Check reads a file and compiles it. It is for who wants to know all that is wrong at once: the rules are looked at
// even if other sections cannot be used. Configuration and engine are nil when a problem is more than a warning.
func Check(path string, specs []filters.Spec, env filters.Env) (*Config, *policy.Engine, Problems) {
	c, problems := read(path, specs)
	if c == nil || c.doc.isBroken("") {
		return nil, nil, problems
	}
	env.Hostname, env.Domains = c.Hostname, c.Domains
	engine, more := c.withoutBrokenFilters().Compile(specs, env)
	for _, p := range more {
		if p.Warning || !problems.at(p.Pos) { // what a section says of itself need not be said by its user too
			problems = append(problems, p)
		}
	}
	problems.sort()
	if problems.Failed() {
		return nil, nil, problems
	}
	return c, engine, problems
}

// Store reads only the section `store:`. Commands find the running proxy by it, also when the rest of the file has been
// broken since: then the problems are those of the whole file, and the section is good enough to try.
func Store(path string, specs []filters.Spec) (store.Config, Problems) {
	c, problems := read(path, specs)
	if c == nil {
		return store.Config{}, problems
	}
	return c.Store, problems
}

// Journal reads only the section `journal:`, for commands that search it, as Store does.
func Journal(path string, specs []filters.Spec) (journal.Config, Problems) {
	c, problems := read(path, specs)
	if c == nil {
		return journal.Config{}, problems
	}
	return c.Journal, problems
}

// Instances puts the instances that a configuration names, however broken the rest of it is, in the place of each filter
// that can be there several times.
func Instances(path string, specs []filters.Spec) []filters.Spec {
	if c, _ := read(path, specs); c != nil {
		return policy.Instances(specs, c.Filters)
	}
	return policy.Instances(specs, nil)
}

// ListsFolder is the folder of list files that a configuration names, however broken the rest of it is.
func ListsFolder(path string, specs []filters.Spec) string {
	if c, _ := read(path, specs); c != nil {
		return c.Lists
	}
	return ""
}

// read is nil if the file cannot be read, and what could be made of it otherwise.
func read(path string, specs []filters.Spec) (*Config, Problems) {
	text, err := readFile(path)
	if err != nil {
		return nil, Problems{{Problem: rules.Problem{Message: err.Error()}}}
	}
	c := parseConfig(path, text, specs)
	return c, c.doc.problems
}

func parseConfig(path string, text []byte, specs []filters.Spec) *Config {
	d := parse(path, text)
	c := Default(specs)
	c.doc, d.specs = d, specs
	c.Lists = "lists"
	if d.root != nil {
		d.decodeTop(c)
	}
	if c.Rules == nil {
		defaults, problems := DefaultRules()
		c.Rules = defaults
		d.problems = append(d.problems, problems...)
	}
	if _, said := d.places["listen"]; !said && c.called() {
		c.Listen = nil
	}
	c.resolvePaths(filepath.Dir(path))
	d.check(c)
	d.problems.sort()
	return c
}

// resolvePaths makes file names absolute: commands that share a configuration need not share a working directory.
func (c *Config) resolvePaths(folder string) {
	if absolute, err := filepath.Abs(folder); err == nil {
		folder = absolute
	}
	switch {
	case c.Journal.Path != "":
	case c.Store.Path == store.Defaults().Path:
		c.Journal.Path = journal.DefaultPath
	default: // a second proxy on the machine has a store of its own, and must not write the first one's journal
		c.Journal.Path = c.Store.Path + "-journal"
	}
	if c.Quarantine.Path == "" {
		c.Quarantine.Path = filepath.Join(c.Store.Path, quarantine.Folder)
	}
	names := []*string{&c.Lists, &c.Store.Path, &c.Quarantine.Path, &c.Backend.CA, &c.Admin.Certificate, &c.Admin.Key}
	if c.Journal.Path != journal.Off {
		names = append(names, &c.Journal.Path)
	}
	names = append(names, c.Store.Redis.Files()...)
	for i := range c.Listen {
		names = append(names, &c.Listen[i].Certificate, &c.Listen[i].Key)
	}
	for _, name := range names {
		if credential, ok := strings.CutPrefix(*name, fromCredential); ok && validCredential(credential) {
			*name, _ = credentialFile(credential)
		}
		if *name != "" && !filepath.IsAbs(*name) {
			*name = filepath.Join(folder, *name)
		}
	}
}

// withoutBrokenFilters is c with the defaults of those filters whose configuration is wrong: they cannot be built.
func (c *Config) withoutBrokenFilters() *Config {
	usable := *c
	usable.Filters = maps.Clone(c.Filters)
	for name := range c.doc.brokenFilters {
		if broken := c.Filters[name]; strings.Contains(name, ".") { // its settings hold the name that rules know
			broken.Common.Enabled = false
			usable.Filters[name] = broken
			continue
		}
		usable.Filters[name] = policy.FilterConfig{Common: c.Filters[name].Common}
	}
	return &usable
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// decodeTop reads the top level. The sections `filters:` and `rules:` have their own ways.
func (d *document) decodeTop(c *Config) {
	pairs, ok := mapping(d.root)
	if !ok {
		d.undecoded(d.root, "", "a configuration is a mapping; the least one is `domains:` and `backend:`")
		return
	}
	v := reflect.ValueOf(c).Elem()
	known := append(keysOf(v.Type()), "filters", "rules")
	seen := map[string]rules.Pos{}
	for _, pair := range pairs {
		key, at := pair.Key.GetToken().Value, d.pos(pair.Key.GetToken())
		if first, again := seen[key]; again {
			d.problem(at, "%s is already set in line %d", key, first.Line)
			continue
		}
		seen[key] = at
		switch field, ok := fieldOf([]reflect.Value{v}, key); {
		case ok:
			d.decode(pair.Value, field, key)
		case key == "filters":
			d.decodeFilters(pair.Value, c.Filters)
		case key == "rules":
			c.Rules = d.decodeRules(pair.Value)
		default:
			d.problem(at, "unknown key %q%s", key, didYouMean(key, known))
		}
	}
}

// called tells whether MTAs call.
func (c *Config) called() bool { return len(c.Milter)+len(c.PolicyServer) > 0 }

// review says what the front ends cannot do as the rules want it.
func (c *Config) review(engine *policy.Engine) (problems []rules.Problem) {
	if len(c.Milter) > 0 {
		problems = milter.Review(engine)
	}
	if len(c.PolicyServer) > 0 {
		problems = append(problems, policyserver.Review(engine)...)
	}
	return problems
}

// Policy is what the engine is compiled from.
func (c *Config) Policy() policy.Config {
	return policy.Config{Hostname: c.Hostname, Contact: c.Contact, Domains: c.Domains, Trusted: c.Trusted, Filters: c.Filters, Rules: c.Rules,
		RefuseRoutes: c.Backend.ClientAddress == backend.NoAddress, AuthenticationResults: c.AuthenticationResults}
}

// Compile builds the engine. The engine is nil when a problem is more than a warning.
func (c *Config) Compile(specs []filters.Spec, env filters.Env) (*policy.Engine, Problems) {
	lists := Lists{Folder: c.Lists}
	engine, found := policy.Compile(c.Policy(), specs, env, lists)
	if engine != nil {
		for _, p := range c.review(engine) {
			found = append(found, policy.Problem{Problem: p})
		}
	}
	d := &document{file: c.doc.file, lines: c.doc.lines, places: c.doc.places}
	for _, p := range found {
		switch {
		case p.Warning && p.Pos.File == DefaultRulesFile:
			continue // that the list files of the default rules are missing is how everybody starts
		case p.Key != "" && p.Pos.File == "":
			p.Pos = d.place(p.Key)
			p.Message = p.Key + ": " + p.Message
			d.add(p.Problem)
		case p.Pos.File == d.file || p.Pos.File == DefaultRulesFile:
			d.add(p.Problem)
		default:
			d.problems = append(d.problems, lists.problem(p.Problem))
		}
	}
	d.problems.sort()
	if d.problems.Failed() {
		return nil, d.problems
	}
	return engine, d.problems
}
